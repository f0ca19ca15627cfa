-- Leases up to n messages of several queues, in turns. First, in each queue: messages that are due become ready, and
-- messages whose lease expired become ready again (or are buried; or deleted when they were cancelled).
-- KEYS   the queues
-- ARGV   1: n  2: the lease's token  3: length of the lease in ms  4: position in the cycle, from 0
--        5: the cycle (round_robin.py)  6: idle poll in ms: without a wakeup, an idle consumer fetches again then
-- Returns now in ms, when to fetch again in ms (nil: nothing is known to become due), the new position in the cycle,
--        then per message: index of its queue from 1, id, deliveries, record
-- uses: base clock record moves
local us = clock()
local now = math.floor(us / 1000)
local room, token, lease_end = math.min(tonumber(ARGV[1]), BATCH), ARGV[2], now + tonumber(ARGV[3])
local position, cycle, idle_poll_at = tonumber(ARGV[4]), ARGV[5], now + tonumber(ARGV[6])
local again_at = false
local queues, available, taken = {}, {}, {}

local function fetch_again_at(ms)
  if ms and (not again_at or ms < again_at) then again_at = ms end
end

local function lowest_score(key)
  return tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
end

local function make_due_ready(q)
  local ids = call('ZRANGEBYSCORE', q.scheduled, '-inf', now, 'LIMIT', 0, BATCH)
  if #ids == 0 then return end
  local records, scored = call('HMGET', q.messages, unpack(ids)), {}
  for index, id in ipairs(ids) do
    scored[#scored + 1] = struct.unpack('>d', records[index])
    scored[#scored + 1] = id
  end
  call('ZADD', q.ready, unpack(scored))
  call('ZREM', q.scheduled, unpack(ids))
end

local function reclaim_expired(q)
  local ids = call('ZRANGEBYSCORE', q.leased, '-inf', now, 'LIMIT', 0, BATCH)
  for _, id in ipairs(ids) do
    local deliveries, flags, score = unpack_delivery(call('HGET', q.deliveries, id))
    local m = load(q, id)
    lose_attempt(q, m, 'lease')
    if settle_if_decided(q, m, now) then -- nothing is left to do
    elseif deliveries >= max_deliveries(q, m) then
      bury(q, m, deliveries, 'poison', 'its lease expired at delivery ' .. deliveries, now)
    else
      call('ZREM', q.leased, id)
      call('HSET', q.deliveries, id, pack_delivery(deliveries, flags, score, ''))
      call('ZADD', q.ready, score, id)
    end
  end
  count(q, 'expired', #ids)
end

-- How many messages the limits of the queue let it deliver now. Keeps the limits that are needed later in
-- `queues[index]`.
local function allowance(q, index)
  local paused, in_flight, interval, burst, tat, expires =
    unpack(call('HMGET', q.limits, 'paused', 'max_in_flight', 'interval', 'burst', 'tat', 'expires'))
  local limits = queues[index]
  limits.expires = expires
  limits.interval, limits.tat, limits.burst = tonumber(interval), tonumber(tat or 0), tonumber(burst)
  local allowed = math.huge
  if in_flight then allowed = tonumber(in_flight) - call('ZCARD', q.leased) end
  if interval then
    local spare = us + tonumber(burst) * interval - math.max(limits.tat, us)
    allowed = math.min(allowed, math.floor(spare / interval))
  end
  if paused == '1' then limits.interval, allowed = nil, 0 end
  return math.max(allowed, 0)
end

local function lease(q, queue, ids)
  local records, past = call('HMGET', q.messages, unpack(ids)), call('HMGET', q.deliveries, unpack(ids))
  local leased, values, items = {}, {}, {}
  for index, id in ipairs(ids) do
    local record = records[index]
    local score, flags = struct.unpack('>dB', record)
    local deliveries = 1 + (past[index] and unpack_delivery(past[index]) or 0)
    leased[#leased + 1], leased[#leased + 2] = lease_end, id
    values[#values + 1], values[#values + 2] = id, pack_delivery(deliveries, flags, score, token)
    if bit.band(flags, HAS_UNIQUE) ~= 0 then
      local m = parse(id, record, RECORD)
      if m.mode == UNIQUE_UNTIL_START then release_unique(q, m) end
    end
    items[index] = { queue, id, deliveries, record }
  end
  call('ZADD', q.leased, unpack(leased))
  call('HSET', q.deliveries, unpack(values))
  count(q, 'delivered', #ids)
  return items
end

-- Takes turns between the queues while there is room and work. Returns the index of the queue of each turn.
local function take_turns()
  local order, left, queues_with_work = {}, 0, 0
  for queue = 1, #KEYS do
    left = left + available[queue]
    if available[queue] > 0 then queues_with_work = queues_with_work + 1 end
  end
  local function take(queue)
    available[queue], left, taken[queue] = available[queue] - 1, left - 1, taken[queue] + 1
    order[#order + 1] = queue
  end
  if queues_with_work == 1 then -- no queue to share with: the position in the cycle stays
    for queue = 1, #KEYS do
      while room > #order and available[queue] > 0 do take(queue) end
    end
  end
  while queues_with_work > 1 and room > #order and left > 0 do
    local queue = string.byte(cycle, position + 1)
    position = (position + 1) % #cycle
    if available[queue] > 0 then take(queue) end
  end
  return order
end

-- Wakes the next consumer if more messages can be fetched now, or become due before it would fetch unasked.
local function wake_next(q, queue)
  local limits, waiting, due = queues[queue], call('ZCARD', q.ready), lowest_score(q.scheduled)
  if waiting > 0 and available[queue] > 0 then
    again_at = now
    wake_consumer(q)
  elseif due and due <= idle_poll_at and taken[queue] > 0 then wake_consumer(q)
  else call('DEL', q.wakeup) end
  fetch_again_at(due)
  fetch_again_at(lowest_score(q.leased))
  if waiting > 0 and limits.interval then
    local token_at = limits.tat - (limits.burst - 1) * limits.interval
    if token_at > us then fetch_again_at(math.ceil(token_at / 1000)) end
  end
  if limits.expires then set_expiry(q, limits.expires) end
end

for queue = 1, #KEYS do
  local q = names(KEYS[queue])
  queues[queue], taken[queue] = { keys = q }, 0
  make_due_ready(q)
  reclaim_expired(q)
  local allowed = allowance(q, queue)
  available[queue] = math.min(allowed, call('ZCARD', q.ready))
end

local order, items = take_turns(), {}
for queue = 1, #KEYS do
  local limits = queues[queue]
  local q = limits.keys
  if taken[queue] > 0 then
    local popped, ids = call('ZPOPMIN', q.ready, taken[queue]), {}
    for index = 1, #popped, 2 do ids[#ids + 1] = popped[index] end
    items[queue] = lease(q, queue, ids)
    if limits.interval then
      limits.tat = math.max(limits.tat, us) + taken[queue] * limits.interval
      call('HSET', q.limits, 'tat', string.format('%.0f', limits.tat))
    end
  end
  wake_next(q, queue)
end

local reply, next_item = { now, again_at, position }, {}
for _, queue in ipairs(order) do
  next_item[queue] = (next_item[queue] or 0) + 1
  for _, value in ipairs(items[queue][next_item[queue]]) do reply[#reply + 1] = value end
end
return reply

-- Leases up to n messages of several queues, in turns. First, in each queue: messages that are due become ready, and
-- messages whose lease expired become ready again (or are buried; or deleted when they were cancelled).
-- KEYS   the queues
-- ARGV   1: n  2: the lease's token  3: length of the lease in ms  4: position in the cycle, from 0
--        5: the cycle (round_robin.py)  6: idle poll in ms: without a wakeup, an idle consumer fetches again then
-- Returns now in ms, when to fetch again in ms (nil: nothing is known to become due), the new position in the cycle,
--        the queues that cannot be read (index from 1, error, index, error, ...), then per message: index of its queue from 1, id, deliveries, record
-- uses: base clock record moves
local us = clock()
local now = math.floor(us / 1000)
local room, token, lease_end = math.min(tonumber(ARGV[1]), BATCH), ARGV[2], now + tonumber(ARGV[3])
local position, cycle, idle_poll_at = tonumber(ARGV[4]), ARGV[5], now + tonumber(ARGV[6])
local again_at = false
local queues, available, taken, broken = {}, {}, {}, {}

local function fetch_again_at(ms)
  if ms and (not again_at or ms < again_at) then again_at = ms end
end

local function lowest_score(key)
  return tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
end

local function make_due_ready(q)
  local ids = call('ZRANGEBYSCORE', q.scheduled, '-inf', now, 'LIMIT', 0, BATCH)
  if #ids == 0 then return end
  call('ZREM', q.scheduled, unpack(ids)) -- first what frees: the server's memory may be full
  local records, scored, unreadable = call('HMGET', q.messages, unpack(ids)), {}, {}
  for index, id in ipairs(ids) do
    if is_record(records[index]) then
      scored[#scored + 1] = struct.unpack('>d', records[index])
      scored[#scored + 1] = id
    else unreadable[#unreadable + 1] = id end
  end
  if #scored > 0 then call('ZADD', q.ready, unpack(scored)) end
  drop_unreadable(q, unreadable, now)
end

local function reclaim_expired(q)
  local ids = call('ZRANGEBYSCORE', q.leased, '-inf', now, 'LIMIT', 0, BATCH)
  if #ids > 0 then work_on_full_server(q) end
  local unreadable = {}
  for _, id in ipairs(ids) do
    local m, value = load(q, id), call('HGET', q.deliveries, id)
    local deliveries = value and unpack_delivery(value) or 1 -- somebody has deleted the count
    if not m then unreadable[#unreadable + 1] = id
    else
      lose_attempt(q, m, 'lease')
      if settle_if_decided(q, m, now) then -- nothing is left to do
      elseif deliveries >= max_deliveries(q, m) then
        bury(q, m, deliveries, 'poison', 'its lease expired at delivery ' .. deliveries, now)
      else
        call('ZREM', q.leased, id)
        call('HSET', q.deliveries, id, pack_delivery(deliveries, m.flags, m.score, ''))
        call('ZADD', q.ready, m.score, id)
      end
    end
  end
  drop_unreadable(q, unreadable, now)
  count(q, 'expired', #ids)
end

-- How many messages the limits of the queue let it deliver now. Keeps the limits that are needed later in
-- `queues[index]`.
local function allowance(q, index)
  local paused, in_flight, interval, burst, tat, expires =
    unpack(call('HMGET', q.limits, 'paused', 'max_in_flight', 'interval', 'burst', 'tat', 'expires'))
  local limits = queues[index]
  limits.expires = expires
  limits.interval, limits.tat, limits.burst = tonumber(interval), tonumber(tat) or 0, tonumber(burst) or 1
  local furthest = limits.interval and us + limits.burst * limits.interval
  if furthest and limits.tat > furthest then -- the server's clock has gone back since
    work_on_full_server(q)
    limits.tat = furthest
    call('HSET', q.limits, 'tat', string.format('%.0f', furthest))
  end
  local allowed = math.huge
  if tonumber(in_flight) then allowed = tonumber(in_flight) - call('ZCARD', q.leased) end
  if limits.interval then
    local spare = us + limits.burst * limits.interval - math.max(limits.tat, us)
    allowed = math.min(allowed, math.floor(spare / limits.interval))
  end
  if paused == '1' then limits.interval, allowed = nil, 0 end
  return math.max(allowed, 0)
end

local function lease(q, queue, ids)
  local records, past = call('HMGET', q.messages, unpack(ids)), call('HMGET', q.deliveries, unpack(ids))
  local leased, values, items, unreadable = {}, {}, {}, {}
  for index, id in ipairs(ids) do
    local record = records[index]
    if not is_record(record) then unreadable[#unreadable + 1] = id
    else
      local score, flags = struct.unpack('>dB', record)
      local deliveries = 1 + (past[index] and unpack_delivery(past[index]) or 0)
      leased[#leased + 1], leased[#leased + 2] = lease_end, id
      values[#values + 1], values[#values + 2] = id, pack_delivery(deliveries, flags, score, token)
      if bit.band(flags, HAS_UNIQUE) ~= 0 then
        local m = parse(id, record, RECORD)
        if m.mode == UNIQUE_UNTIL_START then release_unique(q, m) end
      end
      items[#items + 1] = { queue, id, deliveries, record }
    end
  end
  drop_unreadable(q, unreadable, now)
  if #items > 0 then
    call('ZADD', q.leased, unpack(leased))
    call('HSET', q.deliveries, unpack(values))
    count(q, 'delivered', #items)
  end
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

-- Does a step for a queue. A queue whose keys somebody has damaged is skipped: the others are delivered all the same.
local function try(step, queue)
  local done, problem = pcall(step, queue)
  if done then return end
  available[queue], taken[queue] = 0, 0
  broken[#broken + 1] = queue
  broken[#broken + 1] = tostring(type(problem) == 'table' and problem.err or problem)
end

local function prepare(queue)
  local q, limits = names(KEYS[queue])
  queues[queue] = { keys = q }
  take_up_set_aside(q, limits, now)
  make_due_ready(q)
  reclaim_expired(q)
  available[queue] = math.min(allowance(q, queue), call('ZCARD', q.ready))
end

local items = {}
local function deliver(queue)
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

for queue = 1, #KEYS do
  available[queue], taken[queue] = 0, 0
  try(prepare, queue)
end
local order, skipped = take_turns(), {}
for index = 1, #broken, 2 do skipped[broken[index]] = true end
for queue = 1, #KEYS do
  if not skipped[queue] then try(deliver, queue) end
end

local reply, next_item = { now, again_at, position, broken }, {}
for _, queue in ipairs(order) do
  next_item[queue] = (next_item[queue] or 0) + 1
  for _, value in ipairs(items[queue] and items[queue][next_item[queue]] or {}) do reply[#reply + 1] = value end
end
return reply

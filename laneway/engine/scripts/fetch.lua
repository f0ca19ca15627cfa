-- Hands out up to n messages of several queues, by turns, each under a lease. First, per queue: what is due becomes
-- ready, expired leases come back (or are buried, or dropped when cancelled).
-- KEYS   the queues
-- ARGV   1: n  2: the lease's token  3: lease in ms  4: place in the cycle, from 0  5: cycle (lanes.py)
--        6: horizon in ms: idle consumers look again after so long even without the bell
-- Returns now in ms, when to look again in ms (-1: nothing is known to come), place in the cycle,
--        then per message: index of its queue from 1, id, deliveries, record
-- uses: base clock record moves
local us = clock()
local now = math.floor(us / 1000)
local room, token, lease_end = math.min(tonumber(ARGV[1]), BATCH), ARGV[2], now + tonumber(ARGV[3])
local place_, cycle, horizon = tonumber(ARGV[4]), ARGV[5], now + tonumber(ARGV[6])
local again = -1
local queues, available, taken = {}, {}, {}

local function sooner(at)
  if at and (again < 0 or at < again) then again = at end
end

local function first(key)
  return tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
end

local function promote(q)
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

local function take_back(q)
  local ids = call('ZRANGEBYSCORE', q.leased, '-inf', now, 'LIMIT', 0, BATCH)
  for _, id in ipairs(ids) do
    local times, flags, score = unpack_delivery(call('HGET', q.deliveries, id))
    local m = load(q, id)
    break_off(q, m, 'lease')
    if wind_up(q, m, now) then -- settled
    elseif times >= most_deliveries(q, m) then
      bury(q, m, times, 'poison', 'its lease expired at delivery ' .. times, now)
    else
      call('ZREM', q.leased, id)
      call('HSET', q.deliveries, id, pack_delivery(times, flags, score, ''))
      call('ZADD', q.ready, score, id)
    end
  end
  count(q, 'expired', #ids)
end

-- How many this queue may give now, by its limits.
local function allowance(q, at)
  local paused, in_flight, interval, burst, tat, expires =
    unpack(call('HMGET', q.limits, 'paused', 'max_in_flight', 'interval', 'burst', 'tat', 'expires'))
  queues[at].expires = expires
  queues[at].interval, queues[at].tat, queues[at].burst = tonumber(interval), tonumber(tat or 0), tonumber(burst)
  if paused == '1' then
    queues[at].interval = nil
    return 0
  end
  local allowed = math.huge
  if in_flight then allowed = tonumber(in_flight) - call('ZCARD', q.leased) end
  if interval then
    local spare = us + tonumber(burst) * interval - math.max(queues[at].tat, us)
    local tokens = math.floor(spare / interval)
    allowed = math.min(allowed, tokens)
  end
  return math.max(allowed, 0)
end

local function lease(q, at, ids)
  local records, past = call('HMGET', q.messages, unpack(ids)), call('HMGET', q.deliveries, unpack(ids))
  local leased, values, items = {}, {}, {}
  for index, id in ipairs(ids) do
    local record = records[index]
    local score, flags = struct.unpack('>dB', record)
    local times = 1 + (past[index] and unpack_delivery(past[index]) or 0)
    leased[#leased + 1], leased[#leased + 2] = lease_end, id
    values[#values + 1], values[#values + 2] = id, pack_delivery(times, flags, score, token)
    if bit.band(flags, HAS_UNIQUE) ~= 0 then
      local m = parse(id, record, 9)
      if m.mode == UNTIL_START then free(q, m) end
    end
    items[index] = { at, id, times, record }
  end
  call('ZADD', q.leased, unpack(leased))
  call('HSET', q.deliveries, unpack(values))
  count(q, 'delivered', #ids)
  return items
end

-- The order of turns: a list of queue indexes, as long as there is room and work.
local function turns()
  local order, left, open = {}, 0, 0
  for at = 1, #KEYS do
    left = left + available[at]
    if available[at] > 0 then open = open + 1 end
  end
  for at = 1, open == 1 and #KEYS or 0 do -- nobody to share with: the turns stay as they are
    while room > #order and available[at] > 0 do
      available[at], left, taken[at] = available[at] - 1, left - 1, taken[at] + 1
      order[#order + 1] = at
    end
  end
  while open > 1 and room > #order and left > 0 do
    local at = string.byte(cycle, place_ + 1)
    place_ = (place_ + 1) % #cycle
    if available[at] > 0 then
      available[at], left, taken[at] = available[at] - 1, left - 1, taken[at] + 1
      order[#order + 1] = at
    end
  end
  return order
end

-- Wakes the next consumer if there is more to take, or something is due before it would look by itself.
local function pass_on(q, at)
  local waiting = call('ZCARD', q.ready)
  local due = first(q.scheduled)
  if waiting > 0 and available[at] > 0 then
    again = now
    ring(q)
  elseif due and due <= horizon and taken[at] > 0 then ring(q)
  else call('DEL', q.bell) end
  sooner(due)
  sooner(first(q.leased))
  if waiting > 0 and queues[at].interval then
    local token_at = queues[at].tat - (queues[at].burst - 1) * queues[at].interval
    if token_at > us then sooner(math.ceil(token_at / 1000)) end
  end
  if queues[at].expires then touch(q, queues[at].expires) end
end

for at = 1, #KEYS do
  local q = names(KEYS[at])
  queues[at], taken[at] = { keys = q }, 0
  promote(q)
  take_back(q)
  local allowed = allowance(q, at)
  local waiting = call('ZCARD', q.ready)
  available[at] = math.min(allowed, waiting)
end

local order, items = turns(), {}
for at = 1, #KEYS do
  local q = queues[at].keys
  if taken[at] > 0 then
    local popped, ids = call('ZPOPMIN', q.ready, taken[at]), {}
    for index = 1, #popped, 2 do ids[#ids + 1] = popped[index] end
    items[at] = lease(q, at, ids)
    if queues[at].interval then
      queues[at].tat = math.max(queues[at].tat, us) + taken[at] * queues[at].interval
      call('HSET', q.limits, 'tat', string.format('%.0f', queues[at].tat))
    end
  end
  pass_on(q, at)
end

local answer, next_ = { now, again, place_ }, {}
for _, at in ipairs(order) do
  next_[at] = (next_[at] or 0) + 1
  for _, value in ipairs(items[at][next_[at]]) do answer[#answer + 1] = value end
end
return answer

-- Leases up to n messages of several queues, in turns. First, in each queue: messages that are due become ready, and
-- messages whose lease expired become ready again (or are buried; or deleted when they were cancelled). A call moves at
-- most BATCH of these, of all queues together. It stops when it has leased FETCH_BYTES.
-- KEYS   the queues
-- ARGV   1: n  2: the lease's token  3: length of the lease in ms  4: the next turn, as an index from 0  5: the turns,
--        each byte is the number of a queue from 1  6: after how many ms the consumer fetches again unasked (0: it does
--        not wait)  7: the consumer  8: its labels, sorted, each between two commas
--        9: for each queue a byte, its class: a queue of a higher class waits while one of a lower class has work ('': all
--        queues share)
-- Returns now in ms, how many turns have passed, when something becomes due (number of a queue, ms, number, ms, ...), the
--        queues that expire when they are unused (number, after how many ms, ...), the queues that cannot be read
--        (number, error, ...), then per message: number of its queue, id, deliveries, record
-- uses: base clock deliveries record
local us = clock()
local now = math.floor(us / 1000)
local room, token, lease_end = math.min(tonumber(ARGV[1]), BATCH), ARGV[2], now + tonumber(ARGV[3])
local start, turns, idle_poll, consumer, labels = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local classes = ARGV[9]
local moves_left, bytes, passed = BATCH, 0, 0
local queues, available, taken, order = {}, {}, {}, {}
local times, expiring, broken = {}, {}, {}

local function lowest_score(key)
  return tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
end

-- What only queues with limits, labels or tenants need.
local flow_parts
local function gates()
  if not flow_parts then
    -- uses: places flow gates
    flow_parts = { admit = admit, open_lines = open_lines }
  end
  return flow_parts
end

-- What most fetches do not need.
local parts
local function rarely()
  if not parts then
    -- uses: attempts hand_ons places queueing moves due
    parts = {
      move = move, drop_unreadable = drop_unreadable, next_scheduled = next_scheduled, release_unique = release_unique,
    }
  end
  return parts
end

-- How many messages the limits of the queue let it deliver now. `limits`: see `names`; what is needed later is kept in it.
local function allowance(q, limits)
  limits.tat, limits.burst = limits.tat or 0, limits.burst or 1
  local furthest = limits.interval and us + limits.burst * limits.interval
  if furthest and limits.tat > furthest then -- the server's clock has gone back since
    work_on_full_server(q)
    limits.tat = furthest
    call('HSET', q.limits, 'tat', string.format('%.0f', furthest))
  end
  local allowed = math.huge
  if limits.max_in_flight then allowed = limits.max_in_flight - call('ZCARD', q.leased) end
  if limits.interval then
    local spare = us + limits.burst * limits.interval - math.max(limits.tat, us)
    allowed = math.min(allowed, math.floor(spare / limits.interval))
  end
  if limits.paused == 1 then limits.interval, allowed = nil, 0 end
  return math.max(allowed, 0)
end

-- Leases messages that have left `ready`. Adds id, deliveries and record of each one to `found`.
local function lease(q, limits, ids, found)
  local records, past = call('HMGET', q.messages, unpack(ids)), call('HMGET', q.deliveries, unpack(ids))
  local leased, values, unreadable = {}, {}, {}
  for index, id in ipairs(ids) do
    local record = records[index]
    if not is_record(record) then unreadable[#unreadable + 1] = id
    else
      local score, flags = struct.unpack('>dB', record)
      local gated = bit.band(flags, HAS_FLOW) ~= 0 or limits.task_limits or limits.tenants
      local m = (gated or bit.band(flags, HAS_UNIQUE) ~= 0) and parse(id, record, RECORD)
      local admitted, holds = true, false
      if gated then admitted, holds = gates().admit(q, limits, m, record) end
      if not admitted then moves_left = moves_left - 1
      else
        local deliveries, size = 1 + (past[index] and unpack_delivery(past[index]) or 0), #found
        if m and m.mode == UNIQUE_UNTIL_START then rarely().release_unique(q, m) end
        if holds then flags = flags + HOLDS_SLOTS end
        leased[#leased + 1], leased[#leased + 2] = lease_end, id
        values[#values + 1], values[#values + 2] = id, pack_delivery(deliveries, flags, score, token)
        found[size + 1], found[size + 2], found[size + 3] = id, deliveries, record
      end
    end
  end
  if #unreadable > 0 then rarely().drop_unreadable(q, unreadable, now) end
  if #values > 0 then
    call('ZADD', q.leased, unpack(leased))
    call('HSET', q.deliveries, unpack(values))
    count(q, 'delivered', #values / 2)
  end
end

-- Adds the bytes of the next message that the queue delivers. Only a queue that has had a large message is looked at.
local function count_bytes(queue)
  local limits = queues[queue]
  limits.ids = limits.ids or call('ZRANGE', limits.keys.ready, 0, room - 1)
  bytes = bytes + (tonumber(redis.pcall('HSTRLEN', limits.keys.messages, limits.ids[taken[queue] + 1])) or 0)
end

-- The lowest class of a queue with work; nil if all queues share.
local function lowest_class()
  if classes == '' then return nil end
  local lowest = 256
  for queue = 1, #KEYS do
    if available[queue] > 0 then lowest = math.min(lowest, string.byte(classes, queue)) end
  end
  return lowest
end

-- Takes turns between the queues while there is room and work. Fills `order` with the queue of each turn. A queue that
-- has no other to share with takes all, and no turns pass.
local function take_turns()
  local left, queues_with_work, only = 0, 0, nil
  for queue = 1, #KEYS do
    left = left + available[queue]
    if available[queue] > 0 then queues_with_work, only = queues_with_work + 1, queue end
  end
  if queues_with_work > 1 then only = nil end
  while left > 0 and room > #order and bytes < FETCH_BYTES do
    local queue, class = only, nil
    if not only then
      queue, class = string.byte(turns, (start + passed) % #turns + 1), lowest_class()
      passed = passed + 1
    end
    if available[queue] > 0 and (not class or string.byte(classes, queue) == class) then
      if queues[queue].large then count_bytes(queue) end
      available[queue], left, taken[queue] = available[queue] - 1, left - 1, taken[queue] + 1
      order[#order + 1] = queue
    end
  end
end

local function fetch_again_at(queue, ms)
  times[#times + 1], times[#times + 2] = queue, ms
end

-- When something becomes due in the queue: a message, the end of a lease, or the next delivery of a rate limit.
local function next_due(limits, waiting)
  local at = math.min(limits.due or math.huge, limits.lease_over or math.huge, limits.line_due or math.huge)
  if waiting > 0 and limits.interval then
    local token_at = limits.tat - (limits.burst - 1) * limits.interval
    if token_at > us then at = math.min(at, math.ceil(token_at / 1000)) end
  end
  return at < math.huge and at
end

-- Has one consumer fetch at this time, before it would fetch unasked: another one that has said so, or this one. This
-- one may be busy by then if it has got messages now, so that the next consumer is woken instead.
local function keep_time(q, queue, at)
  call('ZREM', q.timekeepers, consumer)
  call('ZREMRANGEBYSCORE', q.timekeepers, '-inf', now)
  local other = lowest_score(q.timekeepers)
  if other and other <= at then call('DEL', q.wakeup)
  elseif #order > 0 then wake_consumer(q)
  else
    call('ZADD', q.timekeepers, at, consumer)
    fetch_again_at(queue, at)
    call('DEL', q.wakeup)
  end
end

-- Wakes the next consumer if more can be fetched now. Else says when something becomes due in the queue.
local function wake_next(q, queue)
  local limits = queues[queue]
  if parts or flow_parts then limits.waiting = call('ZCARD', q.ready) end
  local waiting = limits.waiting
  local at = waiting > 0 and available[queue] > 0 and now or next_due(limits, waiting)
  if at and at <= now then
    fetch_again_at(queue, now)
    if taken[queue] == 0 then work_on_full_server(q) end
    wake_consumer(q)
  elseif at and at <= now + idle_poll then keep_time(q, queue, at)
  else
    if at then fetch_again_at(queue, at) end
    if idle_poll > 0 or not (limits.due or waiting > 0) then call('DEL', q.wakeup) end -- else it is for one who waits
  end
  if limits.expires then
    extend_expiry(q)
    expiring[#expiring + 1], expiring[#expiring + 2] = queue, limits.expires
  end
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
  local prefix = KEYS[queue]
  local q = keys_of(prefix)
  if #KEYS > 1 and call('EXISTS', q.ready, q.scheduled, q.leased, q.limits) == 0 then return end -- as most of many queues
  local limits
  q, limits = names(prefix)
  limits.keys, limits.ids, limits.own_due, limits.line_due = q, nil, nil, nil
  limits.lease_over, limits.due = lowest_score(q.leased), lowest_score(q.scheduled)
  queues[queue] = limits
  local moves = math.min(limits.lease_over or math.huge, limits.due or math.huge) <= now
  if moves or limits.newer or limits.handed_on or limits.lines or limits.max_wait then rarely().move(q, queue, limits) end
end

-- Counts what a queue can deliver, after all queues have moved what they have: one may have opened lines of another.
local function measure(queue)
  local limits = queues[queue]
  limits.waiting = call('ZCARD', limits.keys.ready)
  available[queue] = math.min(allowance(limits.keys, limits), limits.waiting)
end

-- Leases ready messages. Those that must wait for a limit or a label make room for the next ones.
local items = {}
local function deliver(queue)
  local limits, found = queues[queue], {}
  local q, n = limits.keys, taken[queue]
  if n > 0 then
    repeat
      local before, ids = moves_left, {}
      local popped = call('ZPOPMIN', q.ready, n - #found / 3)
      for index = 1, #popped, 2 do ids[#ids + 1] = popped[index] end
      if #ids > 0 then lease(q, limits, ids, found) end
    until #found >= n * 3 or before == moves_left or moves_left <= 0
    items[queue], limits.waiting = found, limits.waiting - #found / 3
    if parts then limits.due = parts.next_scheduled(q, limits) end -- another message of a key may have become its head
    if #found > 0 then limits.lease_over = math.min(limits.lease_over or lease_end, lease_end) end
    if limits.interval then
      limits.tat = math.max(limits.tat, us) + #found / 3 * limits.interval
      call('HSET', q.limits, 'tat', string.format('%.0f', limits.tat))
    end
  end
  wake_next(q, queue)
end

for queue = 1, #KEYS do
  available[queue], taken[queue] = 0, 0
  try(prepare, queue)
end
local skipped = {}
for index = 1, #broken, 2 do skipped[broken[index]] = true end
for queue = 1, #KEYS do
  if queues[queue] and not skipped[queue] then try(measure, queue) end
end
take_turns()
for index = 1, #broken, 2 do skipped[broken[index]] = true end
for queue = 1, #KEYS do
  if queues[queue] and not skipped[queue] then try(deliver, queue) end
end

local reply, next_item = { now, passed, times, expiring, broken }, {}
for _, queue in ipairs(order) do
  local found, at, size = items[queue], next_item[queue] or 1, #reply
  next_item[queue] = at + 3
  if found and found[at] then
    reply[size + 1], reply[size + 2], reply[size + 3], reply[size + 4] = queue, found[at], found[at + 1], found[at + 2]
  end
end
return reply

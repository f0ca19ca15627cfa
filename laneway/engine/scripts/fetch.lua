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
-- uses: base clock record flow moves
local OTHERS_FIRST = 2000 -- longer than an idle consumer waits between two fetches
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

-- Leaves out the messages that this consumer has handed on, until `OTHERS_FIRST` ms after they are due: others shall take
-- them. Keeps in `limits` when the first of them is due for this consumer.
local function without_handed_on(q, limits, ids)
  if not limits.handed_on or #ids == 0 then return ids end
  local entries, kept, own = call('HMGET', q.handed_on, unpack(ids)), {}, owner_of(token)
  for index, id in ipairs(ids) do
    local h = read_hand_ons(entries[index])
    local due = h and is_owner(h, own) and tonumber(call('ZSCORE', q.scheduled, id)) + OTHERS_FIRST
    if due and due > now then limits.own_due = math.min(limits.own_due or due, due)
    else kept[#kept + 1] = id end
  end
  return kept
end

-- When the next message becomes due for this consumer.
local function next_scheduled(q, limits)
  if not limits.own_due then return lowest_score(q.scheduled) end
  local after = '(' .. string.format('%.0f', now)
  local later = call('ZRANGEBYSCORE', q.scheduled, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  return math.min(limits.own_due, tonumber(later) or math.huge)
end

local function make_due_ready(q, limits, most)
  local ids = call('ZRANGEBYSCORE', q.scheduled, '-inf', now, 'LIMIT', 0, most)
  ids = without_handed_on(q, limits, ids)
  if #ids == 0 then return end
  moves_left = moves_left - #ids
  call('ZREM', q.scheduled, unpack(ids)) -- first what frees: the server's memory may be full
  local records, scored, unreadable = call('HMGET', q.messages, unpack(ids)), {}, {}
  for index, id in ipairs(ids) do
    if is_record(records[index]) then
      scored[#scored + 1] = ready_score(q, { id = id, score = (struct.unpack('>d', records[index])) })
      scored[#scored + 1] = id
    else unreadable[#unreadable + 1] = id end
  end
  if #scored > 0 then call('ZADD', q.ready, unpack(scored)) end
  drop_unreadable(q, unreadable, now)
end

local function reclaim_expired(q, most)
  local ids = call('ZRANGEBYSCORE', q.leased, '-inf', now, 'LIMIT', 0, most)
  moves_left = moves_left - #ids
  work_on_full_server(q)
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
        end_lease(q, id)
        call('HSET', q.deliveries, id, pack_delivery(deliveries, m.flags, m.score, ''))
        call('ZADD', q.ready, ready_score(q, m), id)
      end
    end
  end
  drop_unreadable(q, unreadable, now)
  count(q, 'expired', #ids)
end

-- True when the consumer has all labels of a line, which are between commas, too.
local function has_labels(needed)
  for label in string.gmatch(needed, '[^,]+') do
    if not string.find(labels, ',' .. label .. ',', 1, true) then return false end
  end
  return true
end

-- Lets messages go on that wait for labels which this consumer has, or for a limit which may have room now.
local function open_lines(q, limits)
  if labels ~= '' then
    for _, line in ipairs(call('SMEMBERS', q.label_lines)) do
      if has_labels(string.sub(line, 2)) and not open_line(q, line, room) then call('SREM', q.label_lines, line) end
    end
  end
  for _, line in ipairs(call('ZRANGEBYSCORE', q.lines, '-inf', now, 'LIMIT', 0, MOST_LINES)) do
    local name, key = string.match(line, '^(.-)%z(.*)$')
    local free, again = free_points(q, name or '', key or '', us)
    if not free or open_line(q, line, math.min(free, room)) then
      call('ZADD', q.lines, 'XX', string.format('%.0f', math.max(again, now + 1)), line)
    end
  end
  if call('EXISTS', q.lines, q.label_lines) == 0 then
    call('HDEL', q.limits, 'lines')
    limits.lines = false
  end
  limits.line_due = lowest_score(q.lines)
end

-- Lets messages that have waited for longer than the queue's `max_wait` go before all others.
local function advance_old(q, limits)
  local put_before = (us - limits.max_wait * 1000 - EPOCH_US) / TICK_US
  for class = SPAN, 9 * SPAN, SPAN do
    local found = call('ZRANGEBYSCORE', q.ready, string.format('%.0f', class), string.format('(%.0f', class + SPAN),
      'WITHSCORES', 'LIMIT', 0, room)
    for index = 1, #found, 2 do
      local id, score = found[index], tonumber(found[index + 1])
      local record = q.has_ranks and call('HGET', q.messages, id)
      local put = record and #record >= 8 and struct.unpack('>d', record) or score
      if put % SPAN > put_before then break end
      call('ZADD', q.ready, string.format('%.0f', score % SPAN - SPAN), id)
    end
  end
end

-- Moves what was set aside, what has expired and what is due. The queues that are still to come share what this one
-- leaves of the budget. Keeps in `limits` when the next lease is over and the next message is due.
local function move(q, queue, limits)
  local share = math.ceil(moves_left / (#KEYS - queue + 1))
  local left_for_others = moves_left - share
  local taken_up = #take_up_set_aside(q, limits, now, share)
  moves_left, share = moves_left - taken_up, share - taken_up
  limits.lease_over = lowest_score(q.leased)
  if limits.lease_over and limits.lease_over <= now then
    reclaim_expired(q, math.ceil(share / 2))
    limits.lease_over = lowest_score(q.leased)
  end
  limits.due = lowest_score(q.scheduled)
  if limits.handed_on and call('EXISTS', q.handed_on) == 0 then
    work_on_full_server(q)
    call('HDEL', q.limits, 'handed_on')
    limits.handed_on = false
  end
  if limits.due and limits.due <= now then
    make_due_ready(q, limits, moves_left - left_for_others)
    limits.due = next_scheduled(q, limits)
  end
  if limits.lines then open_lines(q, limits) end
  if limits.max_wait then advance_old(q, limits) end
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

-- Lets a message wait whose limits are used up, or that needs labels which the consumer lacks, and returns true. Else
-- takes the points of its limits, and returns false and whether it occupies some while it is leased.
local function must_wait(q, limits, m, record)
  local needed = flow_of(m).n
  if type(needed) == 'string' and needed ~= '' and #needed < 250 and not has_labels(needed) then
    local line = '\1' .. needed
    call('SADD', q.label_lines, line)
    add_to_line(q, line, m, false)
    wake_consumer(q)
    return true
  end
  local name = limits.task_limits and string.sub(record, m.name_at + 1, m.name_at + string.byte(record, m.name_at))
  local uses = uses_of(m, name or '', limits.task_limits)
  for _, use in ipairs(uses) do
    local opens = opens_at(q, use[1], use[2], use[3], us)
    if opens then
      wait_for_limit(q, m, use[1], use[2], opens)
      limits.line_due = math.min(limits.line_due or math.huge, math.ceil(opens / 1000))
      return true
    end
  end
  return false, take_points(q, m.id, uses, us)
end

-- From now on, what the tenants of this priority put comes after what is delivered now.
local function move_tenant_clock(q, m)
  local rank = ready_score(q, m)
  call('ZADD', q.tenants, 'XX', 'GT', string.format('%.0f', rank), tenant_clock(m.priority))
end

local function lease(q, queue, limits, ids)
  local records, past = call('HMGET', q.messages, unpack(ids)), call('HMGET', q.deliveries, unpack(ids))
  local leased, values, items, unreadable = {}, {}, {}, {}
  for index, id in ipairs(ids) do
    local record = records[index]
    if not is_record(record) then unreadable[#unreadable + 1] = id
    else
      local score, flags = struct.unpack('>dB', record)
      local m = (bit.band(flags, HAS_UNIQUE + HAS_FLOW) ~= 0 or limits.task_limits or limits.tenants)
        and parse(id, record, RECORD)
      local waits, holds = false, false
      if m and (m.flow or limits.task_limits) then waits, holds = must_wait(q, limits, m, record) end
      if waits then moves_left = moves_left - 1
      else
        local deliveries = 1 + (past[index] and unpack_delivery(past[index]) or 0)
        if holds then flags = flags + HOLDS_SLOTS end
        leased[#leased + 1], leased[#leased + 2] = lease_end, id
        values[#values + 1], values[#values + 2] = id, pack_delivery(deliveries, flags, score, token)
        if m and m.mode == UNIQUE_UNTIL_START then release_unique(q, m) end
        if m and limits.tenants then move_tenant_clock(q, m) end
        items[#items + 1] = { queue, id, deliveries, record }
      end
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

-- Adds the bytes of the next message that the queue delivers, if the queue has ever had a large message.
local function count_bytes(queue)
  local limits = queues[queue]
  if not limits.large then return end
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

-- Takes turns between the queues while there is room and work. Fills `order` with the queue of each turn.
local function take_turns()
  local left, queues_with_work = 0, 0
  for queue = 1, #KEYS do
    left = left + available[queue]
    if available[queue] > 0 then queues_with_work = queues_with_work + 1 end
  end
  local function take(queue)
    count_bytes(queue)
    available[queue], left, taken[queue] = available[queue] - 1, left - 1, taken[queue] + 1
    order[#order + 1] = queue
  end
  local function has_room() return room > #order and bytes < FETCH_BYTES end
  if queues_with_work == 1 then -- no queue to share with: no turns pass
    for queue = 1, #KEYS do
      while has_room() and available[queue] > 0 do take(queue) end
    end
    return
  end
  while has_room() and left > 0 do
    local class = lowest_class()
    local queue = string.byte(turns, (start + passed) % #turns + 1)
    passed = passed + 1
    if available[queue] > 0 and (not class or string.byte(classes, queue) == class) then take(queue) end
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
  local waiting = taken[queue] > 0 and call('ZCARD', q.ready) or limits.waiting
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
    set_expiry(q, limits.expires)
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

-- Most of many queues have nothing, which one command tells.
local function is_empty(q)
  return #KEYS > 1 and call('EXISTS', q.ready, q.scheduled, q.leased, q.limits) == 0
end

local function prepare(queue)
  local prefix = KEYS[queue]
  if is_empty(keys_of(prefix)) then return end
  local q, limits = names(prefix)
  limits.keys = q
  queues[queue] = limits
  move(q, queue, limits)
end

-- Counts what a queue can deliver, after all queues have moved what they have: one may have opened lines of another.
local function measure(queue)
  local limits = queues[queue]
  limits.waiting = call('ZCARD', limits.keys.ready)
  available[queue] = math.min(allowance(limits.keys, limits), limits.waiting)
end

-- Leases up to n ready messages. Those that must wait for a limit or a label make room for the next ones.
local function lease_ready(q, queue, limits, n)
  local found = {}
  repeat
    local before = moves_left
    local popped, ids = call('ZPOPMIN', q.ready, n - #found), {}
    for index = 1, #popped, 2 do ids[#ids + 1] = popped[index] end
    if #ids > 0 then
      for _, item in ipairs(lease(q, queue, limits, ids)) do found[#found + 1] = item end
    end
  until #found >= n or before == moves_left or moves_left <= 0
  return found
end

local items = {}
local function deliver(queue)
  local limits = queues[queue]
  local q = limits.keys
  if taken[queue] > 0 then
    items[queue] = lease_ready(q, queue, limits, taken[queue])
    limits.due = next_scheduled(q, limits) -- a message without a record may have made way for another one of its key
    if #items[queue] > 0 then limits.lease_over = math.min(limits.lease_over or lease_end, lease_end) end
    if limits.interval then
      limits.tat = math.max(limits.tat, us) + #items[queue] * limits.interval
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
  next_item[queue] = (next_item[queue] or 0) + 1
  for _, value in ipairs(items[queue] and items[queue][next_item[queue]] or {}) do reply[#reply + 1] = value end
end
return reply

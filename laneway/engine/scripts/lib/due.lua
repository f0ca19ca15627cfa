-- What a fetch does for messages that are due, whose lease expired, or that limits, labels and tenants concern. It uses
-- the locals of fetch.lua.
local OTHERS_FIRST = 2000 -- longer than an idle consumer waits between two fetches

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

-- Whether a message that is ready is leased now, and whether it occupies limits while it is. Else it waits from now on.
local function admit(q, limits, m, record)
  local waits, holds = false, false
  if m.flow or limits.task_limits then waits, holds = must_wait(q, limits, m, record) end
  if waits then return false end
  if m.mode == UNIQUE_UNTIL_START then release_unique(q, m) end
  if limits.tenants then move_tenant_clock(q, m) end
  return true, holds
end

-- Moves what was set aside, what has expired and what is due. The queues that are still to come share what this one
-- leaves of the budget.
local function move(q, queue, limits)
  local share = math.ceil(moves_left / (#KEYS - queue + 1))
  local left_for_others = moves_left - share
  local taken_up = #take_up_set_aside(q, limits, now, share)
  moves_left, share = moves_left - taken_up, share - taken_up
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

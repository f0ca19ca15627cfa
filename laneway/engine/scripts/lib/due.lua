-- What a fetch does for messages that are due or whose lease expired. These functions use the locals of fetch.lua.
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
  if limits.lines then gates().open_lines(q, limits) end
  if limits.max_wait then advance_old(q, limits) end
end

-- How messages move between states. Every script that moves a message calls these functions.

-- Gives back what a leased message occupies, and takes a message out of the line in which it waits. Most queues have
-- neither.
local function leave_gates(q, id)
  if not (q.has_lines or q.has_slots) then return end
  -- uses: flow
  leave_line(q, id)
  free_slots(q, id)
end

-- Ends the lease of a message, which goes on to another state.
local function end_lease(q, id)
  call('ZREM', q.leased, id)
  leave_gates(q, id)
end

-- Deletes what the queue keeps of a message for limits and places.
local function leave_flow(q, id)
  if q.has_ranks then call('HDEL', q.ranks, id) end
  leave_gates(q, id)
end

-- Takes a message that only a newer version can read out of the states in which it would be delivered. It keeps all
-- else, and its ordering key stays occupied. The limit `newer` is the lowest format of such messages.
local function set_aside(q, id, record)
  local format = math.floor(string.byte(record, RECORD + 1) / FORMAT_STEP)
  for _, state in ipairs({ STATE_READY, STATE_SCHEDULED, STATE_LEASED }) do call('ZREM', q[state], id) end
  local value = call('HGET', q.deliveries, id)
  if value then
    local deliveries, flags, score = unpack_delivery(value)
    call('HSET', q.deliveries, id, pack_delivery(deliveries, flags, score, '')) -- nobody holds a lease on it
  end
  leave_gates(q, id)
  if call('ZADD', q.set_aside, format, id) == 0 then return end
  count(q, 'newer', 1)
  redis.log(redis.LOG_WARNING, 'laneway: a newer version wrote a message of ' .. q.messages .. '; it is set aside')
  call('HSET', q.limits, 'newer', call('ZRANGE', q.set_aside, 0, 0, 'WITHSCORES')[2])
end

-- Removes a message from its ordering key. If it was the head, the next message of the key becomes the head.
local function leave_key(q, m, now)
  if not m.key then return end
  if call('HGET', q.heads, m.key) ~= m.id then
    call('ZREM', q.held, held_member(m, true), held_member(m, false))
    return
  end
  local head
  repeat -- a message without a record cannot become the head; one that only a newer version can read keeps its place
    local member = members_with(length_prefixed(m.key), q.held, 1)[1]
    if not member then
      call('HDEL', q.heads, m.key)
      return
    end
    call('ZREM', q.held, member)
    local id = id_of_member(member)
    local record = call('HGET', q.messages, id)
    if is_newer(record) then
      call('HSET', q.heads, m.key, id)
      set_aside(q, id, record)
      return
    end
    head = load(q, id)
    if not head then count(q, 'unreadable', 1) end
  until head
  call('HSET', q.heads, m.key, head.id)
  enqueue(q, head, head.eta, now)
end

-- Takes messages whose records are missing or cannot be read out of every state, and counts them. Somebody else deleted
-- or changed the records. Without this, one of them would stop every fetch from its queue. A record that is there stays.
-- A message that only a newer version can read is set aside instead.
local function drop_unreadable(q, unreadable, now)
  local ids, dropped = {}, {}
  for _, id in ipairs(unreadable) do
    local record = call('HGET', q.messages, id)
    if is_newer(record) then set_aside(q, id, record)
    else
      ids[#ids + 1] = id
      dropped[id] = true
    end
  end
  if #ids == 0 then return end
  for _, state in ipairs({ STATE_READY, STATE_SCHEDULED, STATE_LEASED, STATE_DEAD, STATE_SET_ASIDE }) do
    call('ZREM', q[state], unpack(ids))
  end
  call('HDEL', q.deliveries, unpack(ids))
  call('HDEL', q.cancelled, unpack(ids))
  call('HDEL', q.dead_info, unpack(ids))
  call('HDEL', q.handed_on, unpack(ids)) -- an earlier version may have deleted the attempts alone
  delete_attempts(q, unpack(ids))
  for _, id in ipairs(ids) do leave_flow(q, id) end
  local heads = call('HGETALL', q.heads)
  for index = 1, #heads, 2 do
    local id = heads[index + 1]
    if dropped[id] then leave_key(q, { id = id, key = heads[index] }, now) end
  end
  count(q, 'unreadable', #ids)
end

-- Deletes everything about a message that has left ready, scheduled, leased and dead.
local function delete_message(q, m, now)
  call('HDEL', q.messages, m.id)
  call('HDEL', q.deliveries, m.id)
  delete_attempts(q, m.id)
  leave_flow(q, m.id)
  if m.task ~= m.id then call('ZREM', q.tasks, task_member(m)) end
  leave_key(q, m, now)
  release_unique_if_last(q, m)
end

-- Deletes a dead letter, which left its ordering key and its uniqueness key when it was buried. Returns false, and does
-- nothing, for one that only a newer version can read.
local function delete_dead_letter(q, id, kind)
  if is_newer(call('HGET', q.messages, id)) then return false end
  local m = load(q, id)
  if m then write_event(q, kind, m.task, 'm', id) end
  if m and m.task ~= id then call('ZREM', q.tasks, task_member(m)) end
  call('HDEL', q.messages, id)
  call('HDEL', q.dead_info, id)
  call('ZREM', q.dead, id)
  return true
end

-- Deletes the oldest dead letters that exceed the queue's limit of number or age. A call deletes at most BATCH of them.
-- The defaults are those of `Limits` (admin.py).
local trims_left = BATCH
local function trim_dead_letters(q, now)
  if trims_left == 0 then return end
  local max, max_age = unpack(call('HMGET', q.limits, 'dead_max', 'dead_age'))
  local excess = call('ZCARD', q.dead) - (tonumber(max) or 10000)
  local ids
  if excess > 0 then ids = call('ZRANGE', q.dead, 0, math.min(excess, trims_left) - 1)
  else
    local oldest = string.format('%.0f', now - (tonumber(max_age) or 2592000000))
    ids = call('ZRANGEBYSCORE', q.dead, '-inf', '(' .. oldest, 'LIMIT', 0, trims_left)
  end
  local deleted = 0
  for _, id in ipairs(ids) do
    if delete_dead_letter(q, id, EVENT_TRIM) then deleted = deleted + 1 end
  end
  trims_left = trims_left - #ids
  count(q, 'forgotten', deleted)
end

-- Makes a leased message a dead letter.
local function bury(q, m, deliveries, reason, error, now)
  if q.most_unread then
    local started, record = attempts_of(q, m.id), call('HGET', q.messages, m.id)
    local kept = record and journal_record(record, m.flags, m.name_at) or ''
    write_event(q, EVENT_BURY, m.task, 'm', m.id, 'n', started, 'x', reason, 'y', error, 'r', kept)
  end
  delete_attempts(q, m.id)
  call('ZREM', q.leased, m.id)
  leave_flow(q, m.id)
  call('HDEL', q.deliveries, m.id)
  call('HDEL', q.cancelled, m.id)
  call('ZADD', q.dead, now, m.id)
  call('HSET', q.dead_info, m.id, struct.pack('>HBc0', deliveries, #reason, reason) .. error)
  leave_key(q, m, now)
  release_unique_if_last(q, m)
  count(q, 'buried', 1)
  trim_dead_letters(q, now)
  wake_consumer(q)
end

-- Deletes a leased message that was acked or cancelled.
local function delete_leased(q, m, now)
  call('ZREM', q.leased, m.id)
  call('HDEL', q.cancelled, m.id)
  delete_message(q, m, now)
  wake_consumer(q)
end

-- Deletes a leased message whose task was cancelled, so that it is not delivered again.
local function drop_cancelled(q, m, now)
  write_event(q, EVENT_CANCEL, m.task, 'm', m.id)
  delete_leased(q, m, now)
  count(q, 'cancelled', 1)
end

-- Puts a leased message back to its old position, at once or after the delay. Its deliveries are counted from 0 again,
-- because the attempt had an outcome.
local function retry(q, m, delay, now)
  end_lease(q, m.id)
  call('HDEL', q.deliveries, m.id)
  call('HDEL', q.ack_actions, m.id)
  call('HDEL', q.handed_on, m.id)
  enqueue(q, m, delay > 0 and now + delay, now)
  count(q, 'retried', 1)
end

-- Settles a message that leaves its worker without an ack: carries out its ack action, or deletes it if its task was
-- cancelled. Returns the code then. Returns nothing, and does nothing, if there is neither.
local function settle_if_decided(q, m, now)
  local action, delay = ack_action_of(q, m.id)
  if action == ACTION_DONE then
    delete_leased(q, m, now)
    count(q, 'acked', 1)
    return STATUS_DONE
  end
  if call('HEXISTS', q.cancelled, m.id) == 1 then
    drop_cancelled(q, m, now)
    return STATUS_CANCELLED
  end
  if not action then return end
  retry(q, m, delay, now)
  return STATUS_DONE
end

local function max_deliveries(q, m)
  return m.limit or tonumber(call('HGET', q.limits, 'max_deliveries') or DEFAULT_MAX_DELIVERIES)
end

-- Queues at most `most` messages again that an older version has set aside and that this version can read. Returns
-- their ids. `limits`: see `names`.
local function take_up_set_aside(q, limits, now, most)
  if not limits.newer or limits.newer > FORMAT then return {} end
  work_on_full_server(q)
  local ids = call('ZRANGEBYSCORE', q.set_aside, '-inf', FORMAT, 'LIMIT', 0, most)
  for _, id in ipairs(ids) do
    call('ZREM', q.set_aside, id)
    local m = load(q, id)
    if not m then drop_unreadable(q, { id }, now)
    elseif m.key and call('HGET', q.heads, m.key) == id then enqueue(q, m, m.eta, now)
    else hold_or_enqueue(q, m, now, false) end
  end
  local lowest = call('ZRANGE', q.set_aside, 0, 0, 'WITHSCORES')[2]
  if lowest then call('HSET', q.limits, 'newer', lowest) else call('HDEL', q.limits, 'newer') end
  return ids
end

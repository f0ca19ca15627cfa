-- Acks leased messages, which deletes them. A message whose ack action is RETRY or SNOOZE goes back to its old position
-- instead.
-- KEYS   1: the queue
-- ARGV   id, token, id, token, ...
-- Returns one code (replies.LeaseStatus) per id: CANCELLED when the task was cancelled; its message is deleted too
-- uses: base clock deliveries leases attempts
local q, limits = names(KEYS[1])
local marks = call('EXISTS', q.cancelled, q.attempts)
local any_cancelled = marks > 0 and call('EXISTS', q.cancelled) == 1
attempts_exist[q.attempts] = marks > (any_cancelled and 1 or 0)
if q.most_unread or marks > 0 then work_on_full_server(q) end
local plain, others, acked = {}, {}, 0

-- Messages that other keys of the queue know, or that are to be tried again, are for later.
local codes = for_each_lease(q, 1, function(id, _, flags)
  local code, action = STATUS_DONE, ack_action_of(q, id)
  if any_cancelled and call('HDEL', q.cancelled, id) == 1 then code = STATUS_CANCELLED end
  if not action and q.most_unread then
    write_event(q, EVENT_ACK, task_of(q, id, flags) or id, 'm', id, 'n', (attempts_of(q, id)))
  end
  if bit.band(flags, HAS_TIES) == 0 and (not action or action == ACTION_DONE) then plain[#plain + 1] = id
  else others[#others + 1] = { id = id, code = code } end
  return code
end)

if #plain > 0 then
  call('ZREM', q.leased, unpack(plain))
  call('HDEL', q.deliveries, unpack(plain))
  call('HDEL', q.messages, unpack(plain))
  delete_attempts(q, unpack(plain))
  if q.has_ranks then call('HDEL', q.ranks, unpack(plain)) end
  acked = #plain
end

if #others > 0 then
  -- uses: record places queueing moves
  local now = math.floor(clock() / 1000)
  for _, other in ipairs(others) do
    local m, action, delay = load(q, other.id), ack_action_of(q, other.id)
    if not m then drop_unreadable(q, { other.id }, now)
    elseif not action or action == ACTION_DONE then
      delete_leased(q, m, now)
      acked = acked + 1
    elseif other.code == STATUS_CANCELLED then drop_cancelled(q, m, now)
    else retry(q, m, delay, now) end
  end
end
count(q, 'acked', acked)
if limits.max_in_flight then wake_consumer(q) end
extend_expiry(q)
return codes

-- Acks leased messages, which deletes them. A message whose ack action is RETRY or SNOOZE goes back to its old position
-- instead.
-- KEYS   1: the queue
-- ARGV   id, token, id, token, ...
-- Returns one code (replies.LeaseStatus) per id: CANCELLED when the task was cancelled; its message is deleted too
-- uses: base clock record flow moves
local q, limits = names(KEYS[1])
local any_cancelled = call('EXISTS', q.cancelled) == 1
if journal_limit(q) or has_attempts(q) then work_on_full_server(q) end
local now, plain, tied = nil, {}, 0

local function time()
  now = now or math.floor(clock() / 1000)
  return now
end

-- Carries out an ack action other than DONE, and returns true. Otherwise returns false: the caller deletes the message.
-- A message without an ack action gets an ACK event.
local function settle_by_action(id, flags, code)
  local action, delay = ack_action_of(q, id)
  if action == ACTION_DONE then return false end
  local m = (action or bit.band(flags, HAS_TIES) ~= 0) and load(q, id)
  if not action then
    write_event(q, EVENT_ACK, m and m.task or id, 'm', id, 'n', (attempts_of(q, id)))
    return false
  end
  if not m then return false end
  if code == STATUS_CANCELLED then drop_cancelled(q, m, time())
  else retry(q, m, delay, time()) end
  return true
end

local codes = for_each_lease(q, 1, function(id, _, flags)
  local code = STATUS_DONE
  if any_cancelled and call('HDEL', q.cancelled, id) == 1 then code = STATUS_CANCELLED end
  if (has_attempts(q) or journal_limit(q)) and settle_by_action(id, flags, code) then return code end
  local m = bit.band(flags, HAS_TIES) ~= 0 and load(q, id)
  if m then
    delete_leased(q, m, time())
    tied = tied + 1
  elseif bit.band(flags, HAS_TIES) == 0 then plain[#plain + 1] = id
  else drop_unreadable(q, { id }, time()) end
  return code
end)

if #plain > 0 then
  call('ZREM', q.leased, unpack(plain))
  call('HDEL', q.deliveries, unpack(plain))
  call('HDEL', q.messages, unpack(plain))
  delete_attempts(q, unpack(plain))
  if q.has_ranks then call('HDEL', q.ranks, unpack(plain)) end
end
count(q, 'acked', #plain + tied)
if limits.max_in_flight then wake_consumer(q) end
if limits.expires then set_expiry(q, limits.expires) end
return codes

-- Finishes an attempt at a leased message and records its ack action, which the ack carries out. An action that is
-- already recorded stands.
-- KEYS   1: the queue
-- ARGV   1: ack action (replies.AckAction)  2: delay in ms  3: the outcome, for the journal  4: id  5: token
-- Returns a code (replies.LeaseStatus); nothing is changed when the lease was lost
-- uses: base deliveries leases attempts
local q = names(KEYS[1])
work_on_full_server(q)
attempts_exist[q.attempts] = true -- most of them: to ask would cost more than to look
local action, delay = tonumber(ARGV[1]), tonumber(ARGV[2])
local codes = for_each_lease(q, 4, function(id, _, flags)
  if ack_action_of(q, id) then return STATUS_DONE end
  local started, running, call_id = attempts_of(q, id)
  local task = task_of(q, id, flags)
  if not task then return STATUS_UNKNOWN end
  call('HSET', q.ack_actions, id, struct.pack('>Bd', action, delay))
  local counted = (action == ACTION_SNOOZE and running) and started - 1 or started
  set_attempts(q, id, counted, false, call_id)
  write_event(q, EVENT_FINISH, task, 'm', id, 'n', started, 'v', action, 'd', delay, 'o', ARGV[3])
  return STATUS_DONE
end)
extend_expiry(q)
return codes[1]

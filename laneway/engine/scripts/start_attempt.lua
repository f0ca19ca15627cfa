-- Starts an attempt at a leased message. Also STALE when an attempt under this lease has already finished, because its
-- ack action stands. EXHAUSTED, and starts nothing, when the message has had all its attempts.
-- KEYS   1: the queue
-- ARGV   1: the worker, for people to read  2: id of the call: repeating it starts no second attempt
--        3: the most attempts ('' for no limit)  4: a note, for the journal  5: id  6: token
-- Returns a code (replies.LeaseStatus; CANCELLED: the task was cancelled and must not run), number of the attempt
--        from 1 (EXHAUSTED: of the last one), id of the call that started the attempt before ('' for the first one)
-- uses: base deliveries leases attempts
local q = names(KEYS[1])
work_on_full_server(q)
attempts_exist[q.attempts] = true -- most of them: to ask would cost more than to look
local number, most, previous = 0, tonumber(ARGV[3]), ''
local codes = for_each_lease(q, 5, function(id, _, flags)
  if call('HEXISTS', q.cancelled, id) == 1 then return STATUS_CANCELLED end
  local started, running, call_id = attempts_of(q, id)
  number = started
  if ack_action_of(q, id) then return STATUS_STALE end
  if running and call_id == ARGV[2] then return STATUS_DONE end
  local task = task_of(q, id, flags)
  if not task then return STATUS_UNKNOWN end
  if running then lose_attempt(q, { id = id, task = task }, 'started again') end
  if most and started >= most then return STATUS_EXHAUSTED end
  number, previous = started + 1, call_id
  set_attempts(q, id, number, true, ARGV[2])
  local fields = { 'm', id, 'n', number, 'w', ARGV[1] }
  if ARGV[4] ~= '' then
    fields[7], fields[8] = 'o', ARGV[4]
  end
  write_event(q, EVENT_START, task, unpack(fields))
  return STATUS_DONE
end)
extend_expiry(q)
return { codes[1], number, previous }

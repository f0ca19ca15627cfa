-- Ends an attempt at a leased message with a verdict, which the ack carries out: done with it, or once more.
-- KEYS   1: the queue
-- ARGV   1: verdict (answers.Verdict)  2: delay in ms  3: the outcome, for the history  4: id  5: token
-- Returns code (answers.Settled); a lease that was lost has lost the say, too. The first verdict stands.
-- uses: base clock record moves
local q = names(KEYS[1])
local verdict, delay = tonumber(ARGV[1]), tonumber(ARGV[2])
local codes = settle(q, 4, function(id)
  if verdict_of(q, id) then return DONE end
  local begun, running, by = attempts_of(q, id)
  local m = load(q, id)
  call('HSET', q.verdicts, id, struct.pack('>Bd', verdict, delay))
  local counted = (verdict == SNOOZE and running) and begun - 1 or begun
  set_attempts(q, id, counted, false, by)
  note(q, 'end', m.task, 'm', id, 'n', begun, 'v', verdict, 'd', delay, 'o', ARGV[3])
  return DONE
end)
keep(q)
return codes[1]

-- Begins an attempt at a leased message. STALE also when this lease has had its attempt: the verdict stands.
-- KEYS   1: the queue
-- ARGV   1: who, for people to read  2: the call, so that its repetition begins nothing new  3: id  4: token
-- Returns code (answers.Settled; CANCELLED: it was cancelled, and is not to be run), number of the attempt from 1
-- uses: base clock record moves
local q = names(KEYS[1])
local number = 0
local codes = settle(q, 3, function(id)
  if call('HEXISTS', q.cancelled, id) == 1 then return CANCELLED end
  local begun, running, by = attempts_of(q, id)
  number = begun
  if verdict_of(q, id) then return STALE end
  if running and by == ARGV[2] then return DONE end
  local m = load(q, id)
  break_off(q, m, 'begun again')
  number = begun + 1
  set_attempts(q, id, number, true, ARGV[2])
  note(q, 'begin', m.task, 'm', id, 'n', number, 'w', ARGV[1])
  return DONE
end)
keep(q)
return { codes[1], number }

-- Notes what a running attempt says about itself (progress, a log line), unless the journal is full.
-- KEYS   1: the queue
-- ARGV   1: kind (journal.py)  2: what it says  3: id  4: token
-- Returns code (answers.Settled): CANCELLED when the task was cancelled meanwhile
-- uses: base clock record moves
local q = names(KEYS[1])
local codes = settle(q, 3, function(id)
  if noting(q) and call('XLEN', q.journal) < noting(q) then
    note(q, ARGV[1], load(q, id).task, 'm', id, 'n', (attempts_of(q, id)), 'o', ARGV[2])
  end
  return call('HEXISTS', q.cancelled, id) == 1 and CANCELLED or DONE
end)
keep(q)
return codes[1]

-- Whether leases still hold, without prolonging them.
-- KEYS   1: the queue
-- ARGV   id, token, id, token, ...
-- Returns one code (answers.Settled) per id: CANCELLED when the task was cancelled meanwhile
-- uses: base clock record moves
local q = names(KEYS[1])
return settle(q, 1, function(id)
  return call('HEXISTS', q.cancelled, id) == 1 and CANCELLED or DONE
end)

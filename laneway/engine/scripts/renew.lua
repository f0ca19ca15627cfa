-- Prolongs leases.
-- KEYS   1: the queue
-- ARGV   1: lease in ms, from now; then id, token, id, token, ...
-- Returns one code (answers.Settled) per id: CANCELLED when the task was cancelled meanwhile (the lease is renewed)
-- uses: base clock record moves
local q = names(KEYS[1])
local marked = call('EXISTS', q.cancelled) == 1
local lease_end = math.floor(clock() / 1000) + tonumber(ARGV[1])
local leased = {}

local codes = settle(q, 2, function(id)
  leased[#leased + 1], leased[#leased + 2] = lease_end, id
  if marked and call('HEXISTS', q.cancelled, id) == 1 then return CANCELLED end
  return DONE
end)

if #leased > 0 then call('ZADD', q.leased, unpack(leased)) end
keep(q)
return codes

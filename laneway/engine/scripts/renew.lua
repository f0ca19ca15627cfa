-- Renews leases.
-- KEYS   1: the queue
-- ARGV   1: length of the lease in ms, from now  then id, token, id, token, ...
-- Returns one code (replies.LeaseStatus) per id: CANCELLED when the task was cancelled; its lease is renewed too
-- uses: base clock deliveries leases
local q = names(KEYS[1])
work_on_full_server(q)
local any_cancelled = call('EXISTS', q.cancelled) == 1
local lease_end = math.floor(clock() / 1000) + tonumber(ARGV[1])
local leased = {}

local codes = for_each_lease(q, 2, function(id)
  leased[#leased + 1], leased[#leased + 2] = lease_end, id
  if any_cancelled and call('HEXISTS', q.cancelled, id) == 1 then return STATUS_CANCELLED end
  return STATUS_DONE
end)

if #leased > 0 then call('ZADD', q.leased, unpack(leased)) end
extend_expiry(q)
return codes

-- Checks whether leases still hold, without renewing them.
-- KEYS   1: the queue
-- ARGV   id, token, id, token, ...
-- Returns one code (replies.LeaseStatus) per id: CANCELLED when the lease holds and the task was cancelled
-- uses: base deliveries leases
local q = names(KEYS[1])
return for_each_lease(q, 1, function(id)
  return call('HEXISTS', q.cancelled, id) == 1 and STATUS_CANCELLED or STATUS_DONE
end)

-- Records what a running attempt reports (progress, a log line). Records nothing when the journal is full.
-- KEYS   1: the queue
-- ARGV   1: kind (journal.py)  2: the report  3: id  4: token
-- Returns a code (replies.LeaseStatus): CANCELLED when the task was cancelled
-- uses: base deliveries leases attempts
local q = names(KEYS[1])
work_on_full_server(q)
local codes = for_each_lease(q, 3, function(id, _, flags)
  local task = task_of(q, id, flags)
  if task and q.most_unread and call('XLEN', q.journal) < q.most_unread then
    write_event(q, ARGV[1], task, 'm', id, 'n', (attempts_of(q, id)), 'o', ARGV[2])
  end
  return call('HEXISTS', q.cancelled, id) == 1 and STATUS_CANCELLED or STATUS_DONE
end)
extend_expiry(q)
return codes[1]

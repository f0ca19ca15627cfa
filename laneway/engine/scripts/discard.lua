-- Deletes dead letters.
-- KEYS   1: the queue
-- ARGV   ids
-- Returns one code (replies.LeaseStatus) per id
-- uses: base deliveries record attempts places queueing moves
local q = names(KEYS[1])
work_on_full_server(q)
local codes, discarded = {}, 0
for index, id in ipairs(ARGV) do
  if call('ZSCORE', q.dead, id) and delete_dead_letter(q, id, EVENT_DISCARD) then
    discarded, codes[index] = discarded + 1, STATUS_DONE
  else codes[index] = STATUS_UNKNOWN end
end
count(q, 'discarded', discarded)
extend_expiry(q)
return codes

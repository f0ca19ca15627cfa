-- Deletes a queue with everything in it, including the unread events of its journal.
-- KEYS   1: the queue
-- ARGV   none
-- Returns how many messages were deleted
-- uses: base
local q = names(KEYS[1])
local size = call('HLEN', q.messages)
for _, name in ipairs(NAMES) do call('UNLINK', q[name]) end
return size

-- Deletes a queue with everything in it, including the unread events of its journal.
-- KEYS   1: the queue
-- ARGV   none
-- Returns how many messages were deleted
-- uses: base record places flow
local q = names(KEYS[1])
local size = call('HLEN', q.messages)
for _, id in ipairs(call('HKEYS', q.slots)) do free_slots(q, id) end
for _, name in ipairs(NAMES) do call('UNLINK', q[name]) end
return size

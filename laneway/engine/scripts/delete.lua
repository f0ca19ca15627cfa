-- Deletes a queue with everything in it, its journal too, read or not.
-- KEYS   1: the queue
-- ARGV   none
-- Returns how many messages went with it
-- uses: base
local q = names(KEYS[1])
local size = call('HLEN', q.messages)
for _, name in ipairs(NAMES) do call('UNLINK', q[name]) end
return size

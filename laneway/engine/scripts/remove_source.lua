-- Removes messages of kombu's Redis transport that were put into a queue on another server.
-- KEYS   1: the source  2: its index (none for a list)
-- ARGV   per message: place, SHA-1 of the member
-- Returns the number of the messages that were still there
local call = redis.call
-- uses: source
local index, places = KEYS[2], {}
for at = 1, #ARGV, 2 do
  local place = place_now(KEYS[1], index, index and ARGV[at] or tonumber(ARGV[at]), ARGV[at + 1])
  if place then places[#places + 1] = place end
end
remove_from_source(KEYS[1], index, places)
return #places

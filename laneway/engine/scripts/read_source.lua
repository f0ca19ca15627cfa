-- Reads messages of kombu's Redis transport, the next one to be delivered first. Changes nothing.
-- KEYS   1: the source  2: its index (none for a list)
-- ARGV   1: number of messages to pass over  2: most messages  3: most bytes, of which one message may have more
-- Returns per message: place, member (false when the index names a message that the hash has not), score in the index
local call = redis.call
local source, index = KEYS[1], KEYS[2]
local skip, most, bytes_left = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local STEP = 20 -- messages that are read at once
local found = {}
if call('TYPE', source).ok ~= (index and 'hash' or 'list') then return found end -- somebody else's key
if index and call('TYPE', index).ok ~= 'zset' then return found end

local function add(place, member, score)
  bytes_left = bytes_left - (member and #member or 0)
  if bytes_left < 0 and #found > 0 then return false end
  found[#found + 1] = place
  found[#found + 1] = member
  found[#found + 1] = score
  return true
end

for first = skip, skip + most - 1, STEP do
  local last = math.min(first + STEP, skip + most) - 1
  local read = index and call('ZRANGE', index, first, last, 'WITHSCORES') or call('LRANGE', source, -1 - last, -1 - first)
  if #read == 0 then return found end
  if index then
    for at = 1, #read, 2 do
      if not add(read[at], call('HGET', source, read[at]), read[at + 1]) then return found end
    end
  else
    for at = #read, 1, -1 do
      if not add(-1 - first - (#read - at), read[at], '0') then return found end
    end
  end
end
return found

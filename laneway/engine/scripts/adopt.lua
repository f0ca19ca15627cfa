-- Moves messages of kombu's Redis transport into a queue: each one is put and removed from its source, or neither.
-- KEYS   1: the queue  2: hash: source -> number moved  3: the source, or with `copying` a set of the messages that
--        were put and may not have been removed on their own server  4: index of the source (none for a list)
-- ARGV   1: name of the source in KEYS 2  2: '1' when the source is on another server (`copying`)
--        then per message: place, SHA-1 of the member, "=id" or "?task id", record without score
-- Returns one code (replies.PutCode) per message; PUT_GONE: it was not at its place any more
-- calls: put
local call = redis.call
-- uses: source
local FIRST, WIDTH = 3, 4 -- in ARGV: the first message, and the fields of a message
local source, index, copying = KEYS[3], KEYS[4], ARGV[2] == '1'
local LEAVES = { [PUT_ACCEPTED] = true, [PUT_CANCELLED] = true, [PUT_EXISTS] = true } -- its source has it no more
local codes, places, numbers, args = {}, {}, {}, { '', '', '', '' }

-- The place of a message that is still to be put; false when there is nothing to put.
local function place_of(place, digest)
  if copying then return call('SISMEMBER', source, digest) == 0 and digest end
  return place_now(source, index, index and place or tonumber(place), digest)
end

for at = FIRST, #ARGV, WIDTH do
  local place = place_of(ARGV[at], ARGV[at + 1])
  codes[#codes + 1] = copying and PUT_ACCEPTED or PUT_GONE
  if place then
    codes[#codes] = PUT_ACCEPTED
    places[#places + 1], numbers[#numbers + 1] = place, #codes
    args[#args + 1] = ARGV[at + 2]
    args[#args + 1] = ARGV[at + 3]
  end
end
if #places == 0 then return codes end

local reply = put({ KEYS[1] }, args)
for at = 1, #reply, 3 do codes[numbers[reply[at]]] = reply[at + 1] end
local moved = {}
for number, place in ipairs(places) do
  if LEAVES[codes[numbers[number]]] then moved[#moved + 1] = place end
end
if #moved == 0 then return codes end
if copying then call('SADD', source, unpack(moved)) else remove_from_source(source, index, moved) end
call('HINCRBY', KEYS[2], ARGV[1], #moved)
return codes

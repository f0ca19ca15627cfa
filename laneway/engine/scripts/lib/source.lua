-- Where kombu's Redis transport keeps messages: a list, whose tail is delivered first, or a hash of delivered messages
-- that were not acknowledged, with a sorted set of its fields. A place is an index from the tail (-1, -2, ...) or a field.
local MOST_SHIFT = 1000 -- between reading and moving, consumers may have taken so many messages from the tail of a list
local shift = 0

local function is_at(source, place, digest)
  local member = call('LINDEX', source, place)
  return member and redis.sha1hex(member) == digest
end

-- The place of the member with this SHA-1 now, or false when somebody else has taken it.
local function place_now(source, index, place, digest)
  if index then
    local member = call('HGET', source, place)
    return member and redis.sha1hex(member) == digest and place
  end
  for further = shift, math.min(-1 - place, shift + MOST_SHIFT) do
    if is_at(source, place + further, digest) then
      shift = further
      return place + further
    end
  end
  return false
end

local function remove_from_source(source, index, places)
  if #places == 0 then return end
  if index then
    call('HDEL', source, unpack(places))
    call('ZREM', index, unpack(places))
    return
  end
  local removed = '\0laneway: moved to the engine' -- no message begins with NUL, because a message is JSON
  for _, place in ipairs(places) do call('LSET', source, place, removed) end
  call('LREM', source, -#places, removed)
end

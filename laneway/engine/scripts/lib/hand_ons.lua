-- Reads and writes the entries of `handed_on`: since when (ms), how often, how often by a consumer that had done so
-- before, and by whom.
local function read_hand_ons(value)
  if not value or #value < 12 then return false end
  local first, times, rounds = struct.unpack('>dHH', value)
  local h = { first = first, times = times, rounds = rounds, owners = {} }
  for own in string.gmatch(string.sub(value, 13), '[^\n]+') do h.owners[#h.owners + 1] = own end
  return h
end

local function set_hand_ons(q, id, h)
  local counts = struct.pack('>dHH', h.first, math.min(h.times, MAX_COUNT), math.min(h.rounds, MAX_COUNT))
  call('HSET', q.handed_on, id, counts .. table.concat(h.owners, '\n'))
end

-- The consumer that holds leases with such tokens: owner, random part, number.
local function owner_of(token) return string.match(token, '^(.*)/') or token end

local function is_owner(h, own)
  for _, other in ipairs(h.owners) do if other == own then return true end end
  return false
end

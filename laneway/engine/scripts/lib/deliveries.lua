-- Reads and writes the entries of `deliveries`: the count, flags and score of the record, token of the lease ('' when it
-- is not leased).
local HOLDS_SLOTS = 128 -- a flag that only these entries have: the message occupies limits
local HAS_TIES = HAS_TASK + HAS_KEY + HAS_UNIQUE + HAS_FLOW + HOLDS_SLOTS -- ending such a message changes other keys too
local MAX_COUNT = 65535 -- counts are stored in 2 bytes

local function pack_delivery(deliveries, flags, score, token)
  return struct.pack('>HBd', math.min(deliveries, MAX_COUNT), flags, score) .. token
end

local function unpack_delivery(value)
  local deliveries, flags, score = 1, 0, 0
  if #value >= 11 then deliveries, flags, score = struct.unpack('>HBd', value) end -- else pack_delivery did not write it
  return deliveries, flags, score, string.sub(value, 12)
end

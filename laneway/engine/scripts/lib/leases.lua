-- Calls `act(id, deliveries, flags, score, token)` for each lease in ARGV[first], ARGV[first + 1], ... (id, token, id,
-- token, ...) that is still held with its token. `act` returns the lease's code.
-- Returns one code (replies.LeaseStatus) per lease.
local function for_each_lease(q, first, act)
  local ids, codes, seen = {}, {}, {}
  for index = first, #ARGV, 2 do ids[#ids + 1] = ARGV[index] end
  if #ids == 0 then return codes end
  local values = call('HMGET', q.deliveries, unpack(ids))
  for index, id in ipairs(ids) do
    local value = values[index]
    if not value or seen[id] then codes[index] = STATUS_UNKNOWN
    else
      local deliveries, flags, score, token = unpack_delivery(value)
      if token == '' or token ~= ARGV[first + index * 2 - 1] then codes[index] = STATUS_STALE
      else
        seen[id] = true
        codes[index] = act(id, deliveries, flags, score, token)
      end
    end
  end
  return codes
end

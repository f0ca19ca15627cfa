-- Stores states of tasks and publishes them. A success is never overwritten; a finished task never becomes unfinished.
-- KEYS   the results' keys, which are also the names of the channels
-- ARGV   for each: payload, seconds to keep it (0: forever), '1' when the state is final
-- Returns one code (replies.StoreCode) per key
local FINAL = { FAILURE = true, REVOKED = true }

-- Stores a value. A server whose memory is full refuses that only as the first write of a script.
local function set(key, payload, seconds)
  local command = seconds == '0' and { 'SET', key, payload } or { 'SET', key, payload, 'EX', seconds }
  local reply = redis.pcall(unpack(command))
  if not reply.err then return end
  redis.call('PERSIST', key)
  redis.call(unpack(command))
end

local codes = {}
for index, key in ipairs(KEYS) do
  local payload, seconds, final = ARGV[3 * index - 2], ARGV[3 * index - 1], ARGV[3 * index]
  local code, head = RESULT_STORED, redis.call('GETRANGE', key, 0, 63)
  if head ~= '' then
    local state = string.match(head, '^{"status": ?"([^"]+)"')
    if not state then
      code = RESULT_UNREADABLE
    elseif state == 'SUCCESS' or (final ~= '1' and FINAL[state]) then
      code = RESULT_KEPT
    end
  end
  if code == RESULT_STORED then
    set(key, payload, seconds)
    redis.call('PUBLISH', key, payload)
  end
  codes[index] = code
end
return codes

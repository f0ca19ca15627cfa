-- Stores states of tasks and publishes them. A success is never overwritten; a finished task never becomes unfinished.
-- KEYS   the results' keys, which are also the names of the channels
-- ARGV   for each: payload, seconds to keep it (0: forever), '1' when the state is final
-- Returns one code (replies.StoreCode) per key
local FINAL = { FAILURE = true, REVOKED = true }

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
    redis.call('PERSIST', key) -- takes no memory; after it a server whose memory is full takes the result
    if seconds == '0' then
      redis.call('SET', key, payload)
    else
      redis.call('SET', key, payload, 'EX', seconds)
    end
    redis.call('PUBLISH', key, payload)
  end
  codes[index] = code
end
return codes

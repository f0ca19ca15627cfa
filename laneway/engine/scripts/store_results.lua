-- Stores states of tasks and tells who waits for them. A success stays, whatever comes later; a task that
-- has finished never becomes unfinished again.
-- KEYS     the results' keys, which are also the names of the channels
-- ARGV     for each: payload, seconds to keep it (0: for ever), "1" when the state is final
-- returns  for each: 1 stored; 0 refused; -1 the value that is there does not show its state
local FINAL = { FAILURE = true, REVOKED = true }

local codes = {}
for i, key in ipairs(KEYS) do
  local payload, seconds, final = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local code, head = 1, redis.call('GETRANGE', key, 0, 63)
  if head ~= '' then
    local status = string.match(head, '^{"status": ?"([^"]+)"')
    if not status then
      code = -1
    elseif status == 'SUCCESS' or (final ~= '1' and FINAL[status]) then
      code = 0
    end
  end
  if code == 1 then
    if seconds == '0' then
      redis.call('SET', key, payload)
    else
      redis.call('SET', key, payload, 'EX', seconds)
    end
    redis.call('PUBLISH', key, payload)
  end
  codes[i] = code
end
return codes

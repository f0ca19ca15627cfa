-- Reads limits that tasks share.
-- KEYS   1: the prefix of a queue
-- ARGV   the limits
-- Returns per limit: its fields, the points that leased messages hold, the messages that wait for it as a list of prefix of
--        a queue, messages; until when nothing is let through for all keys (ms; nil: nothing blocks it); now, and until
--        when the rate of the key that has used most of it is used up (us)
-- uses: base clock record places flow
local q, us, reply = names(KEYS[1]), clock(), {}
for _, name in ipairs(ARGV) do
  local waiting = {}
  for _, member in ipairs(call('ZRANGE', flow_key(q, 'waiting', name), 0, BATCH - 1)) do
    local key = line_of(member)
    local prefix = length_prefixed(name .. '\0' .. key)
    local queue = string.sub(member, #key + 3)
    waiting[#waiting + 1] = queue
    waiting[#waiting + 1] = call('ZLEXCOUNT', queue .. ':limited', '[' .. prefix, '(' .. prefix .. '\2')
  end
  local till = tonumber(call('ZSCORE', flow_key(q, 'blocked', name), '') or nil)
  reply[#reply + 1] = call('HGETALL', flow_key(q, 'config', name))
  reply[#reply + 1] = call('ZCARD', flow_key(q, 'running', name))
  reply[#reply + 1] = waiting
  reply[#reply + 1] = till and till > us and math.floor(till / 1000) or false
  reply[#reply + 1] = string.format('%.0f', us)
  reply[#reply + 1] = call('ZREVRANGE', flow_key(q, 'used', name), 0, 0, 'WITHSCORES')[2] or '0'
end
return reply

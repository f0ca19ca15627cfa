-- Sets and removes limits of a queue; pauses and resumes it.
-- KEYS   1: the queue
-- ARGV   name, value, name, value, ...: the value '' removes the limit
-- Returns nothing
-- uses: base
local q = names(KEYS[1])
work_on_full_server(q)
for index = 1, #ARGV, 2 do
  local name, value = ARGV[index], ARGV[index + 1]
  if value == '' then
    local removed = call('HDEL', q.limits, name) == 1
    if removed and name == 'expires' then
      for _, key in ipairs(NAMES) do call('PERSIST', q[key]) end
    end
  else call('HSET', q.limits, name, value) end
  if name == 'expires' then q.expires = tonumber(value) or false end
end
wake_consumer(q)
extend_expiry(q)

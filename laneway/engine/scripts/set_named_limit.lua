-- Sets or removes a limit that tasks share. The messages that wait for it are looked at again.
-- KEYS   1: the prefix of a queue
-- ARGV   1: the limit  then name, value, name, value, ...: the value '' removes the field
-- Returns nothing
-- uses: base record places flow
local q, config = names(KEYS[1]), nil
config = flow_key(q, 'config', ARGV[1])
for index = 2, #ARGV, 2 do
  if ARGV[index + 1] == '' then call('HDEL', config, ARGV[index]) else call('HSET', config, ARGV[index], ARGV[index + 1]) end
end
for _, member in ipairs(call('ZRANGE', flow_key(q, 'waiting', ARGV[1]), 0, -1)) do
  local key = line_of(member)
  local readable, other = pcall(names, string.sub(member, #key + 3))
  if readable then
    call('ZADD', other.lines, 'XX', 0, ARGV[1] .. '\0' .. key)
    wake_consumer(other)
    extend_expiry(other)
  end
end

-- Sets or removes limits of a queue, and pauses or resumes it.
-- KEYS   1: the queue
-- ARGV   name, value, name, value, ...: '' removes
-- Returns nothing
-- uses: base
local q = names(KEYS[1])
for at = 1, #ARGV, 2 do
  if ARGV[at + 1] == '' then
    local lifted = call('HDEL', q.limits, ARGV[at]) == 1
    if lifted and ARGV[at] == 'expires' then
      for _, name in ipairs(NAMES) do call('PERSIST', q[name]) end
    end
  else call('HSET', q.limits, ARGV[at], ARGV[at + 1]) end
end
ring(q)
keep(q)

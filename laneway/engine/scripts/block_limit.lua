-- Lets nothing through a limit for a while: what it protects has asked for that.
-- KEYS   1: the prefix of a queue
-- ARGV   1: the limit  2: the key ('': for all keys)  3: for how long (ms)
-- Returns nothing
-- uses: base clock record places flow
local q, us = names(KEYS[1]), clock()
local blocked = flow_key(q, 'blocked', ARGV[1])
call('ZREMRANGEBYSCORE', blocked, '-inf', string.format('%.0f', us))
call('ZADD', blocked, 'GT', string.format('%.0f', us + tonumber(ARGV[3]) * 1000), ARGV[2])

-- Runs a command that must not run twice, such as INCR. A repeat of the call, after its reply was lost, gets the first
-- reply (60 s).
-- KEYS   1: where the reply is remembered; another one for each call  2: the key of the command, if it has one
-- ARGV   1: the command  then its other arguments
-- Returns the reply, which must be a number
local before = redis.call('GET', KEYS[1])
if before then return tonumber(before) end
redis.call('DEL', KEYS[1]) -- takes no memory; after it a server whose memory is full takes the rest
local command = { ARGV[1], unpack(KEYS, 2) }
for index = 2, #ARGV do command[#command + 1] = ARGV[index] end
local reply = redis.call(unpack(command))
redis.call('SET', KEYS[1], reply, 'PX', 60000)
return reply

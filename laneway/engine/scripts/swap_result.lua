-- Stores a state of a task if its result has not changed since it was read.
-- KEYS   the result's key
-- ARGV   what was read, payload, seconds to keep it (0: forever)
-- Returns a code (replies.StoreCode): KEPT when another client changed the result first
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return RESULT_KEPT
end
redis.call('PERSIST', KEYS[1]) -- takes no memory; after it a server whose memory is full takes the result
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
redis.call('PUBLISH', KEYS[1], ARGV[2])
return RESULT_STORED

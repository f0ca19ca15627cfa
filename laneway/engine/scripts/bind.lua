-- Binds a queue to an exchange, also on a server whose memory is full: a worker binds its queues when it connects.
-- KEYS   1: the bindings of the exchange
-- ARGV   1: the binding
redis.call('PERSIST', KEYS[1]) -- takes no memory; after it a server whose memory is full takes the binding
return redis.call('SADD', KEYS[1], ARGV[1])

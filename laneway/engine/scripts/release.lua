-- Returns leased messages to their old position, at once or after a delay. If a message has an ack action, that is
-- carried out instead.
-- KEYS   1: the queue
-- ARGV   1: delay in ms  2: '1' when the delivery counts  then id, token, id, token, ...
-- Returns one code (replies.LeaseStatus) per id: CANCELLED when the task was cancelled (the message is deleted), BURIED
--        when the message has reached its limit of deliveries
-- uses: base clock deliveries leases record attempts places queueing moves
local q = names(KEYS[1])
work_on_full_server(q)
local now = math.floor(clock() / 1000)
local delay, counted = tonumber(ARGV[1]), ARGV[2] == '1'
local released = 0

local codes = for_each_lease(q, 3, function(id, deliveries, flags, score)
  local m = load(q, id)
  if not m then
    drop_unreadable(q, { id }, now)
    return STATUS_UNKNOWN
  end
  lose_attempt(q, m, 'released')
  local code = settle_if_decided(q, m, now)
  if code then return code end
  if counted then
    if deliveries >= max_deliveries(q, m) then
      bury(q, m, deliveries, 'poison', 'given back at delivery ' .. deliveries, now)
      return STATUS_BURIED
    end
  else deliveries = deliveries - 1 end
  end_lease(q, id)
  if deliveries > 0 then call('HSET', q.deliveries, id, pack_delivery(deliveries, flags, score, ''))
  else call('HDEL', q.deliveries, id) end
  enqueue(q, m, delay > 0 and now + delay, now)
  released = released + 1
  return STATUS_DONE
end)

count(q, 'released', released)
extend_expiry(q)
return codes

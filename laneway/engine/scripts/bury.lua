-- Makes leased messages dead letters. If a message has an ack action, that is carried out instead, because it was
-- recorded first.
-- KEYS   1: the queue
-- ARGV   1: reason  2: error  then id, token, id, token, ...
-- Returns one code (replies.LeaseStatus) per id
-- uses: base clock deliveries leases record attempts places queueing moves
local q = names(KEYS[1])
work_on_full_server(q)
local now = math.floor(clock() / 1000)
local codes = for_each_lease(q, 3, function(id, deliveries)
  local m = load(q, id)
  if not m then
    drop_unreadable(q, { id }, now)
    return STATUS_UNKNOWN
  end
  local code = ack_action_of(q, id) and settle_if_decided(q, m, now)
  if code then return code end
  bury(q, m, deliveries, ARGV[1], ARGV[2], now)
  return STATUS_DONE
end)
extend_expiry(q)
return codes

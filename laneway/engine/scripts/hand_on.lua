-- Hands leased messages on to other consumers: returns them to their old position after a delay that doubles each time.
-- The delivery does not count. A message that is handed on for too long becomes a dead letter. If a message has an ack
-- action, that is carried out instead.
-- KEYS   1: the queue
-- ARGV   1: the first delay in ms  2: the longest delay in ms  3: for how long in ms  4: the reason  5: the error of the
--        dead letter  6: a log line for the journal, written the first time  then id, token, id, token, ...
-- Returns one code (replies.LeaseStatus) per id: CANCELLED when the task was cancelled (the message is deleted), BURIED
--        when the message has become a dead letter
-- uses: base clock record moves
local q = names(KEYS[1])
work_on_full_server(q)
local now = math.floor(clock() / 1000)
local first_delay, longest_delay, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local handed_on = 0

-- Counts this time; returns when the message was first handed on, and how often it was before. The entry is deleted
-- together with the message's attempts, so the message gets an entry of these as well.
local function count_hand_on(m)
  local value, first, times = call('HGET', q.handed_on, m.id), now, 0
  if value then first, times = struct.unpack('>dH', value) end
  call('HSET', q.handed_on, m.id, struct.pack('>dH', first, math.min(times + 1, MAX_COUNT)))
  local started, _, call_id = attempts_of(q, m.id)
  set_attempts(q, m.id, started, false, call_id)
  return first, times
end

local codes = for_each_lease(q, 7, function(id, deliveries, flags, score)
  local m = load(q, id)
  if not m then
    drop_unreadable(q, { id }, now)
    return STATUS_UNKNOWN
  end
  lose_attempt(q, m, 'handed on')
  local code = settle_if_decided(q, m, now)
  if code then return code end
  local first, times = count_hand_on(m)
  if now - first >= longest then
    bury(q, m, deliveries, ARGV[4], ARGV[5], now)
    return STATUS_BURIED
  end
  if times == 0 and journal_limit(q) and call('XLEN', q.journal) < journal_limit(q) then
    write_event(q, EVENT_LOG, m.task, 'm', id, 'n', (attempts_of(q, id)), 'o', ARGV[6])
  end
  call('ZREM', q.leased, id)
  if deliveries > 1 then call('HSET', q.deliveries, id, pack_delivery(deliveries - 1, flags, score, ''))
  else call('HDEL', q.deliveries, id) end
  enqueue(q, m, now + math.min(longest_delay, first_delay * 2 ^ math.min(times, 32)), now)
  handed_on = handed_on + 1
  return STATUS_DONE
end)

count(q, 'handed_on', handed_on)
extend_expiry(q)
return codes

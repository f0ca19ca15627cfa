-- Hands leased messages on to other consumers, without counting the delivery. A message goes back to its old position: at
-- once for consumers that have not met it, and later for those that have handed it on (`fetch.lua`). When one of these
-- gets it again, all wait, twice as long each time. A message that is handed on for too long becomes a dead letter. If a
-- message has an ack action, that is carried out instead.
-- KEYS   1: the queue
-- ARGV   1: the first delay in ms  2: the longest delay in ms  3: for how long in ms  4: the reason  5: the error of the
--        dead letter  6: a log line for the journal, written the first time  then id, token, id, token, ...
-- Returns one code (replies.LeaseStatus) per id: CANCELLED when the task was cancelled (the message is deleted), BURIED
--        when the message has become a dead letter
-- uses: base clock deliveries leases record attempts hand_ons places queueing moves
local MOST_OWNERS = 32 -- consumers that a message remembers; with more of them, it waits each time
local q = names(KEYS[1])
work_on_full_server(q)
local now = math.floor(clock() / 1000)
local first_delay, longest_delay, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local handed_on = 0

-- Adds a consumer to those that have handed the message on; returns when it may be delivered to another one. The entry
-- is deleted together with the message's attempts, so the message gets an entry of these as well.
local function due_after(m, h, token)
  local due, own = now, owner_of(token)
  if is_owner(h, own) or #h.owners >= MOST_OWNERS then
    due = now + math.min(longest_delay, first_delay * 2 ^ math.min(h.rounds, 32))
    h.rounds = h.rounds + 1
  end
  if not is_owner(h, own) then h.owners[#h.owners + 1] = own end
  if #h.owners > MOST_OWNERS then table.remove(h.owners, 1) end
  h.times = h.times + 1
  set_hand_ons(q, m.id, h)
  local started, _, call_id = attempts_of(q, m.id)
  set_attempts(q, m.id, started, false, call_id)
  return due
end

local codes = for_each_lease(q, 7, function(id, deliveries, flags, score, token)
  local m = load(q, id)
  if not m then
    drop_unreadable(q, { id }, now)
    return STATUS_UNKNOWN
  end
  lose_attempt(q, m, 'handed on')
  local code = settle_if_decided(q, m, now)
  if code then return code end
  local h = has_attempts(q) and read_hand_ons(call('HGET', q.handed_on, id)) or { first = now, times = 0, rounds = 0, owners = {} }
  if now - h.first >= longest then
    bury(q, m, deliveries, ARGV[4], ARGV[5], now)
    return STATUS_BURIED
  end
  if h.times == 0 and q.most_unread and call('XLEN', q.journal) < q.most_unread then
    write_event(q, EVENT_LOG, m.task, 'm', id, 'n', (attempts_of(q, id)), 'o', ARGV[6])
  end
  local due = due_after(m, h, token)
  end_lease(q, id)
  if deliveries > 1 then call('HSET', q.deliveries, id, pack_delivery(deliveries - 1, flags, score, ''))
  else call('HDEL', q.deliveries, id) end
  call('ZADD', q.scheduled, due, id)
  handed_on = handed_on + 1
  return STATUS_DONE
end)

if handed_on > 0 then
  call('HSET', q.limits, 'handed_on', 1)
  wake_consumer(q)
end
count(q, 'handed_on', handed_on)
extend_expiry(q)
return codes

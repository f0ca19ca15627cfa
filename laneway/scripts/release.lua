-- Gives leased messages back: to their old place, or after a delay.
-- KEYS   1: the queue
-- ARGV   1: delay in ms  2: '1' when the delivery counts  then id, token, id, token, ...
-- Returns one code (answers.Settled) per id: CANCELLED when it was marked (it is gone), BURIED when it has been
--        delivered as often as it may
-- uses: base clock record moves
local q = names(KEYS[1])
local now = math.floor(clock() / 1000)
local delay, counted = tonumber(ARGV[1]), ARGV[2] == '1'
local released, dropped = 0, 0

local codes = settle(q, 3, function(id, times, flags, score)
  if call('HEXISTS', q.cancelled, id) == 1 then
    finish(q, load(q, id), now)
    dropped = dropped + 1
    return CANCELLED
  end
  if counted then
    local m = load(q, id)
    if times >= most_deliveries(q, m) then
      bury(q, m, times, 'poison', 'given back at delivery ' .. times, now)
      return BURIED
    end
  else times = times - 1 end
  call('ZREM', q.leased, id)
  if times > 0 then call('HSET', q.deliveries, id, pack_delivery(times, flags, score, ''))
  else call('HDEL', q.deliveries, id) end
  place(q, { id = id, score = score }, delay > 0 and now + delay, now)
  released = released + 1
  return DONE
end)

count(q, 'released', released)
count(q, 'cancelled', dropped)
keep(q)
return codes

-- Gives leased messages back: to their old place, or after a delay. A verdict that one's attempt came to goes first.
-- KEYS   1: the queue
-- ARGV   1: delay in ms  2: '1' when the delivery counts  then id, token, id, token, ...
-- Returns one code (answers.Settled) per id: CANCELLED when it was marked (it is gone), BURIED when it has been
--        delivered as often as it may
-- uses: base clock record moves
local q = names(KEYS[1])
local now = math.floor(clock() / 1000)
local delay, counted = tonumber(ARGV[1]), ARGV[2] == '1'
local released = 0

local codes = settle(q, 3, function(id, times, flags, score)
  local m = load(q, id)
  break_off(q, m, 'released')
  local code = wind_up(q, m, now)
  if code then return code end
  if counted then
    if times >= most_deliveries(q, m) then
      bury(q, m, times, 'poison', 'given back at delivery ' .. times, now)
      return BURIED
    end
  else times = times - 1 end
  call('ZREM', q.leased, id)
  if times > 0 then call('HSET', q.deliveries, id, pack_delivery(times, flags, score, ''))
  else call('HDEL', q.deliveries, id) end
  place(q, m, delay > 0 and now + delay, now)
  released = released + 1
  return DONE
end)

count(q, 'released', released)
keep(q)
return codes

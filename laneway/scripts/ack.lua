-- Ends leased messages: their work is done.
-- KEYS   1: the queue
-- ARGV   id, token, id, token, ...
-- Returns one code (answers.Settled) per id: CANCELLED when it was marked, and is gone all the same
-- uses: base clock record moves
local q = names(KEYS[1])
local marked = call('EXISTS', q.cancelled) == 1
local now, plain, tied = nil, {}, 0

local codes = settle(q, 1, function(id, _, flags)
  local code = DONE
  if marked and call('HDEL', q.cancelled, id) == 1 then code = CANCELLED end
  if bit.band(flags, HAS_TIES) == 0 then plain[#plain + 1] = id
  else
    now = now or math.floor(clock() / 1000)
    finish(q, load(q, id), now)
    tied = tied + 1
  end
  return code
end)

if #plain > 0 then
  call('ZREM', q.leased, unpack(plain))
  call('HDEL', q.deliveries, unpack(plain))
  call('HDEL', q.messages, unpack(plain))
end
count(q, 'acked', #plain + tied)
if call('HEXISTS', q.limits, 'max_in_flight') == 1 then ring(q) end
return codes

-- Ends leased messages: their work is done. One whose verdict is to be tried again goes back to its place instead.
-- KEYS   1: the queue
-- ARGV   id, token, id, token, ...
-- Returns one code (answers.Settled) per id: CANCELLED when it was marked, and is gone all the same
-- uses: base clock record moves
local q = names(KEYS[1])
local marked = call('EXISTS', q.cancelled) == 1
local limits = call('HMGET', q.limits, 'journal', 'max_in_flight', 'expires')
noted[q.journal] = tonumber(limits[1]) or false
local now, plain, tied = nil, {}, 0

local function time()
  now = now or math.floor(clock() / 1000)
  return now
end

-- True when the verdict asks for something else than the end.
local function goes_on(id, flags, code)
  local verdict, delay = verdict_of(q, id)
  if verdict == DONE_WITH then return false end
  local m = (verdict or bit.band(flags, HAS_TIES) ~= 0) and load(q, id)
  if not verdict then
    note(q, 'ack', m and m.task or id, 'm', id, 'n', (attempts_of(q, id)))
    return false
  end
  if code == CANCELLED then drop(q, m, time())
  else try_again(q, m, delay, time()) end
  return true
end

local codes = settle(q, 1, function(id, _, flags)
  local code = DONE
  if marked and call('HDEL', q.cancelled, id) == 1 then code = CANCELLED end
  if (attempted(q) or noting(q)) and goes_on(id, flags, code) then return code end
  if bit.band(flags, HAS_TIES) == 0 then plain[#plain + 1] = id
  else
    finish(q, load(q, id), time())
    tied = tied + 1
  end
  return code
end)

if #plain > 0 then
  call('ZREM', q.leased, unpack(plain))
  call('HDEL', q.deliveries, unpack(plain))
  call('HDEL', q.messages, unpack(plain))
  forget_attempts(q, unpack(plain))
end
count(q, 'acked', #plain + tied)
if limits[2] then ring(q) end
if limits[3] then touch(q, limits[3]) end
return codes

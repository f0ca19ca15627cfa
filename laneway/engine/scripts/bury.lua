-- Makes dead letters of leased messages. A verdict that one's attempt came to goes first: it has been noted already.
-- KEYS   1: the queue
-- ARGV   1: reason  2: error  then id, token, id, token, ...
-- Returns one code (answers.Settled) per id
-- uses: base clock record moves
local q = names(KEYS[1])
local now = math.floor(clock() / 1000)
local codes = settle(q, 3, function(id, times)
  local m = load(q, id)
  local code = verdict_of(q, id) and wind_up(q, m, now)
  if code then return code end
  bury(q, m, times, ARGV[1], ARGV[2], now)
  return DONE
end)
keep(q)
return codes

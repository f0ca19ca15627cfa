-- Reads how long work has waited in queues: for a consumer, and for the reader of the journal.
-- KEYS   the queues
-- ARGV   none
-- Returns per queue: since when in ms the first ready message of each priority has waited, at most (nil: none is ready),
--        the number of events in the journal, the cursor of the first (nil: none). Two nils for a queue that is damaged
-- uses: base record
local function since_of(q, id, score)
  local record = call('HEXISTS', q.ranks, id) == 1 and call('HGET', q.messages, id)
  score = record and #record >= 8 and struct.unpack('>d', record) or score
  local since = math.floor((EPOCH_US + score % SPAN * TICK_US) / 1000)
  if call('HSTRLEN', q.messages, id) > LARGE then return since end -- to read it costs too much
  local m = load(q, id)
  return m and m.eta and math.max(since, m.eta) or since
end

local function ready_since(q)
  local first
  for priority = 0, 9 do
    local low, high = string.format('%.0f', priority * SPAN), string.format('(%.0f', (priority + 1) * SPAN)
    local found = call('ZRANGEBYSCORE', q.ready, low, high, 'WITHSCORES', 'LIMIT', 0, 1)
    local since = found[1] and since_of(q, found[1], tonumber(found[2]))
    if since and since < (first or math.huge) then first = since end
  end
  return first or false
end

local function lags_of(q)
  local first = call('XRANGE', q.journal, '-', '+', 'COUNT', 1)[1]
  return { ready_since(q), call('XLEN', q.journal), first and first[1] or false }
end

local reply = {}
for index, prefix in ipairs(KEYS) do
  local readable, lags = pcall(lags_of, keys_of(prefix)) -- also of a queue that a newer version has changed
  reply[index] = readable and lags or { false, 0, false }
end
return reply

-- Deletes the entries of a journal that its reader has stored, and keeps the cursor of the last one. A reader that comes
-- with an earlier cursor is an older copy of that reader; if the queue has an earlier cursor, the queue is an older copy.
-- KEYS   1: the queue
-- ARGV   1: time in ms  2: number, the two parts of the cursor
-- uses: base
local q = names(KEYS[1])
local ms, number = tonumber(ARGV[1]), tonumber(ARGV[2])
if call('EXISTS', q.journal) == 0 then return end
work_on_full_server(q)
call('XTRIM', q.journal, 'MINID', ARGV[1] .. '-' .. string.format('%.0f', number + 1))
local recorded_ms, recorded_number = string.match(call('HGET', q.counters, 'recorded') or '', '^(%d+)%-(%d+)$')
recorded_ms, recorded_number = tonumber(recorded_ms) or 0, tonumber(recorded_number) or 0
if ms > recorded_ms or (ms == recorded_ms and number > recorded_number) then
  call('HSET', q.counters, 'recorded', ARGV[1] .. '-' .. ARGV[2])
end
extend_expiry(q)

-- Gives the waiting messages of tasks another priority. Each keeps its number among those of the same priority.
-- KEYS   1: the queue
-- ARGV   1: the priority, 0 to 9  2...: task ids
-- Returns one code (replies.LeaseStatus) per task: DONE, or UNKNOWN when the queue has no waiting message of it
-- uses: base record places queueing flow
local q = names(KEYS[1])
local priority = tonumber(ARGV[1])

local function change(id)
  if call('ZSCORE', q.dead, id) or call('ZSCORE', q.leased, id) then return false end
  local m = load(q, id)
  if not m then return false end
  local record, score = call('HGET', q.messages, id), (9 - priority) * SPAN + m.score % SPAN
  local format = string.byte(record, RECORD + 1) - m.priority
  call('HSET', q.messages, id, struct.pack('>dBB', score, m.flags, format + priority) .. string.sub(record, RECORD + 2))
  m.score, m.priority = score, priority
  call('ZADD', q.ready, 'XX', ready_score(q, m), id)
  move_in_line(q, m)
  return true
end

local codes = {}
for index = 2, #ARGV do
  local code = STATUS_UNKNOWN
  for _, id in ipairs(messages_of_task(q, ARGV[index], '')) do
    if change(id) then code = STATUS_DONE end
  end
  codes[#codes + 1] = code
end
extend_expiry(q)
return codes

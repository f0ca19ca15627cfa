-- Makes the scheduled messages of a task due now. Messages in other states stay as they are.
-- KEYS   1: the queue
-- ARGV   1: the task id
-- Returns how many messages were made due, and how many are leased
-- uses: base clock record places queueing
local q = names(KEYS[1])
work_on_full_server(q)
local now = math.floor(clock() / 1000)
local woken, leased = 0, 0
for _, id in ipairs(messages_of_task(q, ARGV[1], '')) do
  if call('ZSCORE', q.leased, id) then leased = leased + 1
  elseif call('ZSCORE', q.scheduled, id) then
    local m = load(q, id)
    if m then -- what only a newer version can read, or nobody, is left for the next fetch
      call('ZREM', q.scheduled, id)
      enqueue(q, m, false, now)
      woken = woken + 1
    end
  end
end
extend_expiry(q)
return { woken, leased }

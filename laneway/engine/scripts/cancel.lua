-- Cancels a task: its waiting messages are gone at once, a leased one is marked; renew and ack tell its holder, and
-- should it come back it is dropped.
-- KEYS   1: the queue
-- ARGV   1: the task id
-- Returns how many messages were removed, marked, and are dead letters (those stay)
-- uses: base clock record moves
local q = names(KEYS[1])
local now = math.floor(clock() / 1000)
local ids = siblings(q, { id = '', task = ARGV[1] })
local removed, marked, dead = 0, 0, 0
for index = #ids, 1, -1 do
  local id = ids[index]
  if call('ZSCORE', q.dead, id) then dead = dead + 1
  elseif call('ZSCORE', q.leased, id) then
    if call('HSET', q.cancelled, id, now) == 1 then note(q, 'mark', ARGV[1], 'm', id) end
    marked = marked + 1
  else
    call('ZREM', q.ready, id)
    call('ZREM', q.scheduled, id)
    note(q, 'cancel', ARGV[1], 'm', id)
    forget(q, load(q, id), now)
    removed = removed + 1
  end
end
count(q, 'cancelled', removed)
keep(q)
return { removed, marked, dead }

-- Throws away what waits (held, scheduled, ready), a batch at a time; leased messages and dead letters stay.
-- KEYS   1: the queue
-- ARGV   1: the most to remove
-- Returns how many were removed; fewer than the most when nothing is left
-- uses: base clock record moves
local q = names(KEYS[1])
local now = math.floor(clock() / 1000)
local most, removed = math.min(tonumber(ARGV[1]), BATCH), 0
for _, state in ipairs({ 'held', 'scheduled', 'ready' }) do
  local members = removed < most and call('ZRANGE', q[state], 0, most - removed - 1) or {}
  for _, member in ipairs(members) do
    local id = state == 'held' and string.sub(member, string.byte(member) + 11) or member
    local m = load(q, id)
    note(q, 'purge', m.task, 'm', id)
    call('ZREM', q[state], member)
    forget(q, m, now)
    removed = removed + 1
  end
end
count(q, 'purged', removed)
keep(q)
return removed

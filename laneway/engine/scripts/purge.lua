-- Deletes messages that wait (held, limited, scheduled, ready). Leased messages and dead letters stay.
-- KEYS   1: the queue
-- ARGV   1: the most to delete, at most BATCH
-- Returns how many were looked at: fewer than ARGV[1] when none is left, and how many were deleted. A message that only a
--        newer version can read is set aside instead
-- uses: base clock deliveries record attempts places queueing moves
local q = names(KEYS[1])
work_on_full_server(q)
local now = math.floor(clock() / 1000)
local limit, seen, removed, purged = math.min(tonumber(ARGV[1]), BATCH), 0, 0, {}
for _, state in ipairs({ STATE_HELD, STATE_LIMITED, STATE_SCHEDULED, STATE_READY }) do
  local members = seen < limit and call('ZRANGE', q[state], 0, limit - seen - 1) or {}
  for _, member in ipairs(members) do
    local id = (state == STATE_HELD or state == STATE_LIMITED) and id_of_member(member) or member
    local m = load(q, id)
    call('ZREM', q[state], member)
    if m then
      purged[#purged + 1] = length_prefixed(m.task) .. length_prefixed(id)
      delete_message(q, m, now)
    else drop_unreadable(q, { id }, now) end
    seen = seen + 1
    if not call('ZSCORE', q.set_aside, id) then removed = removed + 1 end
  end
end
if #purged > 0 then write_event(q, EVENT_PURGE, '', 'm', '', 'l', table.concat(purged)) end -- one entry for all
count(q, 'purged', removed)
extend_expiry(q)
return { seen, removed }

-- Throws dead letters away.
-- KEYS   1: the queue
-- ARGV   ids
-- Returns one code (answers.Settled) per id
-- uses: base record moves
local q = names(KEYS[1])
local codes, discarded = {}, 0
for index, id in ipairs(ARGV) do
  if call('ZSCORE', q.dead, id) then
    forget_dead(q, id, 'discard')
    discarded, codes[index] = discarded + 1, DONE
  else codes[index] = UNKNOWN end
end
count(q, 'discarded', discarded)
keep(q)
return codes

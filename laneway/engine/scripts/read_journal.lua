-- Reads the oldest entries of the journal, at least one if there is one. The server would also read a range without a
-- bound by bytes, which may take all its memory.
-- KEYS   1: the queue
-- ARGV   1: cursor after which to read  2: the most entries  3: bytes after which no further entry is read
-- Returns the cursor up to which the journal was trimmed (nil: never), 1 if the journal has the entry at the cursor
--        ARGV[1], the entries: id, fields
-- uses: base
local STEP = 8 -- entries that are read at once, so that large ones are not read in vain
local q = names(KEYS[1])
local after, left, room = '(' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local entries_read = {}

-- Adds entries to those that are returned while there is room.
local function take(entries)
  for _, entry in ipairs(entries) do
    if room <= 0 then return end
    for _, value in ipairs(entry[2]) do room = room - #value end
    entries_read[#entries_read + 1] = entry
    after, left = '(' .. entry[1], left - 1
  end
end

repeat
  local step = math.min(STEP, left)
  local entries = step > 0 and call('XRANGE', q.journal, after, '+', 'COUNT', step) or {}
  take(entries)
until #entries < STEP or room <= 0 or left <= 0
return { call('HGET', q.counters, 'recorded'), #call('XRANGE', q.journal, ARGV[1], ARGV[1]), entries_read }

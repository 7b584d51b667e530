-- Appends output to the streams of jobs' logs, and drops what is the oldest there.
--
-- ARGV: how many bytes of a job are kept, for how many milliseconds; then, for each part, the job,
-- the file, the attempt, the offset and the data. An entry has the bytes up to its end, too, so that
-- the first and the last one tell how much there is.

local call = redis.call
local P = string.match(KEYS[1], '^(.*)meta$')
local most, kept = tonumber(ARGV[1]), ARGV[2]

-- An entry as {its id, bytes up to its end, bytes of its own}.
local function entry_of(found)
  local entry = found[1]
  return entry and {entry[1], tonumber(entry[2][8]), #entry[2][10]}
end

for place = 3, #ARGV, 5 do
  local job, file, attempt, offset, data = unpack(ARGV, place, place + 4)
  local key = P .. 'lg:' .. job
  if call('EXISTS', P .. 'j:' .. job) == 1 then
    local last = entry_of(call('XREVRANGE', key, '+', '-', 'COUNT', 1))
    local total = (last and last[2] or 0) + #data
    call('XADD', key, '*', 'f', file, 'a', attempt, 'o', offset, 't', total, 'd', data)
    call('PEXPIRE', key, kept)
    local first = entry_of(call('XRANGE', key, '-', '+', 'COUNT', 1))
    while total - first[2] + first[3] > most and first[2] < total do
      call('XDEL', key, first[1])
      first = entry_of(call('XRANGE', key, '-', '+', 'COUNT', 1))
    end
  end
end
return 1

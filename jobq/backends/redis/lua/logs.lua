-- Append output to the log streams of jobs, and delete the oldest there.
--
-- ARGV: the bytes of a job to keep, for how many milliseconds; then, for each chunk, the job, the
-- file, the attempt, the offset and the data. An entry also has the total of bytes up to its end:
-- the first and the last entry give the size.

local call = redis.call
local P = string.match(KEYS[1], '^(.*)meta$')
local max_bytes, ttl = tonumber(ARGV[1]), ARGV[2]

-- Return an entry as {id, bytes up to its end, its own bytes}.
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
    call('PEXPIRE', key, ttl)
    local first = entry_of(call('XRANGE', key, '-', '+', 'COUNT', 1))
    while total - first[2] + first[3] > max_bytes and first[2] < total do
      call('XDEL', key, first[1])
      first = entry_of(call('XRANGE', key, '-', '+', 'COUNT', 1))
    end
  end
end
return 1

-- Failed jobs by signature: `sg:SIGNATURE` has the time of each failure, `sz` the size of each group.

-- Return the size of each group, by signature.
function verbs.signatures()
  return call('HGETALL', P .. 'sz')
end

local function by_hour(key, at, a)
  local counts = {}
  for hour = a.hours, 1, -1 do
    local last = hour == 1 and '+inf' or whole(at - (hour - 1) * a.hour)
    counts[#counts + 1] = call('ZCOUNT', key, '(' .. whole(at - hour * a.hour), last)
  end
  return counts
end

-- Return the size, first and last time, sample and counts by hour of groups; {} for one that is gone.
-- Without hours, there is no sample either.
function verbs.failures(a)
  local at, found = clock(a.now), {}
  for place, signature in ipairs(a.signatures) do
    local key = P .. 'sg:' .. signature
    local first, last = call('ZRANGE', key, 0, 0, 'WITHSCORES'), call('ZRANGE', key, -1, -1, 'WITHSCORES')
    if #first == 0 or a.since and tonumber(last[2]) < a.since then
      found[place] = {}
    else
      found[place] = {
        call('ZCARD', key), whole(tonumber(first[2])), whole(tonumber(last[2])),
        a.hours > 0 and call('ZRANGE', key, -a.sample, -1) or {}, by_hour(key, at, a),
      }
    end
  end
  return found
end

local function signed_failures()
  local signed, failed = 0, 0
  for _, number in ipairs(call('HVALS', P .. 'sz')) do signed = signed + tonumber(number) end
  local counts = call('HGETALL', P .. 'n')
  for place = 1, #counts, 2 do
    if string.match(counts[place], '|failed$') then failed = failed + tonumber(counts[place + 1]) end
  end
  return signed, failed
end

-- Return the last id read, or false if there are no more, and failed jobs without a signature, each
-- with the end of its last attempt.
function verbs.unsigned(a)
  local signed, failed = signed_failures()
  if signed >= failed then return {false, {}} end
  local ids = call(
    'ZRANGEBYSCORE', P .. 'i:failed', '(' .. whole(a.after), '+inf', 'LIMIT', 0, a.batch_size)
  local found = {}
  for _, id in ipairs(ids) do
    local job = load(id)
    if not job.signature then
      local ended = call('HGET', P .. 'a:' .. id, whole(job.attempts) .. 'e')
      found[#found + 1] = {shown(id), ended}
      if #found >= a.limit then return {id, found} end
    end
  end
  return {#ids == a.batch_size and ids[#ids] or false, found}
end

function verbs.sign(a)
  local stored = 0
  for _, pair in ipairs(a.signatures) do
    local job = load(pair[1])
    if job and job.status == 'failed' and not job.signature then
      write('HSET', job.key, 'si', pair[2])
      job.signature = pair[2]
      group(job, tonumber(call('HGET', job.key, 'fa')))
      stored = stored + 1
    end
  end
  return stored
end

-- Claims, pending → running: the next jobs within the limits of their queues.

local function member_set(names)
  if not names then return nil end
  local set = {}
  for _, name in ipairs(names) do set[name] = true end
  return set
end

-- The lines of these queues and types, by the queue's priority, then by their own.
local function lines_of(queues, kinds)
  local lines = {}
  for _, line in ipairs(call('SMEMBERS', P .. 'ln')) do
    local priority, name, kind = string.match(line, '^(%d)|([^|]*)|(.*)$')
    local queue = queues[name]
    if queue and (not kinds or kinds[kind]) then
      local place = queue.priority * 10 + tonumber(priority)
      lines[place] = lines[place] or {}
      table.insert(lines[place], {key = P .. 'p:' .. line, queue = name, kind = kind})
    end
  end
  return lines
end

-- Choose up to `limit` jobs, and none behind one of a type that is not among the known ones, if
-- these are given; queues of equal priority share one order.
local function choose(queues, kinds, known, room, limit)
  local lines, chosen = lines_of(queues, kinds), {}
  for place = 99, 0, -1 do
    local candidates = {}
    for _, line in ipairs(lines[place] or {}) do
      local most = math.min(limit - #chosen, room[line.queue])
      if most > 0 then
        for _, id in ipairs(call('ZRANGE', line.key, 0, most - 1)) do
          candidates[#candidates + 1] = {tonumber(id), id, line.queue, line.kind}
        end
      end
    end
    table.sort(candidates, function(a, b) return a[1] < b[1] end)
    for _, candidate in ipairs(candidates) do
      if known and not known[candidate[4]] then return chosen end
      if #chosen < limit and room[candidate[3]] > 0 then
        room[candidate[3]] = room[candidate[3]] - 1
        chosen[#chosen + 1] = load(candidate[2])
      end
    end
    if #chosen >= limit then break end
  end
  return chosen
end

-- Choose the requested ids whose queue has room, in the order of `choose`.
local function choose_among(ids, queues, kinds, known, room, limit)
  local candidates, chosen = {}, {}
  for _, id in ipairs(ids) do
    local job = load(id)
    if job and job.status == 'pending' and queues[job.queue]
      and (not kinds or kinds[job.kind]) and (not known or known[job.kind]) then
      job.place = queues[job.queue].priority * 10 + tonumber(job.priority)
      candidates[#candidates + 1] = job
    end
  end
  table.sort(candidates, function(a, b)
    if a.place ~= b.place then return a.place > b.place end
    return tonumber(a.id) < tonumber(b.id)
  end)
  for _, job in ipairs(candidates) do
    if #chosen < limit and room[job.queue] > 0 then
      room[job.queue] = room[job.queue] - 1
      chosen[#chosen + 1] = job
    end
  end
  return chosen
end

-- Read the entries of jobs from the streams of their lines, so that they are pending for the owner.
-- A stream has the order of its line, so that the entries read are those of the chosen jobs.
local function read_lines(jobs, owner)
  local wanted, held = {}, {}
  for _, job in ipairs(jobs) do
    if not job.entry then wanted[job.line] = (wanted[job.line] or 0) + 1 end
  end
  for line, number in pairs(wanted) do
    local read = stream(
      'XREADGROUP', 'GROUP', GROUP, owner, 'COUNT', number, 'STREAMS', P .. 'w:' .. line, '>')
    for _, entry in ipairs(read and read[1] and read[1][2] or {}) do
      held[string.match(entry[1], '^%d+')] = true
    end
  end
  return held
end

-- Give a job an entry of `again`: it has none in its line, or one in the middle of it.
local function read_again(job, owner)
  local entry = stream('XADD', AGAIN, '*', 'j', job.id)
  if not entry then return end
  stream('XGROUP', 'CREATE', AGAIN, GROUP, '0')
  stream('XREADGROUP', 'GROUP', GROUP, owner, 'COUNT', 1, 'STREAMS', AGAIN, '>')
  job.entry = entry
  write('HSET', job.key, 'e', entry)
end

local function hold_entries(jobs, owner, by_id)
  local held = by_id and {} or read_lines(jobs, owner)
  for _, job in ipairs(jobs) do
    if not held[job.id] then
      drop_entry(job)
      read_again(job, owner)
    end
  end
end

local function start(job, queue, owner, at, lease)
  local number = job.attempts + 1
  move(job, 'running', at)
  write('HSET', job.key, 'n', number, 'sa', whole(at), 'o', owner)
  write('HDEL', job.key, 'ra', 'ec', 'sg', 'rs', 'pg')
  write('HSET', P .. 'a:' .. job.id, number, whole(at) .. '|' .. owner)
  write('ZADD', P .. 'ls', at + lease, job.id)
  write('SADD', P .. 'o:' .. owner, job.id)
  note_start(queue, at, job.id, number)
  return shown(job.id)
end

-- The queues from which a supervisor may prefetch jobs.
local function unlimited(queues)
  local found = {}
  for name, queue in pairs(queues) do
    if not queue.max and not queue.rate then found[name] = queue end
  end
  return found
end

local function claim(a, at)
  if a.limit + a.prefetch <= 0 then return {} end
  promote(at)
  local queues, kinds, room, claims = open_queues(a.queues), member_set(a.types), {}, {}
  local known = member_set(a.known)
  for name, queue in pairs(queues) do room[name] = room_of(queue, at) end
  local function take(among, limit)
    if limit <= 0 then return end
    local jobs = a.ids and choose_among(a.ids, among, kinds, known, room, limit)
      or choose(among, kinds, known, room, limit)
    hold_entries(jobs, a.owner, a.ids)
    for _, job in ipairs(jobs) do
      claims[#claims + 1] = start(job, queues[job.queue], a.owner, at, a.lease)
    end
  end
  take(queues, a.limit)
  take(unlimited(queues), a.prefetch)
  return claims
end

function verbs.claim(a)
  return claim(a, clock(a.now))
end

-- Queues: how many jobs each may start now.

local function all_queues()
  local found = call('HGETALL', P .. 'qs')
  local queues = {default = {name = 'default', priority = 5}}
  for place = 1, #found, 2 do
    local queue = cjson.decode(found[place + 1])
    queue.name = found[place]
    queues[queue.name] = queue
  end
  return queues
end

-- Return the failure if one of the jobs is in a queue that does not exist.
local function missing_queue(jobs)
  local queues = all_queues()
  for _, job in ipairs(jobs) do
    if not queues[job.queue] then
      local names = {}
      for name in pairs(queues) do names[#names + 1] = name end
      table.sort(names)
      return {'no queue', job.queue, table.concat(names, ', ')}
    end
  end
end

-- Return the queues that are not paused, among these names.
local function open_queues(names)
  local wanted
  if names then
    wanted = {}
    for _, name in ipairs(names) do wanted[name] = true end
  end
  local open = {}
  for name, queue in pairs(all_queues()) do
    if not queue.paused and (not wanted or wanted[name]) then open[name] = queue end
  end
  return open
end

-- Return how many more jobs a queue may start. Starts later than now, of a clock that was set back
-- since, do not count.
local function room_of(queue, at)
  local room = math.huge
  if queue.max then room = queue.max - number_of(queue.name, 'running') end
  if queue.rate then
    local started = call('ZCOUNT', P .. 'rt:' .. queue.name, '(' .. whole(at - queue.span), at)
    room = math.min(room, queue.rate - started)
  end
  return room
end

local function note_start(queue, at, id, attempt)
  if not queue.rate then return end
  local key = P .. 'rt:' .. queue.name
  write('ZREMRANGEBYSCORE', key, '-inf', at - queue.span)
  write('ZREMRANGEBYSCORE', key, '(' .. whole(at), '+inf')
  write('ZADD', key, at, id .. ':' .. attempt)
end

-- Return when waiting alone makes a job claimable; false: never.
local function next_due(at, queues)
  local first = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')[2]
  local due = first and tonumber(first) or math.huge
  for name, queue in pairs(queues) do
    if queue.rate and number_of(name, 'pending') > 0 and room_of(queue, at) <= 0 then
      local from = '(' .. whole(at - queue.span)
      local oldest = call(
        'ZRANGEBYSCORE', P .. 'rt:' .. name, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
      if oldest then due = math.min(due, tonumber(oldest) + queue.span) end
    end
  end
  return due < math.huge and whole(due) or false
end

function verbs.next_due(a)
  return next_due(clock(a.now), open_queues())
end

-- running → the status that an ending names. Fenced: only the attempt that runs can end.

-- The job of an attempt, {id, number, when it was claimed}, if that runs. The number would not do:
-- a server that lost what it was told last gives ids and numbers again.
local function running(key)
  local job = load(key[1])
  if job and job.status == 'running' and job.attempts == key[2] and tonumber(job.started) == key[3]
  then return job end
end

-- Nobody holds the attempt any more.
local function let_go(job)
  drop_entry(job)
  write('ZREM', P .. 'ls', job.id)
  write('SREM', P .. 'o:' .. job.owner, job.id)
  job.entry = false
end

local freed = {}  -- queues in which an attempt has ended

-- A place in a queue with a limit that whoever ended an attempt has not taken is for somebody else.
local function offer_places(queues)
  for name in pairs(freed) do
    local queue = queues[name]
    if queue and queue.max and number_of(name, 'pending') > 0
      and number_of(name, 'running') < queue.max then woken = true end
  end
end

-- The status of the job from here on; nil if the attempt was not running.
local function end_one(e, now, at, lease_before)
  local job = running(e.key)
  if not job then return nil end
  local lease = call('ZSCORE', P .. 'ls', job.id)
  if lease_before and tonumber(lease) >= lease_before then return nil end
  local status = e.status
  job.run_at = e.run_at and whole(carried(e.run_at, now))
  if job.asked and not FINISHED[status] then  -- whatever it came to, it does not run again
    status, job.run_at = 'cancelled', nil
  end
  let_go(job)
  put(job.key, 'e', nil, 'o', nil, 'cr', nil, 'ra', job.run_at, 'f', e.failures > 0 and e.failures,
    'c', e.crashes > 0 and e.crashes, 'ec', e.exit_code, 'sg', e.signal, 'er', e.error,
    're', e.result)
  if e.reason then write('HSET', job.key, 'rs', e.reason) end
  move(job, status, at)
  freed[job.queue] = true
  local record = whole(at) .. '|' .. whole(tonumber(lease)) .. '|' .. e.record
  write('HSET', P .. 'a:' .. job.id, whole(job.attempts) .. 'e', record)
  if e.lost then tell('recovered', 1) end
  return status
end

local function end_all(endings, now, at, lease_before)
  local took, finished, pending = {}, {}, false
  for place, ending in ipairs(endings) do
    local status = end_one(ending, now, at, lease_before)
    took[place] = status and 1 or 0
    if FINISHED[status] then finished[#finished + 1] = ending.key[1] end
    pending = pending or status == 'pending'
  end
  local released = settle_for(finished, at)
  -- A supervisor that ends an attempt has room for one job: others are woken for more.
  if released > 1 or pending then woken = true end
  return took
end

verbs['end'] = function(a)
  local before = a.lease_before and carried(a.lease_before, a.now)
  local took = end_all(a.endings, a.now, clock(a.now), before)
  offer_places(open_queues())
  return took
end

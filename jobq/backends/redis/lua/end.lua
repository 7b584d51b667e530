-- Ends of attempts, running → the status in the result. Fenced: only a running attempt can end.

-- Return the job of an attempt, {id, number, time of the claim}, if it is running. The number alone
-- would not do: a server that lost its last changes assigns ids and numbers again.
local function running(key)
  local job = load(key[1])
  if job and job.status == 'running' and job.attempts == key[2] and tonumber(job.started) == key[3]
  then return job end
end

-- Release the attempt from its owner.
local function release(job)
  drop_entry(job)
  write('ZREM', P .. 'ls', job.id)
  write('SREM', P .. 'o:' .. job.owner, job.id)
  job.entry = false
end

local freed = {}  -- queues in which an attempt has ended

-- Wake others for a place in a queue with a limit, if it was freed here and not taken again.
local function offer_places(queues)
  for name in pairs(freed) do
    local queue = queues[name]
    if queue and queue.max and number_of(name, 'pending') > 0
      and number_of(name, 'running') < queue.max then woken = true end
  end
end

-- Return when an attempt ended, if it is recorded at `at`: clocks may have been set since.
local function ended_at(e, job, now, at)
  local ended = e.ended_at and carried(e.ended_at, now)
  if ended and ended <= at and ended >= tonumber(job.started) then return ended end
  return at
end

-- End an attempt; return the job's new status, or nil if the attempt was not running.
local function end_one(e, now, at, lease_before)
  local job = running(e.key)
  if not job then return nil end
  local lease = call('ZSCORE', P .. 'ls', job.id)
  if lease_before and tonumber(lease) >= lease_before then return nil end
  local status = e.status
  at = ended_at(e, job, now, at)
  job.run_at = e.run_at and whole(carried(e.run_at, now))
  if job.asked and not FINISHED[status] then  -- however it ended, it does not run again
    status, job.run_at = 'cancelled', nil
  end
  release(job)
  put(job.key, 'e', nil, 'o', nil, 'cr', nil, 'ra', job.run_at, 'f', e.failures > 0 and e.failures,
    'c', e.crashes > 0 and e.crashes, 'ec', e.exit_code, 'sg', e.signal, 'er', e.error,
    're', e.result, 'si', e.signature)
  job.signature = e.signature
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

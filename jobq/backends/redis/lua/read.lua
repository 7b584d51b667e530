-- Reading jobs: verbs that change nothing.

function verbs.get(a)
  local found = {}
  for _, id in ipairs(a.ids) do found[#found + 1] = shown(id) end
  return found
end

-- Return the indexes that may have jobs of these statuses, this queue and type.
local function indexes(a)
  local keys = {}
  for _, status in ipairs(a.statuses) do
    if status ~= 'pending' then keys[#keys + 1] = P .. 'i:' .. status end
    for _, line in ipairs(status == 'pending' and call('SMEMBERS', P .. 'ln') or {}) do
      local _, queue, kind = string.match(line, '^(%d)|([^|]*)|(.*)$')
      if (not a.queue or a.queue == queue) and (not a.type or a.type == kind) then
        keys[#keys + 1] = P .. 'p:' .. line
      end
    end
  end
  return keys
end

-- Return the first `limit` ids after, or before, `after` in all of the indexes.
local function page(keys, after, newest, limit)
  local ids = {}
  for _, key in ipairs(keys) do
    local found
    if newest then
      found = call('ZREVRANGEBYSCORE', key, after and '(' .. after or '+inf', '-inf', 'LIMIT', 0, limit)
    else
      found = call('ZRANGEBYSCORE', key, after and '(' .. after or '-inf', '+inf', 'LIMIT', 0, limit)
    end
    for _, id in ipairs(found) do ids[#ids + 1] = tonumber(id) end
  end
  table.sort(ids)  -- numbers, without a function to compare them: many times quicker
  local first = {}
  for place = 1, math.min(limit, #ids) do
    first[place] = whole(ids[newest and #ids + 1 - place or place])
  end
  return first
end

-- Return whether a record has all of these texts: those of a tag, say, as JSON.
local function has_parts(id, parts)
  local record = call('HGET', P .. 'j:' .. id, 'd')
  for _, part in ipairs(parts) do
    if not string.find(record, part, 1, true) then return false end
  end
  return true
end

local function matches(a, id)
  if a.parts and not has_parts(id, a.parts) then return false end
  if a.queue or a.type or a.signature or a.since or a.before then
    local job = load(id)
    local created = tonumber(job.created)
    if a.queue and job.queue ~= a.queue or a.type and job.kind ~= a.type
      or a.signature and job.signature ~= a.signature
      or a.since and created < a.since or a.before and created >= a.before then
      return false
    end
  end
  if a.finished_before or a.ended_since then
    local finished = tonumber(call('ZSCORE', P .. 'fin', id) or nil)
    return finished and (not a.finished_before or finished < a.finished_before)
      and (not a.ended_since or finished >= a.ended_since)
  end
  return true
end

-- Return the last id read, or false if there are no more, and the jobs found so far.
function verbs.find(a)
  if a.finished_before
    and call('ZCOUNT', P .. 'fin', '-inf', '(' .. whole(a.finished_before)) == 0 then
    return {false, {}}
  end
  local ids, found = page(indexes(a), a.after, a.newest, a.batch_size), {}
  for _, id in ipairs(ids) do
    if a.stop and (a.newest and tonumber(id) <= a.stop or not a.newest and tonumber(id) >= a.stop) then
      return {false, found}
    end
    if matches(a, id) then
      found[#found + 1] = shown(id)
      if #found >= a.limit then return {id, found} end
    end
  end
  return {#ids == a.batch_size and ids[#ids] or false, found}
end

function verbs.counts()
  return call('HGETALL', P .. 'n')
end

-- Return all attempts of a job, and the lease of the open one.
local function attempts(id)
  return {call('HGETALL', P .. 'a:' .. id), call('ZSCORE', P .. 'ls', id)}
end

function verbs.attempts(a)
  return attempts(a.id)
end

function verbs.open_attempts()
  local found = {}
  for place, id in ipairs(call('ZRANGE', P .. 'i:running', 0, -1)) do
    found[place] = {shown(id), attempts(id)}
  end
  return found
end

function verbs.histories(a)
  local found = {}
  for place, id in ipairs(page(indexes(a), a.after, false, a.limit)) do
    local parents = {}
    for _, parent in ipairs(parents_of(id)) do
      parents[#parents + 1] = {
        parent.id, parent.condition, parent.met and 1 or 0,
        call('HGET', P .. 'j:' .. parent.id, 's'),
        call('ZSCORE', P .. 'un', parent.id) and 1 or 0,
      }
    end
    local job = load(id)
    local holder = not FINISHED[job.status] and key_holder(job.unique) or false
    local keys = {}
    for _, key in ipairs(call('SMEMBERS', P .. 'kj:' .. id)) do
      keys[#keys + 1] = {key, string.match(call('HGET', P .. 'ik', key), '^%d+|(.*)$')}
    end
    local unsettled = call('ZSCORE', P .. 'un', id) and 1 or 0
    found[place] = {shown(id), attempts(id), parents, holder, keys, unsettled}
  end
  return found
end

-- Return up to `limit` children of these parents; if there may be more, also the place of the parent
-- to go on with, and the child of it to go on after.
function verbs.children(a)
  local found, left = {}, a.limit
  for place, parent in ipairs(a.ids) do
    local after = place == 1 and a.after and '(' .. a.after or '-inf'
    local children = call(
      'ZRANGEBYSCORE', P .. 'dc:' .. parent, after, '+inf', 'LIMIT', 0, left)
    for _, child in ipairs(children) do
      if string.sub(call('HGET', P .. 'dp:' .. child, parent), 2) == '0' then
        found[#found + 1] = {child, call('HGET', P .. 'j:' .. child, 's')}
      end
    end
    left = left - #children
    if left == 0 then return {found, place, children[#children]} end
  end
  return {found}
end

function verbs.known_keys(a)
  if #a.keys == 0 then return {} end
  return call('HMGET', P .. 'ik', unpack(a.keys))
end

function verbs.key_holder(a)
  return call('HGET', P .. 'uk', a.key)
end

-- -- statistics -----------------------------------------------------------------------------------

-- Return a batch of the jobs that completed or failed, the latest first.
function verbs.ended(a)
  local ids = call('ZREVRANGEBYSCORE', P .. 'fin', '+inf', a.since, 'LIMIT', a.from, a.batch_size)
  local found = {}
  for _, id in ipairs(ids) do
    local f = call('HMGET', P .. 'j:' .. id, 's', 'h', 'sa', 'fa')
    if f[1] ~= 'cancelled' and f[3] then found[#found + 1] = f end
  end
  return {#ids, found}
end

function verbs.ahead(a)
  local at, queues, number = clock(a.now), {}, 0
  for name, queue in pairs(open_queues()) do
    if room_of(queue, at) > 0 then queues[name] = queue end
  end
  local own = queues[a.queue] and queues[a.queue].priority
  if not own then return 0 end
  for _, line in ipairs(call('SMEMBERS', P .. 'ln')) do
    local priority, name = string.match(line, '^(%d)|([^|]*)|')
    local queue, key = queues[name], P .. 'p:' .. line
    if queue and (queue.priority > own or queue.priority == own and tonumber(priority) > a.priority) then
      number = number + call('ZCARD', key)
    elseif queue and queue.priority == own and tonumber(priority) == a.priority then
      number = number + call('ZCOUNT', key, '-inf', '(' .. a.id)
    end
  end
  return number
end

function verbs.next_start(a)
  local at = clock(a.now)
  local starts = call(
    'ZREVRANGEBYSCORE', P .. 'rt:' .. a.queue, at, '(' .. whole(at - a.span), 'WITHSCORES', 'LIMIT', 0,
    a.rate)
  if #starts < 2 * a.rate then return false end
  return whole(tonumber(starts[#starts]) + a.span)
end

function verbs.unsettled()
  return call('ZCARD', P .. 'un')
end

-- -- flaws --------------------------------------------------------------------------------------

-- Return the last id read, or false if there are no more, and the jobs with another status.
function verbs.strays(a)
  local ids, found = page(indexes(a), a.after, false, a.batch_size), {}
  for _, id in ipairs(ids) do
    if call('HGET', P .. 'j:' .. id, 's') ~= a.statuses[1] then found[#found + 1] = id end
  end
  return {#ids == a.batch_size and ids[#ids] or false, found}
end

function verbs.flaws(a)
  local counted, there, found = 0, 0, {}
  local counts = call('HGETALL', P .. 'n')
  for place = 2, #counts, 2 do counted = counted + tonumber(counts[place]) end
  for _, key in ipairs(indexes(a)) do there = there + call('ZCARD', key) end
  if counted ~= there then
    found[#found + 1] = counted .. ' jobs are counted, and ' .. there .. ' are in the indexes'
  end
  local running, leases = call('ZCARD', P .. 'i:running'), call('ZCARD', P .. 'ls')
  if running ~= leases then
    found[#found + 1] = running .. ' jobs are running, and ' .. leases .. ' leases are held'
  end
  return found
end

-- -- lists ----------------------------------------------------------------------------------------

-- Return how many of the jobs that ended at a time come before or at a job, first or last first.
local function ended_until(at, id, newest)
  local skipped = 0
  while true do
    local tied = call(newest and 'ZREVRANGEBYSCORE' or 'ZRANGEBYSCORE', P .. 'fin', at, at, 'LIMIT',
      skipped, 1000)
    local passed = 0
    while tied[passed + 1] and (newest and tied[passed + 1] >= id or not newest and tied[passed + 1] <= id) do
      passed = passed + 1
    end
    skipped = skipped + passed
    if passed < 1000 then return skipped end
  end
end

-- Return jobs that ended before then, the first to end first, each with fields of its hash.
local function ended_before(a, ...)
  local from, skipped = a.after_at or '-inf', 0
  if a.after_id then skipped = ended_until(from, a.after_id, false) end
  local ids = call(
    'ZRANGEBYSCORE', P .. 'fin', from, '(' .. whole(a.before), 'LIMIT', skipped, a.limit)
  local found = {}
  for place, id in ipairs(ids) do
    found[place] = {id, unpack(call('HMGET', P .. 'j:' .. id, ...))}
  end
  return found
end

function verbs.finished_before(a)
  return ended_before(a, 's', 'fa')
end

function verbs.ended_after(a)
  return ended_before(a, 'fa', 's', 'h', 'sa')
end

local LIGHT = {
  's', 'h', 'u', 'um', 'n', 'f', 'c', 'ra', 'sa', 'fa', 'cr', 'cb', 'pg', 'ec', 'sg', 'si', 'er',
  'rs',
}

-- Return a job as `shown` does, without its result, and with something else for large arguments.
local function shown_light(id, max_args, dropped)
  local key, fields = P .. 'j:' .. id, {}
  local record = call('HGET', key, 'd')
  if #record > max_args then
    local parts = cjson.decode(record)
    parts[2] = dropped
    local small = cjson.encode(parts)
    if #record - #small > max_args then record = small end
  end
  fields[1], fields[2] = 'd', record
  for place, value in ipairs(call('HMGET', key, unpack(LIGHT))) do
    if value then
      fields[#fields + 1] = LIGHT[place]
      fields[#fields + 1] = value
    end
  end
  return {id, fields, call('HGETALL', P .. 'dp:' .. id)}
end

-- Return the next ids and times in the order by end, the last first.
local function next_ended(a)
  local top, skipped = a.finished_before and '(' .. whole(a.finished_before) or '+inf', 0
  if a.after_at then
    top, skipped = a.after_at, ended_until(a.after_at, a.after_id, true)
  end
  return call('ZREVRANGEBYSCORE', P .. 'fin', top, a.ended_since or '-inf', 'WITHSCORES', 'LIMIT',
    skipped, a.limit)
end

-- Return the next ids of a list, each with the time of its end or false, in order.
local function next_places(a)
  local places = {}
  if a.by_end then
    local found = next_ended(a)
    for at = 1, #found, 2 do places[#places + 1] = {found[at], found[at + 1]} end
    return places
  end
  local keys = a.parent and {P .. 'dc:' .. a.parent} or indexes(a)
  for _, id in ipairs(a.ids or page(keys, a.after, a.newest, a.limit)) do
    if a.stop and (a.newest and tonumber(id) <= a.stop or not a.newest and tonumber(id) >= a.stop) then
      break
    end
    places[#places + 1] = {id, false}
  end
  return places
end

local function set_of(names)
  local set = {}
  for _, name in ipairs(names) do set[name] = true end
  return set
end

-- Return the next places in a list, and the jobs there that match, as far as can be told here.
function verbs.page(a)
  local places, found, statuses = next_places(a), {}, set_of(a.statuses)
  for _, place in ipairs(places) do
    local status = call('HGET', P .. 'j:' .. place[1], 's')
    if status and statuses[status] and matches(a, place[1]) then
      found[#found + 1] = shown_light(place[1], a.max_args, a.dropped)
    end
  end
  return {places, found}
end

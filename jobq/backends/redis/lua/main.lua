-- The end of every script: run the verbs of the request. All take effect, or none does.
--
-- The answer is {'ok', result, time, identity of the store} or {kind of failure, ...}. A request
-- that is repeated under the same number, as its answer was lost, gets the first answer again.

local LOCK, SLOT = P .. 'lock', request.slot and P .. 'r:' .. request.slot

local version, born, marked_after = unpack(call('HMGET', META, 'v', 'born', 'marked_after'))
if version and version ~= request.version then return {'version', version} end
if not version and call('EXISTS', META) == 1 then return {'foreign'} end
-- A store that lost its data starts numbers over: a client would take other attempts for its own.
local held = request.born ~= '' and request.born
if held and held ~= born then return {'replaced'} end

if SLOT then
  local kept = call('GET', SLOT)
  kept = kept and cmsgpack.unpack(kept)
  if kept and kept[1] == request.number then return kept[2] end
  -- The client has sent later requests: it neither waits for this one nor knows if it was executed.
  if kept and kept[1] > request.number then return {'late'} end
end

-- A full server accepts no new jobs; existing ones can still be paused, run, ended and deleted.
-- Redis refuses only a script's first write: so that is a DEL of nothing, which needs no memory.
local ADDS_JOBS = {insert = true, fire = true, add_schedule = true, load = true}
local adds_jobs = false
for _, op in ipairs(request.ops) do adds_jobs = adds_jobs or ADDS_JOBS[op[1]] end
if (request.writes or request.token) and not adds_jobs then call('DEL', P .. 'full') end

local holder = call('GET', LOCK)
if request.token then
  if holder and holder ~= request.token then return {'locked'} end
  if not holder and request.begun then return {'expired'} end  -- other clients may have written
  call('SET', LOCK, request.token, 'PX', request.lock_ms)
elseif holder and request.writes then
  return {'locked'}
end

local result, failure
for _, op in ipairs(request.ops) do
  result, failure = verbs[op[1]](op[2])
  write_counts()
  if failure then break end
end

if undo then
  roll_back()
elseif changed then
  if not version then call('HSET', META, 'v', request.version) end
  if not marked_after then  -- it is new, or was made by a version without marks
    call('HSET', META, 'marked_after', version and call('HGET', META, 'id') or '0')
  end
  born = call('HGET', META, 'born')
  if not born then
    born = new_identity()
    call('HSET', META, 'born', born)
  end
  call('HINCRBY', META, 'ver', 1)
end
if request.token and not request.rehearsal then call('DEL', LOCK) end

local answer = failure or {'ok', result or false}
if SLOT then call('SET', SLOT, cmsgpack.pack({request.number, answer}), 'PX', request.kept_ms) end
if woken and changed and not undo then call('PUBLISH', P .. 'wake', '') end
if not failure then
  answer[3] = server_now and whole(server_now) or false
  answer[4] = request.born == '' and born or false
end
return answer

-- The beginning of every script: the request, the clock, keys, and writes that can be undone.
--
-- KEYS[1] is `{name}:meta`. All other keys start with the same tag, so that they are in one slot.
-- ARGV[1] is the request as JSON: `ops`, a list of {verb, arguments}, and how to run them.

redis.replicate_commands()  -- Redis 6.2: needed where writes depend on TIME

local call = redis.call
local META = KEYS[1]
local P = string.match(META, '^(.*)meta$')
local GROUP = 'jobq'
local FINISHED = {completed = true, failed = true, cancelled = true}

local request = cjson.decode(ARGV[1])
local verbs = {}
local changed, woken = false, false

-- -- numbers and times: whole microseconds since 1970 ---------------------------------------------

-- Return a whole number as text; `tostring` would round numbers above 10^14.
local function whole(number)
  return string.format('%.0f', number)
end

local server_now = request.micros  -- in a group, the time of its first verb
if request.clock == 'server' and not server_now then
  local time = call('TIME')
  server_now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Return the current time by the clock that counts: the server's, or the caller's `now`.
local function clock(now)
  return server_now or now
end

-- Convert a time that the caller derived from its own `now` to the clock that counts.
local function carried(moment, now)
  return moment + (server_now or now) - now
end

-- Return what no other client returns: the same for each request of a group.
local function new_identity()
  return request.token or request.slot .. '-' .. whole(request.number)
end

-- -- writing --------------------------------------------------------------------------------------

-- In a rehearsal, each write records the command that undoes it. Streams are not written: they are
-- the only keys that can't be restored. No answer depends on them: indexes have the order.
local undo = request.rehearsal and {} or nil

local function note(...)
  undo[#undo + 1] = {...}
end

local function note_fields(key, fields)
  for _, name in ipairs(fields) do
    local before = call('HGET', key, name)
    if before then note('HSET', key, name, before) else note('HDEL', key, name) end
  end
end

local function note_members(key, members)
  for _, member in ipairs(members) do
    local before = call('ZSCORE', key, member)
    if before then note('ZADD', key, before, member) else note('ZREM', key, member) end
  end
end

local function every_second(first, ...)
  local given, some = {...}, {}
  for place = first, #given, 2 do some[#some + 1] = given[place] end
  return some
end

local before = {
  HSET = function(key, ...) note_fields(key, every_second(1, ...)) end,
  HDEL = function(key, ...) note_fields(key, {...}) end,
  HINCRBY = function(key, field) note_fields(key, {field}) end,
  ZADD = function(key, ...) note_members(key, every_second(2, ...)) end,
  ZREM = function(key, ...) note_members(key, {...}) end,
  ZREMRANGEBYSCORE = function(key, ...) note_members(key, call('ZRANGEBYSCORE', key, ...)) end,
  SADD = function(key, member)
    if call('SISMEMBER', key, member) == 0 then note('SREM', key, member) end
  end,
  SREM = function(key, member)
    if call('SISMEMBER', key, member) == 1 then note('SADD', key, member) end
  end,
  DEL = function(key)
    local dump = call('DUMP', key)
    if dump then note('RESTORE', key, 0, dump) end
  end,
}

local function write(command, key, ...)
  changed = true
  if undo then before[command](key, ...) end
  return call(command, key, ...)
end

-- Write to a stream; return false if it was refused or this is a rehearsal.
local function stream(command, ...)
  if undo then return false end
  local done = redis.pcall(command, ...)
  if type(done) == 'table' and done.err then return false end
  return done
end

local function roll_back()
  for place = #undo, 1, -1 do call(unpack(undo[place])) end
end

-- Set the fields given as pairs; delete those without a value.
local function put(key, ...)
  local given, set, unset = {...}, {}, {}
  for place = 1, select('#', ...), 2 do
    local field, value = given[place], given[place + 1]
    if value == nil or value == false then
      unset[#unset + 1] = field
    else
      set[#set + 1] = field
      set[#set + 1] = value
    end
  end
  if #set > 0 then write('HSET', key, unpack(set)) end
  if #unset > 0 then write('HDEL', key, unpack(unset)) end
end

-- The beginning of every script: its arguments, the clock, and small helpers.
--
-- Every script gets its named arguments as one JSON object in ARGV[1], "args" from here on. "prefix" and "channels" are
-- always among them: P and C, the first parts of every key and of every channel. Texts that may be long follow in
-- ARGV[2], ARGV[3], ...: they go into the record unchanged. No script uses KEYS: jaas needs one server, not a Redis
-- Cluster, and most keys are only known while a script runs. The head of each script lists every key that it may touch.
--
-- Three tables precede this text, made from jaas_submit/model/states.py: STATES, ENDED and OPEN. A state in neither
-- ENDED nor OPEN was written by a newer version, during an update: scripts leave the job alone. It has ended if its
-- field "reported" is set, as for every job whose result Celery has.

local args = cjson.decode(ARGV[1])
local P, C = args.prefix, args.channels
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local stamp = string.format('%.6f', now)

local function job_key(id) return P .. ':job:' .. id end

local function batch_key(batch) return P .. ':batch:' .. batch end

local function contains(list, value)
  for _, item in ipairs(list) do
    if item == value then return true end
  end
  return false
end

-- A script that reads many records must not fail because of one: a key of another type, or a field that is no number,
-- counts as missing.
local function to_number(text) return tonumber(text or '0') or 0 end

-- Returns the fields of a hash, as HMGET does.
local function read_fields(key, ...)
  local r = redis.pcall('HMGET', key, ...)
  return r.err and {} or r
end

-- Returns the members of a sorted set up to a score.
local function members_until(key, ...)
  local r = redis.pcall('ZRANGEBYSCORE', key, '-inf', ...)
  return r.err and {} or r
end

local function decode_list(text)
  local ok, found = pcall(cjson.decode, text or '')
  return ok and type(found) == 'table' and found or {}
end

-- Returns whether the key of a record holds something else. If so, the id joins the unowned jobs: a worker logs it.
local function is_no_record(id)
  local kind = redis.call('TYPE', job_key(id)).ok
  if kind == 'hash' or kind == 'none' then return false end
  redis.call('ZADD', P .. ':unowned', 'NX', stamp, id)
  return true
end

-- Tells those who follow a job what has changed.
local function publish_change(id, state, detail)
  redis.call('PUBLISH', C .. ':changes:' .. id, cjson.encode({id = id, state = state, detail = detail or ''}))
end

-- Returns, as a record holds it, the only attempt of a job that ended without having been started.
local function unstarted_attempt(state, cause, reason)
  return cjson.encode({{number = 0, state = state, cause = cause, reason = reason}})
end

-- Returns, as a record holds it, what was done to a job or batch, and what somebody does to it now: the newest 20.
local function add_audit(before, what, by, detail)
  local done = decode_list(before)
  done[#done + 1] = {at = now, what = what, by = by, detail = detail}
  while #done > 20 do table.remove(done, 1) end
  return cjson.encode(done)
end

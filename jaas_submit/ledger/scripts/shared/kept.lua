-- Jobs that may not start now, such as those of a paused queue. Each is kept at a place, where no worker looks, until
-- somebody opens the place: "queue:NAME", "batch:ID", or "held" for those that are held one by one.

-- Returns what is said of a queue; an empty table where nothing is, or where it cannot be read.
local function queue_rules(name)
  local said = redis.pcall('HGET', P .. ':queues', name)
  if type(said) ~= 'string' then return {} end
  local ok, rules = pcall(cjson.decode, said)
  return ok and type(rules) == 'table' and rules or {}
end

local function batch_is_held(batch) return batch and read_fields(batch_key(batch), 'held')[1] end

-- Returns the place where a job is kept instead of being started; nothing if it may start.
local function place_of(queue, held, batch)
  if held then return 'held' end
  if batch_is_held(batch) then return 'batch:' .. batch end
  return queue and queue_rules(queue).paused == true and 'queue:' .. queue or nil
end

-- Removes what is no set of kept jobs from the key of a place.
local function repair_place(place)
  local kind = redis.call('TYPE', P .. ':kept:' .. place).ok
  if kind ~= 'zset' and kind ~= 'none' then redis.call('UNLINK', P .. ':kept:' .. place) end
end

-- Keeps a job at a place. It stays in its state, QUEUED or BACKOFF.
local function keep_back(id, place, created)
  local before = read_fields(job_key(id), 'kept_at')[1]
  if before and before ~= place then redis.pcall('ZREM', P .. ':kept:' .. before, id) end
  repair_place(place)
  redis.call('ZADD', P .. ':kept:' .. place, created, id)
  redis.call('HSET', job_key(id), 'kept_at', place)
  redis.call('ZREM', P .. ':ready', id)
  redis.call('ZREM', P .. ':unowned', id)
end

-- Lets a job go on that is kept at a place: a worker asks again what holds it.
local function go_on(id, place)
  local r = read_fields(job_key(id), 'state', 'created_at')
  -- By their creation, so that they start in that order.
  if r[1] == 'QUEUED' then redis.call('ZADD', P .. ':ready', 'NX', to_number(r[2]), id) end
  if r[1] == 'BACKOFF' then redis.call('ZADD', P .. ':unowned', to_number(r[2]), id) end
  -- Last: if one of these steps fails, the job is still where the next call finds it.
  redis.pcall('ZREM', P .. ':kept:' .. place, id)
  redis.pcall('HDEL', job_key(id), 'kept_at')
end

-- Lets the jobs that are kept at a place go on, the oldest first. If there are more than fit into one script,
-- P:opening has the place, and workers go on with it.
local function open_place(place, most)
  repair_place(place)
  for _, id in ipairs(members_until(P .. ':kept:' .. place, '+inf', 'LIMIT', 0, most)) do
    go_on(id, place)
  end
  if redis.call('EXISTS', P .. ':kept:' .. place) == 1 then
    redis.call('SADD', P .. ':opening', place)
  else
    redis.call('SREM', P .. ':opening', place)
  end
  redis.call('PUBLISH', C .. ':available', 'opened')
end

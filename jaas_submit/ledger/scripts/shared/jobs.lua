-- One job: its state, its holder, and which index tells workers to act on it.

-- Changes one of the counts of a batch.
local function add_to_batch(batch, field, by) redis.pcall('HINCRBY', batch_key(batch), field, by) end

-- Writes a job's new state into record and indexes, and publishes it. The caller does what follows from an end.
local function set_state(id, from, to, detail)
  if from then redis.call('ZREM', P .. ':state:' .. from, id) end
  if from == 'QUEUED' then redis.call('ZREM', P .. ':ready', id) end
  if from == 'WAITING' or from == 'BACKOFF' then redis.call('ZREM', P .. ':due', id) end
  redis.call('ZADD', P .. ':state:' .. to, stamp, id)
  redis.call('HSET', job_key(id), 'state', to, 'updated_at', stamp)
  publish_change(id, to, detail)
  local r = redis.call('HMGET', job_key(id), 'batch', 'copy_of', 'kept_at')
  if r[3] then
    -- What follows must not fail where a user may not change this set: an id that stays there does no harm.
    redis.pcall('ZREM', P .. ':kept:' .. r[3], id)
    redis.call('HDEL', job_key(id), 'kept_at')
  end
  if r[1] and not r[2] then  -- batches do not count copies
    if from then add_to_batch(r[1], 'n:' .. from, -1) end
    add_to_batch(r[1], 'n:' .. to, 1)
  end
end

-- Tells a job's holder to cancel it: by a notice, and in a set that the holder reads in case it misses the notice.
local function request_cancel(id)
  local holder = redis.call('HGET', job_key(id), 'holder')
  if holder and holder ~= '' then
    redis.call('SADD', P .. ':stop:' .. holder, id)
    redis.call('EXPIRE', P .. ':stop:' .. holder, 86400)
  end
  redis.call('PUBLISH', C .. ':cancels', id)
end

local function set_holder(id, holder)
  redis.call('HSET', job_key(id), 'holder', holder)
  redis.call('SADD', P .. ':held:' .. holder, id)
  redis.call('ZREM', P .. ':unowned', id)
end

local function clear_holder(id, holder)
  redis.call('HSET', job_key(id), 'holder', '')
  redis.call('SREM', P .. ':held:' .. holder, id)
  redis.call('ZREM', P .. ':unowned', id)
end

-- Offers a QUEUED job that no message announces: the first worker with room starts it.
local function mark_ready(id)
  redis.call('ZADD', P .. ':ready', stamp, id)
  redis.call('PUBLISH', C .. ':available', id)
end

-- Has a worker report an end to Celery that no holder has written.
local function mark_unreported(id)
  redis.call('ZADD', P .. ':unowned', stamp, id)
  redis.call('PUBLISH', C .. ':available', id)
end

-- Makes a worker process the holder of a job, unless another live process holds it.
--
-- Arguments:
--   id
--   holder  the worker process
-- Answer: {action, the record's state before the claim, the record if the holder has the job now}.
-- Needs: shared/kept
-- Reads: P:batch:ID P:due P:holders P:job:ID P:kept:PLACE P:newest_received P:queues
-- Writes: P:batch:ID P:deadlines P:due P:held:HOLDER P:holders P:job:ID P:kept:PLACE P:last_claim P:newest_received
--   P:ready P:state:STATE P:unowned
-- Publishes: C:changes:ID

local id, holder = args.id, args.holder
local r = redis.call('HMGET', job_key(id), 'state', 'holder', 'queue', 'created_at', 'reported', 'waits_for_copy',
  'batch', 'cancel', 'held')
local state, owner = r[1], r[2] or ''
if not state then return {'unknown', ''} end
local queue, created = r[3], to_number(r[4])
local newest = to_number(read_fields(P .. ':newest_received', queue or '')[1])
if created > newest and created <= now + 60 then redis.pcall('HSET', P .. ':newest_received', queue, r[4]) end
if queue then redis.pcall('HSET', P .. ':last_claim', queue, stamp) end
if r[5] == '1' then return {'done', state} end
if not ENDED[state] and not OPEN[state] then return {'newer', state} end
if state == 'BACKOFF' then
  local due = redis.call('ZSCORE', P .. ':due', id)
  if (due and tonumber(due) > now) or r[6] then return {'early', state} end
end
if owner ~= '' and owner ~= holder then
  local lease = redis.call('ZSCORE', P .. ':holders', owner)
  if lease and tonumber(lease) > now then return {'held', state} end
  redis.call('SREM', P .. ':held:' .. owner, id)
end
-- One that is to be cancelled, or has no description, ends at once, whatever holds the others.
if (state == 'QUEUED' or state == 'BACKOFF') and (r[8] or '') == '' then
  local place = place_of(queue, r[9], r[7])
  if place and redis.call('HGET', job_key(id), 'spec') ~= '' then
    keep_back(id, place, created)
    -- No claim ends it any more when its time is over: whoever ends overdue jobs has to look what limit it has.
    if state == 'BACKOFF' then redis.call('ZADD', P .. ':deadlines', 'NX', stamp, id) end
    return {'kept', state}
  end
end
-- A holder without a lease (it ran out just now) must still be found by the next reap.
redis.call('ZADD', P .. ':holders', 'NX', now, holder)
set_holder(id, holder)
if ENDED[state] then return {'replay', state, redis.call('HGETALL', job_key(id))} end
if state == 'QUEUED' then
  redis.call('HSET', job_key(id), 'attempt', 1)
  redis.call('HSETNX', job_key(id), 'attempts', '[]')
  redis.call('ZREM', P .. ':deadlines', id)
  -- Whoever cancels the jobs of its batch may not have come to it yet.
  local stopped = r[7] and read_fields(batch_key(r[7]), 'cancelled')[1]
  if stopped then redis.call('HSETNX', job_key(id), 'cancel', stopped) end
  set_state(id, 'QUEUED', 'LAUNCHING')
  return {'launch', state, redis.call('HGETALL', job_key(id))}
end
if state == 'BACKOFF' then
  redis.call('HINCRBY', job_key(id), 'attempt', 1)
  redis.call('ZREM', P .. ':deadlines', id)
  redis.call('HDEL', job_key(id), 'node', 'started_at', 'due_at', 'claimed_at')
  set_state(id, 'BACKOFF', 'LAUNCHING')
  return {'launch', state, redis.call('HGETALL', job_key(id))}
end
if state == 'WAITING' then
  -- A message does not start a job that waits for other jobs.
  clear_holder(id, holder)
  return {'early', state}
end
return {'adopt', state, redis.call('HGETALL', job_key(id))}

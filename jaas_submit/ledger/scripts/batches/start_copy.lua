-- Writes the record of a running job's copy. The first worker with room that finds the record starts the copy.
--
-- Arguments:
--   id            the copy's
--   copy_of       the job that runs for too long
--   start_within  seconds after which a copy that has not started is given up; never, if it is missing
--   detail        the job's detail from now on, for people
-- Texts:
--   2  the copy's description
-- Answer: 1 when the copy is new. 0 when the job has a copy already, when it has ended, when its batch has no
--   room, or when nothing of its queue or batch may start now.
-- Needs: shared/batches
-- Reads: P:batch:ID P:job:ID P:queues
-- Writes: P:batch:ID P:deadlines P:due P:job:ID P:jobs P:kept:PLACE P:ready P:state:STATE
-- Publishes: C:available C:changes:ID

local id, copy_of = args.id, args.copy_of
if redis.call('EXISTS', job_key(id)) == 1 then return 0 end
local r = read_fields(job_key(copy_of), 'state', 'batch', 'index', 'queue', 'copied_by', 'copy_of', 'cancel', 'image',
  'traceparent')
local batch = r[2]
if r[1] ~= 'RUNNING' or not batch or r[5] or r[6] or (r[7] and r[7] ~= '') then return 0 end
if redis.call('HEXISTS', batch_key(batch), 'done') == 1 or free_slots(batch) <= 0 then return 0 end
if place_of(r[4], nil, batch) then return 0 end
redis.call('HSET', job_key(id), 'spec', ARGV[2], 'queue', r[4], 'task_id', id, 'message', '', 'holder', '',
  'attempt', 0, 'attempts', '[]', 'created_at', stamp, 'batch', batch, 'index', r[3], 'copy_of', copy_of, 'active', 1)
if r[8] then redis.call('HSET', job_key(id), 'image', r[8]) end
if r[9] then redis.call('HSET', job_key(id), 'traceparent', r[9]) end
redis.call('HINCRBY', batch_key(batch), 'active', 1)
redis.call('HINCRBY', batch_key(batch), 'copies', 1)
if args.start_within then redis.call('ZADD', P .. ':deadlines', now + args.start_within, id) end
redis.call('ZADD', P .. ':jobs', stamp, id)
set_state(id, nil, 'QUEUED')
mark_ready(id)
redis.call('HSET', job_key(copy_of), 'copied_by', id, 'detail', args.detail)
publish_change(copy_of, r[1], args.detail)
return 1

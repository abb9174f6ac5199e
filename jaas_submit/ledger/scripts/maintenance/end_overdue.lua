-- Ends a job that no worker has started within its time limit, or that is kept between two attempts until it is over.
--
-- Arguments:
--   id
--   attempt  its last attempt, as JSON
--   started  true: it is between two attempts, in BACKOFF; otherwise it was never started
--   state    FAILED, or CANCELLED if its Celery message has expired
--   why
--   ttl      seconds for which the record is kept
-- Answer: 1 when this call ended it.
-- Needs: shared/dependents
-- Reads: P:after:ID P:batch:ID P:batch:ID:ended P:job:ID P:log:ID:ATTEMPT
-- Writes: P:after:ID P:batch:ID P:batch:ID:ended P:batch:ID:waiting P:cancelling P:deadlines P:due P:job:ID
--   P:kept:PLACE P:log:ID:ATTEMPT P:pending_dependents P:ready P:speculating P:state:STATE P:stop:HOLDER P:unowned
-- Publishes: C:available C:cancels C:changes:ID C:changes:batch:ID

local id = args.id
redis.call('ZREM', P .. ':deadlines', id)
local r = redis.call('HMGET', job_key(id), 'state', 'holder', 'attempts')
local state, before = r[1], r[3]
local waits = state == 'QUEUED' or state == 'WAITING'
if args.started then waits = state == 'BACKOFF' end
if not waits or r[2] ~= '' then return 0 end
local after = '[' .. args.attempt .. ']'
if args.started and before and before ~= '[]' then after = string.sub(before, 1, -2) .. ', ' .. args.attempt .. ']' end
redis.call('HSET', job_key(id), 'attempts', after, 'detail', args.why)
-- A worker has to tell Celery of it.
redis.call('ZADD', P .. ':unowned', stamp, id)
move(id, state, args.state, args.why)
redis.call('EXPIRE', job_key(id), args.ttl)
return 1

-- Ends a job that no worker has started within its time limit.
--
-- Arguments:
--   id
--   attempt  its only attempt, as JSON
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
local r = redis.call('HMGET', job_key(id), 'state', 'holder')
local state = r[1]
if (state ~= 'QUEUED' and state ~= 'WAITING') or r[2] ~= '' then return 0 end
redis.call('HSET', job_key(id), 'attempts', '[' .. args.attempt .. ']', 'detail', args.why)
-- A worker has to tell Celery of it.
redis.call('ZADD', P .. ':unowned', stamp, id)
move(id, state, args.state, args.why)
redis.call('EXPIRE', job_key(id), args.ttl)
return 1

-- Requests the cancellation of a job. A job without a holder ends at once.
--
-- Arguments:
--   id
--   why
--   attempt  the last attempt of a job that ends at once, as JSON
--   ttl      seconds for which the record of such a job is kept
--   by       who asks for it; missing if a worker does
--   batch    only if this batch is cancelled; without it, whatever its batch is
-- Answer: {1 if this call ended the job, the state before; empty if there is no record}.
-- Needs: shared/dependents
-- Reads: P:after:ID P:batch:ID P:batch:ID:ended P:job:ID P:log:ID:ATTEMPT
-- Writes: P:after:ID P:batch:ID P:batch:ID:ended P:batch:ID:waiting P:cancelling P:deadlines P:due P:job:ID
--   P:kept:PLACE P:log:ID:ATTEMPT P:pending_dependents P:ready P:speculating P:state:STATE P:stop:HOLDER P:unowned
-- Publishes: C:available C:cancels C:changes:ID C:changes:batch:ID

local id = args.id
if args.batch and not read_fields(batch_key(args.batch), 'cancelled')[1] then return {0, ''} end
local r = redis.call('HMGET', job_key(id), 'state', 'cancel', 'reported', 'attempts', 'audit')
local state, before = r[1], r[4]
if not state then return {0, ''} end
if ENDED[state] or r[3] == '1' then return {0, state} end
if args.by then redis.call('HSET', job_key(id), 'audit', add_audit(r[5], 'cancel', args.by, args.why)) end
if not r[2] or r[2] == '' then redis.call('HSET', job_key(id), 'cancel', args.why) end
if state ~= 'QUEUED' and state ~= 'BACKOFF' and state ~= 'WAITING' then
  request_cancel(id)
  return {0, state}
end
local after = '[' .. args.attempt .. ']'
if before and before ~= '[]' then after = string.sub(before, 1, -2) .. ', ' .. args.attempt .. ']' end
redis.call('HSET', job_key(id), 'attempts', after, 'detail', args.why)
redis.call('ZREM', P .. ':deadlines', id)
-- A worker has to bring the outcome to Celery (a chord waits for it), and there may be no message to make it do so.
redis.call('ZADD', P .. ':unowned', stamp, id)
move(id, state, 'CANCELLED', args.why)
redis.call('EXPIRE', job_key(id), args.ttl)
return {1, state}

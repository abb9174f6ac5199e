-- Marks a batch as cancelled: from now on no job joins it, and none of its jobs starts. The caller then cancels its
-- open jobs one by one. If the caller dies before that, a worker does it.
--
-- Arguments:
--   batch
--   why
--   by     who asks for it; missing if a worker does
-- Answer: 1 when done, 0 when there is no such batch, 2 when it has ended already.
-- Needs: shared/dependents
-- Reads: P:after:ID P:batch:ID P:batch:ID:ended P:job:ID P:log:ID:ATTEMPT
-- Writes: P:after:ID P:batch:ID P:batch:ID:ended P:batch:ID:waiting P:cancelling P:deadlines P:due P:job:ID
--   P:kept:PLACE P:log:ID:ATTEMPT P:pending_dependents P:ready P:speculating P:state:STATE P:stop:HOLDER P:unowned
-- Publishes: C:available C:cancels C:changes:ID C:changes:batch:ID

local batch = args.batch
local b = redis.call('HMGET', batch_key(batch), 'created_at', 'done', 'size', 'audit')
if not b[1] then return 0 end
if b[2] then return 2 end
if args.by then redis.call('HSET', batch_key(batch), 'audit', add_audit(b[4], 'cancel', args.by, args.why)) end
redis.call('HSETNX', batch_key(batch), 'cancelled', args.why)
redis.call('HSETNX', batch_key(batch), 'total', b[3] or 0)
redis.call('SADD', P .. ':cancelling', batch)
local ended, why = end_batch(batch)
if ended then process_end('batch:' .. batch, ended, 'batch ' .. batch .. ': ' .. why) end
return 1

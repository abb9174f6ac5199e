-- Closes a batch: all its jobs have been submitted, and it takes no more.
--
-- Arguments:
--   batch
--   total  how many jobs it has
-- Answer: 1 when done, 0 when there is no such batch.
-- Needs: shared/dependents
-- Reads: P:after:ID P:batch:ID P:batch:ID:ended P:job:ID P:log:ID:ATTEMPT
-- Writes: P:after:ID P:batch:ID P:batch:ID:ended P:batch:ID:waiting P:cancelling P:deadlines P:due P:job:ID
--   P:kept:PLACE P:log:ID:ATTEMPT P:pending_dependents P:ready P:speculating P:state:STATE P:stop:HOLDER P:unowned
-- Publishes: C:available C:cancels C:changes:ID C:changes:batch:ID

local batch = args.batch
if redis.call('EXISTS', batch_key(batch)) == 0 then return 0 end
redis.call('HSETNX', batch_key(batch), 'total', args.total)
judge_all(batch)
local ended, why = end_batch(batch)
if ended then process_end('batch:' .. batch, ended, 'batch ' .. batch .. ': ' .. why) end
return 1

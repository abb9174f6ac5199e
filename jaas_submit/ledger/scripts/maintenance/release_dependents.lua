-- Queues or skips more of the jobs that come after ended jobs and batches. One script does at most 250 of them, so that
-- Redis stays responsive; this one continues with the rest.
--
-- Arguments: none.
-- Answer: 1 when some are left, else 0.
-- Needs: shared/dependents
-- Reads: P:after:ID P:batch:ID P:batch:ID:ended P:job:ID P:log:ID:ATTEMPT P:pending_dependents
-- Writes: P:after:ID P:batch:ID P:batch:ID:ended P:batch:ID:waiting P:cancelling P:deadlines P:due P:job:ID
--   P:kept:PLACE P:log:ID:ATTEMPT P:pending_dependents P:ready P:speculating P:state:STATE P:stop:HOLDER P:unowned
-- Publishes: C:available C:cancels C:changes:ID C:changes:batch:ID

release_dependents({})
local left = redis.pcall('LLEN', P .. ':pending_dependents')
return type(left) == 'number' and left > 0 and 1 or 0

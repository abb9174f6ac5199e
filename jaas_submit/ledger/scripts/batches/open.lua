-- Lets a batch whose jobs have all been submitted take further ones, until it is closed again.
--
-- Arguments:
--   batch
--   again  true: also one that was cancelled, or stopped by one of its rules, when its jobs have ended
-- Answer: {1} when done, {0} when there is no such batch, {2, why} when it was cancelled, {3, why} when its jobs are
--   still being cancelled.
-- Needs: shared/batches
-- Reads: P:batch:ID
-- Writes: P:batch:ID P:cancelling
-- Publishes: nothing

local batch = args.batch
local b = redis.call('HMGET', batch_key(batch), 'created_at', 'cancelled', 'done')
if not b[1] then return {0} end
if b[2] and not args.again then return {2, b[2]} end
if b[2] and not b[3] then return {3, b[2]} end
reopen_batch(batch)
redis.call('HDEL', batch_key(batch), 'total')
if args.again then spare_ended(batch) end
return {1}

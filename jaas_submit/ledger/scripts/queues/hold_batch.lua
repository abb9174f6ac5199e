-- Holds a batch: none of its jobs is started. Or releases it.
--
-- Arguments:
--   batch
--   by       who does it
--   why      the reason, for people
--   release  true: its jobs may be started again
--   most     how many kept jobs go on at once
-- Answer: 1 when done, 0 when it was so already, -1 when the batch has ended, -2 when there is none.
-- Needs: shared/kept
-- Reads: P:batch:ID P:job:ID P:kept:PLACE
-- Writes: P:batch:ID P:job:ID P:kept:PLACE P:opening P:ready P:unowned
-- Publishes: C:available

local b = read_fields(batch_key(args.batch), 'created_at', 'done', 'held', 'audit')
if not b[1] then return -2 end
if b[2] then return -1 end
-- Also if it is not held any more: an earlier release may have failed half-way.
if args.release then open_place('batch:' .. args.batch, args.most) end
if (b[3] ~= false) == (args.release ~= true) then return 0 end
local verb = args.release and 'release' or 'hold'
redis.call('HSET', batch_key(args.batch), 'audit', add_audit(b[4], verb, args.by, args.why))
if args.release then
  redis.call('HDEL', batch_key(args.batch), 'held')
else
  redis.call('HSET', batch_key(args.batch), 'held', args.by)
end
return 1

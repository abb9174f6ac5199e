-- Notes that a call is about to replace the jobs of a batch that did not succeed, or that it has done so.
--
-- Arguments:
--   batch
--   over  true: the call has replaced them
-- Answer: 1.
-- Needs: shared/batches
-- Reads: P:batch:ID
-- Writes: P:batch:ID
-- Publishes: nothing

if args.over then judge_all(args.batch) else spare_ended(args.batch) end
return 1

-- Tells the worker process that holds a job how its container ended.
--
-- Arguments:
--   job
-- Texts:
--   2  the message for the holder
-- Answer: how many subscribers received it; 0 when nobody holds the job.
-- Needs: shared/head
-- Reads: P:job:ID
-- Writes: nothing
-- Publishes: P:exits:HOLDER

local holder = redis.call('HGET', P .. ':job:' .. args.job, 'holder')
if not holder or holder == '' then return 0 end
return redis.call('PUBLISH', P .. ':exits:' .. holder, ARGV[2])

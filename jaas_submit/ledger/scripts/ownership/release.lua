-- Gives up a job that has no outcome yet, so that another worker process continues it.
--
-- Arguments:
--   id
--   holder  the worker process; the record must name it
--   pause   seconds during which no worker takes the job
-- Answer: 1 when done, 0 when the record is not as expected.
-- Needs: shared/jobs
-- Reads: P:job:ID
-- Writes: P:held:HOLDER P:job:ID P:unowned
-- Publishes: C:available

local id = args.id
if read_fields(job_key(id), 'holder')[1] ~= args.holder then
  redis.call('SREM', P .. ':held:' .. args.holder, id)
  return 0
end
clear_holder(id, args.holder)
redis.call('ZADD', P .. ':unowned', now + args.pause, id)
if args.pause == 0 then redis.call('PUBLISH', C .. ':available', id) end
return 1

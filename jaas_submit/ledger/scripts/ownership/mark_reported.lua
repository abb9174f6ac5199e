-- Notes that a job's outcome has reached Celery's result backend: nobody has to look after it any more. Not so where
-- Redis has come back older than that outcome.
--
-- Arguments:
--   id
--   holder  the worker process; the record must name it
--   ttl     seconds for which the record is kept from now on
-- Answer: 1 when done, 0 when the record is not as expected.
-- Needs: shared/jobs
-- Reads: P:job:ID
-- Writes: P:held:HOLDER P:job:ID P:unowned
-- Publishes: P:changes:ID

local id = args.id
local r = redis.call('HMGET', job_key(id), 'state', 'holder')
local state = r[1]
if not state or OPEN[state] or r[2] ~= args.holder then return 0 end
redis.call('HSET', job_key(id), 'reported', 1)
clear_holder(id, args.holder)
redis.call('EXPIRE', job_key(id), args.ttl)
redis.call('PUBLISH', P .. ':changes:' .. id, cjson.encode({id = id, state = state, detail = '', reported = true}))
return 1

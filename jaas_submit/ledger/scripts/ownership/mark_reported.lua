-- Marks a job as reported: Celery's result backend has its outcome, and no worker needs to take care of it any more.
-- Refused if the record has no outcome, as when Redis came back with older data.
--
-- Arguments:
--   id
--   holder  the worker process; the record must name it
--   ttl     seconds for which the record is kept from now on, and at least that of a copy that has its files
-- Answer: 1 when done, 0 when the record is not as expected.
-- Needs: shared/jobs
-- Reads: P:job:ID
-- Writes: P:held:HOLDER P:job:ID P:noted:ID P:unowned
-- Publishes: C:changes:ID

local id = args.id
local r = redis.call('HMGET', job_key(id), 'state', 'holder', 'copied_by')
local state = r[1]
if not state or OPEN[state] or r[2] ~= args.holder then return 0 end
redis.call('HSET', job_key(id), 'reported', 1)
clear_holder(id, args.holder)
redis.call('EXPIRE', job_key(id), args.ttl)
redis.call('EXPIRE', P .. ':noted:' .. id, args.ttl)
-- Files and a large output that a copy stored go with the copy's record. GT leaves one alone that does not expire yet.
if r[3] then redis.call('EXPIRE', job_key(r[3]), args.ttl, 'GT') end
redis.call('PUBLISH', C .. ':changes:' .. id, cjson.encode({id = id, state = state, detail = '', reported = true}))
return 1

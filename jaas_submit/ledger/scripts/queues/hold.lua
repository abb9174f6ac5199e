-- Holds a job that waits, or releases it. A worker that comes to a held job keeps it instead of starting it.
--
-- Arguments:
--   id
--   by       who does it
--   why      the reason, for people
--   release  true: the job may be started again
-- Answer: the job's state; empty where there is no record.
-- Needs: shared/kept
-- Reads: P:job:ID
-- Writes: P:job:ID P:kept:PLACE P:ready P:unowned
-- Publishes: C:available

local id = args.id
local r = redis.call('HMGET', job_key(id), 'state', 'reported', 'held', 'audit', 'kept_at', 'created_at')
local state = r[1]
if not state then return '' end
if r[2] == '1' or (state ~= 'WAITING' and state ~= 'QUEUED' and state ~= 'BACKOFF') then return state end
-- Also if it is not held any more: an earlier release may have failed half-way.
if args.release and r[5] == 'held' then
  go_on(id, 'held')
  redis.call('PUBLISH', C .. ':available', 'opened')
end
if (r[3] ~= false) == (args.release ~= true) then return state end
local verb = args.release and 'release' or 'hold'
redis.call('HSET', job_key(id), 'audit', add_audit(r[4], verb, args.by, args.why))
if args.release then
  redis.call('HDEL', job_key(id), 'held')
else
  redis.call('HSET', job_key(id), 'held', args.by)
end
return state

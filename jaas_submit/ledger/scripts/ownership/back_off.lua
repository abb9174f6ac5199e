-- Records the end of an attempt after which the job goes on: another attempt follows after a pause, or the job's copy
-- may still succeed. Until then the job has no holder.
--
-- Arguments:
--   id
--   holder   the worker process; the record must name it
--   sources  the states that lead to BACKOFF
--   pause    seconds until the next attempt; missing if only the copy may still succeed
--   detail   for people
--   attempt  number of the attempt that ended
--   ttl      seconds for which its log is kept
--   late     true: the attempt's service may still appear
-- Texts:
--   2  the packed log of the attempt; empty without one
--   3  all attempts as JSON
-- Answer: {1} when done, {2, why} when the job is to be cancelled instead, {3} when it has no copy that may succeed,
--   {0} when the record is not as expected.
-- Needs: shared/jobs
-- Reads: P:job:ID
-- Writes: P:batch:ID P:due P:held:HOLDER P:job:ID P:kept:PLACE P:log:ID:ATTEMPT P:ready P:state:STATE P:unowned
-- Publishes: C:changes:ID

local id = args.id
local r = redis.call('HMGET', job_key(id), 'state', 'holder', 'cancel', 'attempts', 'copied_by')
local state = r[1]
if state == 'BACKOFF' and r[4] == ARGV[3] then return {1} end
if not state or r[2] ~= args.holder or not contains(args.sources, state) then return {0} end
if r[3] and r[3] ~= '' then return {2, r[3]} end
if not args.pause then
  local copy = r[5] and redis.call('HGET', job_key(r[5]), 'state')
  if not copy or ENDED[copy] then return {3} end
  redis.call('HSET', job_key(id), 'waits_for_copy', 1)
else
  local due = string.format('%.6f', now + args.pause)
  redis.call('HSET', job_key(id), 'due_at', due)
  redis.call('ZADD', P .. ':due', due, id)
end
redis.call('HSET', job_key(id), 'attempts', ARGV[3], 'detail', args.detail)
if args.late then redis.call('HSET', job_key(id), 'late', 1) end
if ARGV[2] ~= '' then redis.call('SET', P .. ':log:' .. id .. ':' .. args.attempt, ARGV[2], 'EX', args.ttl) end
clear_holder(id, args.holder)
set_state(id, state, 'BACKOFF', args.detail)
return {1}

-- Notes that a job must not run. It has no record yet, and its message may still arrive.
--
-- Arguments:
--   id
--   most  how many such jobs are remembered, the newest ones
--   ttl   seconds for which they are remembered
-- Answer: 1 when done, 0 when the job has a record.
-- Needs: shared/head
-- Reads: P:job:ID
-- Writes: P:revoked
-- Publishes: nothing

local revoked = P .. ':revoked'
if redis.call('EXISTS', job_key(args.id)) == 1 then return 0 end
redis.call('ZREMRANGEBYSCORE', revoked, '-inf', now - args.ttl)
redis.call('ZADD', revoked, stamp, args.id)
redis.call('ZREMRANGEBYRANK', revoked, 0, -args.most - 1)
redis.call('EXPIRE', revoked, args.ttl)
return 1

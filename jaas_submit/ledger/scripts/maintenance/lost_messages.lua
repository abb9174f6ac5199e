-- Returns QUEUED jobs whose message must have been lost.
--
-- It is lost when it is older than the margin and its queue is empty, or when the message of a record that is younger
-- by the margin has arrived already: queues are first in, first out. The oldest 5,000 QUEUED jobs are looked at.
--
-- Arguments:
--   most    how many at most
--   pause   seconds until the same job is returned again
--   margin  seconds
--   queue   the queue that their messages went to
--   empty   true: no message waits in the queue
-- Answer: the ids.
-- Reads: P:job:ID P:newest_received P:state:STATE
-- Writes: P:job:ID P:state:STATE
-- Publishes: nothing

local newest = tonumber(redis.call('HGET', P .. ':newest_received', args.queue) or '0')
local oldest = redis.call('ZRANGEBYSCORE', P .. ':state:QUEUED', '-inf', now - args.margin, 'LIMIT', 0, 5000)
local found = {}
for _, id in ipairs(oldest) do
  if #found >= args.most then break end
  local r = redis.call('HMGET', job_key(id), 'queue', 'created_at', 'republished_at')
  local queue, created, republished = r[1], r[2], tonumber(r[3] or '0')
  if not queue then
    redis.call('ZREM', P .. ':state:QUEUED', id)
  elseif queue == args.queue and republished <= now - args.pause
    and (args.empty or tonumber(created) < newest - args.margin) then
    redis.call('HSET', job_key(id), 'republished_at', stamp)
    found[#found + 1] = id
  end
end
return found

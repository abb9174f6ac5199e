-- Returns QUEUED jobs whose message must have been lost.
--
-- A message counts as lost in two cases. It is older than the margin, and its queue is empty. Or a message has arrived
-- whose record is younger by at least the margin: queues are first in, first out. No job of a paused queue
-- counts. The script reads the oldest 5,000 QUEUED jobs.
--
-- Arguments:
--   most    how many at most
--   pause   seconds until the same job is returned again
--   margin  seconds
--   queue   the queue that their messages went to
--   empty   true: no message waits in the queue
-- Answer: the ids.
-- Needs: shared/kept
-- Reads: P:batch:ID P:job:ID P:newest_received P:queues P:state:STATE
-- Writes: P:job:ID P:state:STATE P:unowned
-- Publishes: nothing

if place_of(args.queue) then return {} end
local newest = to_number(read_fields(P .. ':newest_received', args.queue)[1])
local oldest = members_until(P .. ':state:QUEUED', now - args.margin, 'LIMIT', 0, 5000)
local found = {}
for _, id in ipairs(oldest) do
  if #found >= args.most then break end
  local r = read_fields(job_key(id), 'queue', 'created_at', 'republished_at', 'kept_at')
  local queue, created, republished = r[1], to_number(r[2]), to_number(r[3])
  if not queue then
    if not is_no_record(id) then redis.call('ZREM', P .. ':state:QUEUED', id) end
  elseif queue == args.queue and not r[4] and republished <= now - args.pause
    and (args.empty or created < newest - args.margin) then
    redis.call('HSET', job_key(id), 'republished_at', stamp)
    found[#found + 1] = id
  end
end
return found

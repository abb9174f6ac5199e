-- Returns QUEUED jobs that no message announces.
--
-- Arguments:
--   most   how many at most
--   pause  seconds until the same job is returned again
-- Answer: the ids.
-- Needs: shared/head
-- Reads: P:job:ID P:ready
-- Writes: P:ready P:unowned
-- Publishes: nothing

local found = {}
for _, id in ipairs(members_until(P .. ':ready', now, 'LIMIT', 0, args.most)) do
  if not is_no_record(id) and read_fields(job_key(id), 'state')[1] == 'QUEUED' then
    redis.call('ZADD', P .. ':ready', now + args.pause, id)
    found[#found + 1] = id
  else
    -- It has expired, or a worker of an older version, which does not know this set, claimed or ended it.
    redis.call('ZREM', P .. ':ready', id)
  end
end
return found

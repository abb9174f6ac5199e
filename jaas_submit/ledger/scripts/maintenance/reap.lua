-- Takes the jobs from worker processes whose lease has run out.
--
-- Arguments:
--   most  how many jobs at most
-- Answer: the ids of the jobs.
-- Needs: shared/head
-- Reads: P:held:HOLDER P:holders P:job:ID
-- Writes: P:held:HOLDER P:job:ID P:unowned
-- Publishes: nothing

local taken = {}
for _, holder in ipairs(members_until(P .. ':holders', now)) do
  local ids = redis.pcall('SRANDMEMBER', P .. ':held:' .. holder, args.most - #taken)
  if ids.err then redis.call('UNLINK', P .. ':held:' .. holder) end
  for _, id in ipairs(ids) do
    if not is_no_record(id) and redis.call('HGET', job_key(id), 'holder') == holder then
      redis.call('HSET', job_key(id), 'holder', '')
      redis.call('ZADD', P .. ':unowned', now, id)
      taken[#taken + 1] = id
    end
    redis.call('SREM', P .. ':held:' .. holder, id)
  end
  if redis.call('SCARD', P .. ':held:' .. holder) == 0 then redis.call('ZREM', P .. ':holders', holder) end
  if #taken >= args.most then break end
end
return taken

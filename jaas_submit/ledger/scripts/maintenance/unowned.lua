-- Returns jobs that a worker has to take over: they have no holder, or their next attempt is due. Queues the WAITING
-- jobs whose start time has come, if they wait for nothing else.
--
-- * A job in a state that only a newer version knows is left to a worker of that version. It is due again in a second.
-- * A QUEUED job was put here by an older version, which does not know P:ready. They move there, as there may be many.
-- * An id whose key is no record is returned once an hour, so that a worker logs it.
--
-- Arguments:
--   most   how many at most
--   pause  seconds until the same job is returned again
-- Answer: the ids.
-- Needs: shared/batches
-- Reads: P:batch:ID P:due P:job:ID P:unowned
-- Writes: P:batch:ID P:batch:ID:waiting P:due P:job:ID P:kept:PLACE P:ready P:state:STATE P:unowned
-- Publishes: C:available C:changes:ID

local most, pause = args.most, args.pause
for _, id in ipairs(members_until(P .. ':due', now, 'LIMIT', 0, most)) do
  redis.call('ZREM', P .. ':due', id)
  local r = is_no_record(id) and {} or redis.call('HMGET', job_key(id), 'state', 'holder')
  if r[1] == 'WAITING' then
    if redis.call('HDEL', job_key(id), 'not_before') == 1 then condition_met(id) end
  elseif r[2] == '' then
    redis.call('ZADD', P .. ':unowned', now, id)
  end
end
local found, seen = {}, {}
for _ = 1, 50 do
  local moved = false
  for _, id in ipairs(members_until(P .. ':unowned', now, 'LIMIT', 0, most)) do
    -- Without a pause, jobs that have just been returned are here again.
    if not seen[id] and #found < most then
      local state = read_fields(job_key(id), 'state')[1]
      if is_no_record(id) then
        redis.call('ZADD', P .. ':unowned', now + 3600, id)
        found[#found + 1] = id
      elseif not state then
        redis.call('ZREM', P .. ':unowned', id)
      elseif state == 'QUEUED' then
        redis.call('ZREM', P .. ':unowned', id)
        redis.call('ZADD', P .. ':ready', 'NX', now, id)
        moved = true
      elseif ENDED[state] or OPEN[state] then
        redis.call('ZADD', P .. ':unowned', now + pause, id)
        found[#found + 1] = id
      else
        redis.call('ZADD', P .. ':unowned', now + 1, id)
      end
      seen[id] = true
    end
  end
  if not moved then break end
end
return found

-- Returns jobs whose time was over before anybody started them. One whose record is gone is forgotten, as it would
-- stand before all others for ever.
--
-- Arguments:
--   most  how many at most
-- Answer: the ids.
-- Reads: P:deadlines P:job:ID
-- Writes: P:deadlines
-- Publishes: nothing

local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':deadlines', '-inf', now, 'LIMIT', 0, args.most)) do
  if redis.call('EXISTS', job_key(id)) == 1 then
    found[#found + 1] = id
  else
    redis.call('ZREM', P .. ':deadlines', id)
  end
end
return found

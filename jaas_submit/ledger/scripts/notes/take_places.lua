-- Counts a job among those in flight, unless so many are in flight already.
--
-- A member that is in flight no more leaves the set when another job asks for its place. At most 50 members are looked
-- at in one run, chosen at random: whoever waits asks again.
--
-- Arguments:
--   id
--   limits  {{name of what is counted, how many may be in flight}, ...}
-- Answer: the first name whose limit is reached; an empty text when the job is counted in all.
-- Needs: shared/head
-- Reads: P:in_flight:NAME P:job:ID
-- Writes: P:in_flight:NAME
-- Publishes: nothing

local id = args.id
for _, limit in ipairs(args.limits) do
  local name, most = limit[1], limit[2]
  local key = P .. ':in_flight:' .. name
  if redis.call('SISMEMBER', key, id) == 0 and redis.call('SCARD', key) >= most then
    for _, other in ipairs(redis.call('SRANDMEMBER', key, 50)) do
      local state = read_fields(job_key(other), 'state')[1]
      if state ~= 'LAUNCHING' and state ~= 'PENDING' and state ~= 'RUNNING' then redis.call('SREM', key, other) end
    end
    if redis.call('SCARD', key) >= most then return name end
  end
end
for _, limit in ipairs(args.limits) do redis.call('SADD', P .. ':in_flight:' .. limit[1], id) end
return ''

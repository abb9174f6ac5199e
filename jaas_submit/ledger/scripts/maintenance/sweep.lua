-- Removes the ids of expired records from the indexes, and expired batches.
--
-- Arguments:
--   most  how many to check of each: the oldest batches, the oldest jobs, and the oldest jobs in each end state
--   ttl   seconds that a batch is kept after its end
-- Answer: how many were removed.
-- Needs: shared/head
-- Reads: P:batch:ID P:batch:ID:ended P:batches P:job:ID P:jobs P:state:STATE
-- Writes: P:batch:ID P:batch:ID:ended P:batch:ID:inputs P:batch:ID:order P:batch:ID:places P:batch:ID:waiting P:batches
--   P:cancelling P:deadlines P:jobs P:ready P:speculating P:state:STATE P:unowned
-- Publishes: nothing

local gone = 0
local limit = math.floor(now) - args.ttl
for _, batch in ipairs(members_until(P .. ':batches', limit, 'LIMIT', 0, args.most)) do
  local b = read_fields(batch_key(batch), 'created_at', 'ended_at', 'size', 'left')
  -- A batch that was never closed (its producer died) goes too, once none of its jobs is open. So does a key that is
  -- no batch.
  local ended = redis.pcall('LLEN', batch_key(batch) .. ':ended')
  local idle = not b[2] and (type(ended) == 'table' or ended - to_number(b[4]) >= to_number(b[3]))
  if not b[1] or idle or (b[2] and to_number(b[2]) <= limit) then
    redis.call('UNLINK', batch_key(batch))
    redis.call('UNLINK', batch_key(batch) .. ':waiting')
    redis.call('UNLINK', batch_key(batch) .. ':ended')
    redis.call('UNLINK', batch_key(batch) .. ':inputs')
    redis.call('UNLINK', batch_key(batch) .. ':order')
    redis.call('UNLINK', batch_key(batch) .. ':places')
    redis.call('ZREM', P .. ':batches', batch)
    redis.call('SREM', P .. ':cancelling', batch)
    redis.call('SREM', P .. ':speculating', batch)
    gone = gone + 1
  end
end

local function forget_expired(ids)
  for _, id in ipairs(ids) do
    if redis.call('EXISTS', job_key(id)) == 0 then
      redis.call('ZREM', P .. ':jobs', id)
      for _, state in ipairs(STATES) do redis.call('ZREM', P .. ':state:' .. state, id) end
      redis.call('ZREM', P .. ':unowned', id)
      redis.call('ZREM', P .. ':ready', id)
      redis.call('ZREM', P .. ':deadlines', id)
      gone = gone + 1
    end
  end
end

-- Those that ended first expire first: old jobs that have not ended do not stand before them.
for state in pairs(ENDED) do forget_expired(members_until(P .. ':state:' .. state, '+inf', 'LIMIT', 0, args.most)) end
-- A record may be gone in any state: Redis came back older than it was.
forget_expired(members_until(P .. ':jobs', '+inf', 'LIMIT', 0, args.most))
return gone

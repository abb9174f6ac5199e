-- Forgets sent files that nobody needs any more; the names of those in the store join P:sent_left.
--
-- Arguments:
--   keep   seconds for which a job or batch without a record counts: its producer is about to write it
--   most   files that are looked at: those that were not for the longest time
--   pause  seconds after which one is looked at again
-- Answer: how many were forgotten.
-- Needs: shared/head
-- Reads: P:batch:ID P:job:ID P:sent:DIGEST P:sent:DIGEST:users P:sent_files
-- Writes: P:sent:DIGEST P:sent:DIGEST:users P:sent_files P:sent_left
-- Publishes: nothing

-- Looks at no more in one call, which blocks Redis.
local USERS = 1000

-- Returns whether a file is needed: one of its users is enough, so that this looks only until it finds one.
local function is_needed(digest)
  local users = P .. ':sent:' .. digest .. ':users'
  for _, user in ipairs(members_until(users, '+inf', 'LIMIT', 0, USERS)) do
    local batch = string.match(user, '^batch:(.+)$')
    if batch and redis.call('EXISTS', batch_key(batch)) == 1 then return true end
    if not batch and redis.call('EXISTS', job_key(user)) == 1 then return true end
    if to_number(redis.call('ZSCORE', users, user)) > now - args.keep then return true end
    redis.call('ZREM', users, user)
  end
  return redis.call('EXISTS', users) == 1
end

local forgotten = 0
for _, digest in ipairs(members_until(P .. ':sent_files', now - args.pause, 'LIMIT', 0, args.most)) do
  if is_needed(digest) then
    redis.call('ZADD', P .. ':sent_files', stamp, digest)
  else
    local place = redis.call('HGET', P .. ':sent:' .. digest, 'place')
    if place and place ~= '-' then redis.call('ZADD', P .. ':sent_left', 0, place) end
    redis.call('UNLINK', P .. ':sent:' .. digest)
    redis.call('UNLINK', P .. ':sent:' .. digest .. ':users')
    redis.call('ZREM', P .. ':sent_files', digest)
    forgotten = forgotten + 1
  end
end
return forgotten

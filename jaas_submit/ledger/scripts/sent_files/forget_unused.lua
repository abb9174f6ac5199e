-- Forgets sent files that nobody needs any more; the names of those in the store join P:sent_left.
--
-- Arguments:
--   keep   seconds for which a job or batch without a record counts: its producer is about to write it
--   most   files that are looked at: those that were not for the longest time
--   pause  seconds after which one is looked at again
-- Answer: how many were looked at, and 1 if one has so many users without a record that the next call goes on with it.
-- Needs: shared/head
-- Reads: P:batch:ID P:job:ID P:sent:DIGEST P:sent:DIGEST:users P:sent_files
-- Writes: P:sent:DIGEST P:sent:DIGEST:users P:sent_files P:sent_left
-- Publishes: nothing

-- Users that are looked at in one call, which blocks Redis; and that are read at once: mostly the first is enough.
local users_left = 1000
local AT_ONCE = 20

-- Returns whether a file is needed: one of its users is enough. Nil if the call is over before that is known.
local function is_needed(digest)
  local users = P .. ':sent:' .. digest .. ':users'
  while true do
    local some = members_until(users, '+inf', 'LIMIT', 0, AT_ONCE)
    if #some == 0 then return redis.call('EXISTS', users) == 1 end
    for _, user in ipairs(some) do
      if users_left == 0 then return nil end
      users_left = users_left - 1
      local batch = string.match(user, '^batch:(.+)$')
      if batch and redis.call('EXISTS', batch_key(batch)) == 1 then return true end
      if not batch and redis.call('EXISTS', job_key(user)) == 1 then return true end
      if to_number(redis.call('ZSCORE', users, user)) > now - args.keep then return true end
      redis.call('ZREM', users, user)
    end
  end
end

local looked = 0
for _, digest in ipairs(members_until(P .. ':sent_files', now - args.pause, 'LIMIT', 0, args.most)) do
  local needed = is_needed(digest)
  if needed == nil then return {looked, 1} end
  looked = looked + 1
  if needed then
    redis.call('ZADD', P .. ':sent_files', stamp, digest)
  else
    local place = read_fields(P .. ':sent:' .. digest, 'place')[1]
    if place and place ~= '-' then redis.call('ZADD', P .. ':sent_left', 0, place) end
    redis.call('UNLINK', P .. ':sent:' .. digest)
    redis.call('UNLINK', P .. ':sent:' .. digest .. ':users')
    redis.call('ZREM', P .. ':sent_files', digest)
  end
end
return {looked, 0}

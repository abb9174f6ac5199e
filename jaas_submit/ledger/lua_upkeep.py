"""The Lua scripts that look after all jobs: leases, orphans, lost messages, duties, expired records."""

from __future__ import annotations

from typing import Final

__all__ = ["LOCK", "ORPHANS", "OVER_TIME", "REAP", "RELEASED", "RENEW", "SWEEP", "UNHEARD"]

# ARGV: 2 holder, 3 ttl, 4 info. Returns 1 when the lease was still there (or is the first), 0 when it had run out.
RENEW: Final = """
local old = tonumber(redis.call('ZSCORE', P .. ':holders', ARGV[2]) or '0')
redis.call('ZADD', P .. ':holders', now + tonumber(ARGV[3]), ARGV[2])
redis.call('SET', P .. ':info:' .. ARGV[2], ARGV[4], 'PX', math.ceil(tonumber(ARGV[3]) * 1000))
if old <= now and redis.call('EXISTS', P .. ':seen:' .. ARGV[2]) == 1 then return 0 end
redis.call('SET', P .. ':seen:' .. ARGV[2], 1, 'EX', 86400)
return 1
"""

# ARGV: 2 most jobs a call. Takes every job from holders whose lease has run out. Returns the ids.
REAP: Final = """
local taken = {}
for _, holder in ipairs(range(P .. ':holders', now)) do
  local ids = redis.pcall('SRANDMEMBER', P .. ':held:' .. holder, tonumber(ARGV[2]) - #taken)
  if ids.err then redis.call('UNLINK', P .. ':held:' .. holder) end
  for _, id in ipairs(ids) do
    local job = P .. ':job:' .. id
    if not strange(id) and redis.call('HGET', job, 'holder') == holder then
      redis.call('HSET', job, 'holder', '')
      redis.call('ZADD', P .. ':orphans', now, id)
      taken[#taken + 1] = id
    end
    redis.call('SREM', P .. ':held:' .. holder, id)
  end
  if redis.call('SCARD', P .. ':held:' .. holder) == 0 then redis.call('ZREM', P .. ':holders', holder) end
  if #taken >= tonumber(ARGV[2]) then break end
end
return taken
"""

# ARGV: 2 most, 3 pause in seconds. Returns orphans: jobs without a holder, and jobs whose next attempt is due. Each is
# not returned again before the pause is over. One in a state of a newer version is left to a worker of that version,
# which has to get at it within a second. One that is QUEUED was put here by an older version, which has no P:released:
# very many of them may stand before the others. What is no record is returned once an hour, to be named.
ORPHANS: Final = """
local most, pause = tonumber(ARGV[2]), tonumber(ARGV[3])
for _, id in ipairs(range(P .. ':due', now, 'LIMIT', 0, most)) do
  redis.call('ZREM', P .. ':due', id)
  if not strange(id) and redis.call('HGET', key(id), 'holder') == '' then
    redis.call('ZADD', P .. ':orphans', now, id)
  end
end
local found, seen = {}, {}
for _ = 1, 50 do
  local moved = false
  for _, id in ipairs(range(P .. ':orphans', now, 'LIMIT', 0, most)) do
    local bad = strange(id)
    local state = not seen[id] and #found < most and hash(key(id), 'state')[1]
    if seen[id] or #found >= most then
      -- With no pause it stands here again.
    elseif bad then
      redis.call('ZADD', P .. ':orphans', now + 3600, id)
      found[#found + 1] = id
    elseif not state then
      redis.call('ZREM', P .. ':orphans', id)
    elseif state == 'QUEUED' then
      redis.call('ZREM', P .. ':orphans', id)
      redis.call('ZADD', P .. ':released', 'NX', now, id)
      moved = true
    elseif ENDED[state] or OPEN[state] then
      redis.call('ZADD', P .. ':orphans', now + pause, id)
      found[#found + 1] = id
    else
      redis.call('ZADD', P .. ':orphans', now + 1, id)
    end
    seen[id] = true
  end
  if not moved then break end
end
return found
"""

# ARGV: 2 most, 3 pause in seconds. Returns QUEUED jobs of which no message tells; none again before the pause is over.
RELEASED: Final = """
local found = {}
for _, id in ipairs(range(P .. ':released', now, 'LIMIT', 0, tonumber(ARGV[2]))) do
  if not strange(id) and hash(key(id), 'state')[1] == 'QUEUED' then
    redis.call('ZADD', P .. ':released', now + tonumber(ARGV[3]), id)
    found[#found + 1] = id
  else
    -- Expired, or claimed or ended by a worker of an older version, which does not know this set.
    redis.call('ZREM', P .. ':released', id)
  end
end
return found
"""

# ARGV: 2 most. Returns ids of jobs that are over without having started. One whose record is gone is forgotten, as it
# would stand before all others for ever.
OVER_TIME: Final = """
local found = {}
for _, one in ipairs(range(P .. ':deadlines', now, 'LIMIT', 0, tonumber(ARGV[2]))) do
  if not strange(one) and redis.call('EXISTS', key(one)) == 1 then
    found[#found + 1] = one
  else
    redis.call('ZREM', P .. ':deadlines', one)
  end
end
return found
"""

# ARGV: 2 most, 3 pause in seconds, 4 margin in seconds, 5 queue, 6 whether no message waits in it (1 or 0). Returns
# QUEUED records whose message must have been lost: it is older than the margin and its queue is empty, or the message
# of a record that is younger by the margin has arrived already (queues are first in, first out).
UNHEARD: Final = """
local most, pause, margin = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local queue, empty = ARGV[5], ARGV[6] == '1'
local heard = num(hash(P .. ':heard', queue)[1])
local found = {}
for _, id in ipairs(range(P .. ':state:QUEUED', now - margin, 'LIMIT', 0, 5000)) do
  if #found >= most then break end
  local r = hash(key(id), 'queue', 'created_at', 'asked_at')
  if not r[1] then
    if not strange(id) then redis.call('ZREM', P .. ':state:QUEUED', id) end
  elseif r[1] == queue and num(r[3]) <= now - pause and (empty or num(r[2]) < heard - margin) then
    redis.call('HSET', P .. ':job:' .. id, 'asked_at', string.format('%.6f', now))
    found[#found + 1] = id
  end
end
return found
"""

# ARGV: 2 name, 3 holder, 4 ttl. Returns 1 when the holder has the duty now.
LOCK: Final = """
local lock = P .. ':lock:' .. ARGV[2]
local owner = redis.call('GET', lock)
if owner and owner ~= ARGV[3] then return 0 end
redis.call('SET', lock, ARGV[3], 'PX', math.ceil(tonumber(ARGV[4]) * 1000))
return 1
"""

# Ids in the indexes whose record has expired, and batches as old as that. ARGV: 2 how many of the oldest to look at,
# 3 seconds that a batch is kept after its end. Returns how many were removed.
SWEEP: Final = """
local gone = 0
local limit = tonumber(t[1]) - tonumber(ARGV[3])
for _, batch in ipairs(range(P .. ':batches', limit, 'LIMIT', 0, tonumber(ARGV[2]))) do
  local name = P .. ':batch:' .. batch
  local b = hash(name, 'created_at', 'ended_at', 'size')
  -- One that was never completed (its producer died) goes too, when none of its jobs is open; and what is no batch.
  local ended = redis.pcall('LLEN', name .. ':ended')
  local idle = not b[2] and (type(ended) == 'table' or ended >= num(b[3]))
  if not b[1] or idle or (b[2] and num(b[2]) <= limit) then
    redis.call('UNLINK', name, name .. ':line', name .. ':ended')
    redis.call('ZREM', P .. ':batches', batch)
    redis.call('SREM', P .. ':cancelling', batch)
    redis.call('SREM', P .. ':speculating', batch)
    gone = gone + 1
  end
end
local states = {'WAITING', 'QUEUED', 'LAUNCHING', 'PENDING', 'RUNNING', 'BACKOFF', 'SUCCEEDED', 'FAILED', 'CANCELLED',
  'SKIPPED'}
local function forget(index)
  for _, id in ipairs(range(index, '+inf', 'LIMIT', 0, tonumber(ARGV[2]))) do
    if redis.call('EXISTS', P .. ':job:' .. id) == 0 then
      redis.call('ZREM', P .. ':jobs', id)
      for _, state in ipairs(states) do redis.call('ZREM', P .. ':state:' .. state, id) end
      redis.call('ZREM', P .. ':orphans', id)
      redis.call('ZREM', P .. ':released', id)
      redis.call('ZREM', P .. ':deadlines', id)
      gone = gone + 1
    end
  end
end
-- Those that ended first expire first: old jobs that have not ended do not stand before them.
for state in pairs(ENDED) do forget(P .. ':state:' .. state) end
-- A record may be gone in any state: Redis came back older than it was.
forget(P .. ':jobs')
return gone
"""

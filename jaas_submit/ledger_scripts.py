"""The ledger's Lua scripts: every transition is one of them. Only ledger.py runs them; it documents the keys, too."""

from __future__ import annotations

from typing import Final

# Each script starts with this. KEYS[1] is the job's hash, ARGV[1] the prefix, ARGV[2] the id.
HEAD: Final = """
local P, id = ARGV[1], ARGV[2]
local job = KEYS[1]
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local stamp = string.format('%.6f', now)
local ENDED = {SUCCEEDED = 1, FAILED = 1, CANCELLED = 1, SKIPPED = 1}
local settle
local function key(one) return P .. ':job:' .. one end
-- Moves any job; one that ends settles its batch and those that depend on it.
local function shift(one, from, to, detail)
  if from then redis.call('ZREM', P .. ':state:' .. from, one) end
  redis.call('ZADD', P .. ':state:' .. to, stamp, one)
  redis.call('HSET', key(one), 'state', to, 'updated_at', stamp)
  redis.call('PUBLISH', P .. ':changes:' .. one, cjson.encode({id = one, state = to, detail = detail or ''}))
  local batch = redis.call('HGET', key(one), 'batch')
  if batch then
    if from then redis.call('HINCRBY', P .. ':batch:' .. batch, 'n:' .. from, -1) end
    redis.call('HINCRBY', P .. ':batch:' .. batch, 'n:' .. to, 1)
  end
end
local function move(from, to, detail)
  shift(id, from, to, detail)
  if ENDED[to] then settle(id, to) end
end
-- A job that waited may be started now: by whoever looks for orphans first, without a message.
local function start(one)
  shift(one, 'WAITING', 'QUEUED')
  redis.call('ZADD', P .. ':orphans', stamp, one)
  redis.call('PUBLISH', P .. ':orphaned', one)
end
local function batch_room(batch)
  local b = redis.call('HMGET', P .. ':batch:' .. batch, 'max_parallel', 'active', 'cancelled')
  if b[3] then return 0 end
  local most = tonumber(b[1] or '0')
  if most == 0 then return 1 end
  return most - tonumber(b[2] or '0')
end
-- Counts a job among its batch's active ones, if there is room; false when it has to stand in line.
local function enter(one, batch)
  if batch_room(batch) <= 0 then
    redis.call('ZADD', P .. ':batch:' .. batch .. ':line', redis.call('HGET', key(one), 'index') or 0, one)
    return false
  end
  redis.call('HINCRBY', P .. ':batch:' .. batch, 'active', 1)
  redis.call('HSET', key(one), 'active', 1)
  return true
end
local function free(one)
  local batch = redis.call('HGET', key(one), 'batch')
  if not batch or enter(one, batch) then start(one) end
end
local function satisfied(on, state)
  return on == 'finish' or (on == 'success') == (state == 'SUCCEEDED')
end
-- Ends a batch whose jobs have all been submitted and have all ended. Returns its state, or nothing.
local function close(batch)
  local name = P .. ':batch:' .. batch
  local b = redis.call('HMGET', name, 'total', 'done', 'min_success', 'n:SUCCEEDED', 'cancelled')
  if not b[1] or b[2] or redis.call('LLEN', name .. ':ended') < tonumber(b[1]) then return nil end
  local needed = math.ceil(tonumber(b[1]) * tonumber(b[3] or '1') - 1e-9) + 0  -- ceil may return -0
  local good = tonumber(b[4] or '0')
  local state = good >= needed and 'SUCCEEDED' or 'FAILED'
  local why = good .. ' of ' .. b[1] .. ' jobs succeeded, ' .. needed .. ' needed'
  if b[5] then state, why = 'CANCELLED', b[5] end
  redis.call('HSET', name, 'done', 1, 'state', state, 'ended_at', stamp, 'reason', why)
  redis.call('PUBLISH', P .. ':changes:batch:' .. batch, 'done')
  return state, why
end
-- The reason names what it all began with (root) and the nearest link, not the whole chain between them.
settle = function(first, first_state, first_why)
  local todo = {{first, first_state, first_why or 'job ' .. first .. ' is ' .. first_state}}
  while #todo > 0 do
    local one, state, why, root = unpack(table.remove(todo))
    for _, entry in ipairs(redis.call('SMEMBERS', P .. ':after:' .. one)) do
      local other, on = string.match(entry, '^(.*)|(%a+)$')
      if redis.call('HGET', key(other), 'state') == 'WAITING' then
        if satisfied(on, state) then
          if redis.call('HINCRBY', key(other), 'needs', -1) <= 0 then free(other) end
        else
          redis.call('HSET', key(other), 'detail', why, 'attempts', cjson.encode({
            {number = 0, state = 'SKIPPED', cause = 'skipped', reason = why}}))
          redis.call('ZREM', P .. ':deadlines', other)
          shift(other, 'WAITING', 'SKIPPED', why)
          -- A worker has to tell Celery of it.
          redis.call('ZADD', P .. ':orphans', stamp, other)
          local first_of_all = root or why
          todo[#todo + 1] = {other, 'SKIPPED', 'job ' .. other .. ' was skipped: ' .. first_of_all, first_of_all}
        end
      end
    end
    redis.call('DEL', P .. ':after:' .. one)
    local batch = redis.call('HGET', key(one), 'batch')
    if batch then
      local name = P .. ':batch:' .. batch
      if redis.call('HGET', key(one), 'active') then
        redis.call('HDEL', key(one), 'active')
        redis.call('HINCRBY', name, 'active', -1)
      end
      redis.call('ZREM', name .. ':line', one)
      redis.call('RPUSH', name .. ':ended', one)
      redis.call('PUBLISH', P .. ':changes:batch:' .. batch, one)
      while batch_room(batch) > 0 do
        local next = redis.call('ZPOPMIN', name .. ':line')[1]
        if not next then break end
        if redis.call('HGET', key(next), 'state') == 'WAITING' and enter(next, batch) then start(next) end
      end
      local ended, reason = close(batch)
      if ended then
        reason = 'batch ' .. batch .. ': ' .. reason .. (root and ' (' .. root .. ')' or '')
        todo[#todo + 1] = {'batch:' .. batch, ended, reason, root}
      end
    end
  end
end
local function hold(holder)
  redis.call('HSET', job, 'holder', holder)
  redis.call('SADD', P .. ':held:' .. holder, id)
  redis.call('ZREM', P .. ':orphans', id)
end
local function unhold(holder)
  redis.call('HSET', job, 'holder', '')
  redis.call('SREM', P .. ':held:' .. holder, id)
  redis.call('ZREM', P .. ':orphans', id)
end
"""

# ARGV: 3 spec, 4 queue, 5 task_id, 6 message, 7 key, 8 seconds the key holds, 9 seconds until it has to be looked at
# if nobody has claimed it (0: never), 10 as JSON: fields, batch, index, after: {{id or "batch:ID", on}, ...}.
# Returns {1, id, state} when the record is new, {0, id of the job that is there already by id or key, its state},
# {2, what} when a job or batch it is to come after is not known, {3} when its batch has been cancelled or closed.
CREATE: Final = """
if redis.call('EXISTS', job) == 1 then return {0, id, redis.call('HGET', job, 'state')} end
if ARGV[7] ~= '' then
  local known = redis.call('GET', P .. ':key:' .. ARGV[7])
  if known and redis.call('EXISTS', key(known)) == 1 then return {0, known, redis.call('HGET', key(known), 'state')} end
end
local o = cjson.decode(ARGV[10])
if o.batch then
  local b = redis.call('HMGET', P .. ':batch:' .. o.batch, 'created_at', 'cancelled', 'total')
  if not b[1] then return {2, 'batch:' .. o.batch} end
  if b[2] or b[3] then return {3} end
end
local found = {}
for _, dependency in ipairs(o.after or {}) do
  local on = dependency[1]
  local state
  if string.sub(on, 1, 6) == 'batch:' then
    local b = redis.call('HMGET', P .. ':' .. on, 'created_at', 'state')
    if not b[1] then return {2, on} end
    state = b[2]
  else
    state = redis.call('HGET', key(on), 'state')
    if not state then return {2, on} end
    if not ENDED[state] then state = nil end
  end
  found[#found + 1] = {on, dependency[2], state}
end
if ARGV[7] ~= '' then redis.call('SET', P .. ':key:' .. ARGV[7], id, 'EX', ARGV[8]) end
for field, value in pairs(o.fields or {}) do
  redis.call('HSET', job, field, value)
  if field == 'replay_of' and redis.call('EXISTS', key(value)) == 1 then
    redis.call('HSET', key(value), 'replayed_by', id)
  end
end
if tonumber(ARGV[9]) > 0 then redis.call('ZADD', P .. ':deadlines', now + tonumber(ARGV[9]), id) end
redis.call('HSET', job, 'spec', ARGV[3], 'queue', ARGV[4], 'task_id', ARGV[5], 'message', ARGV[6], 'holder', '',
  'attempt', 0, 'attempts', '[]', 'created_at', stamp)
redis.call('ZADD', P .. ':jobs', stamp, id)
if o.batch then
  redis.call('HSET', job, 'batch', o.batch, 'index', o.index)
  redis.call('HINCRBY', P .. ':batch:' .. o.batch, 'size', 1)
end
local needs, skip = 0, nil
for _, dependency in ipairs(found) do
  if not dependency[3] then
    redis.call('SADD', P .. ':after:' .. dependency[1], id .. '|' .. dependency[2])
    needs = needs + 1
  elseif not satisfied(dependency[2], dependency[3]) then
    skip = (string.sub(dependency[1], 1, 6) == 'batch:' and 'batch ' .. string.sub(dependency[1], 7)
      or 'job ' .. dependency[1]) .. ' is ' .. dependency[3]
  end
end
local state = 'QUEUED'
if skip then
  state = 'SKIPPED'
  redis.call('HSET', job, 'detail', skip, 'attempts', cjson.encode({
    {number = 0, state = 'SKIPPED', cause = 'skipped', reason = skip}}))
  redis.call('ZADD', P .. ':orphans', stamp, id)
elseif needs > 0 then
  redis.call('HSET', job, 'needs', needs)
  state = 'WAITING'
elseif o.batch and not enter(id, o.batch) then
  state = 'WAITING'
end
move(nil, state)
return {1, id, state}
"""

# ARGV: 2 batch, 3 how many jobs it has. No more are submitted to it.
CLOSE: Final = """
local batch = ARGV[2]
local name = P .. ':batch:' .. batch
if redis.call('EXISTS', name) == 0 then return 0 end
redis.call('HSETNX', name, 'total', ARGV[3])
local ended, why = close(batch)
if ended then settle('batch:' .. batch, ended, 'batch ' .. batch .. ': ' .. why) end
return 1
"""

# ARGV: 2 batch, 3 why. No job is added to it or started any more; its open jobs are cancelled one by one, by whoever
# asked or, should that process die, by a worker. Returns 0 when there is none, 2 when it has ended already, else 1.
CANCEL_BATCH: Final = """
local batch = ARGV[2]
local name = P .. ':batch:' .. batch
local b = redis.call('HMGET', name, 'created_at', 'done', 'size')
if not b[1] then return 0 end
if b[2] then return 2 end
redis.call('HSETNX', name, 'cancelled', ARGV[3])
redis.call('HSETNX', name, 'total', b[3] or 0)
redis.call('SADD', P .. ':cancelling', batch)
local ended, why = close(batch)
if ended then settle('batch:' .. batch, ended, 'batch ' .. batch .. ': ' .. why) end
return 1
"""

# ARGV: 3 holder. Returns {action, state of the record before the claim}.
CLAIM: Final = """
local r = redis.call('HMGET', job, 'state', 'holder', 'queue', 'created_at', 'reported')
local state, owner = r[1], r[2]
if not state then return {'unknown', ''} end
local heard = tonumber(redis.call('HGET', P .. ':heard', r[3]) or '0')
if tonumber(r[4]) > heard then redis.call('HSET', P .. ':heard', r[3], r[4]) end
local terminal = ENDED[state]
if terminal and r[5] == '1' then return {'done', state} end
if state == 'BACKOFF' then
  local due = redis.call('ZSCORE', P .. ':due', id)
  if due and tonumber(due) > now then return {'early', state} end
end
if owner ~= '' and owner ~= ARGV[3] then
  local lease = redis.call('ZSCORE', P .. ':holders', owner)
  if lease and tonumber(lease) > now then return {'held', state} end
  redis.call('SREM', P .. ':held:' .. owner, id)
end
-- A holder without a lease (it ran out just now) must still be found by the next reap.
redis.call('ZADD', P .. ':holders', 'NX', now, ARGV[3])
hold(ARGV[3])
if terminal then return {'replay', state} end
if state == 'QUEUED' then
  redis.call('HSET', job, 'attempt', 1)
  redis.call('ZREM', P .. ':deadlines', id)
  move('QUEUED', 'LAUNCHING')
  return {'launch', state}
end
if state == 'BACKOFF' then
  redis.call('HINCRBY', job, 'attempt', 1)
  redis.call('HDEL', job, 'node', 'started_at', 'due_at')
  redis.call('ZREM', P .. ':due', id)
  move('BACKOFF', 'LAUNCHING')
  return {'launch', state}
end
if state == 'WAITING' then
  -- A message cannot start what waits for others.
  unhold(ARGV[3])
  return {'early', state}
end
return {'adopt', state}
"""

# ARGV: 3 holder, 4 from states (comma-separated), 5 to, 6 detail, 7 log key, 8 log, 9 ttl, then field, value, ...
# Returns {1, state} when done, {0, state, holder} when the record is not as expected.
MOVE: Final = """
local r = redis.call('HMGET', job, 'state', 'holder')
if not r[1] then return {0, '', ''} end
if r[2] ~= ARGV[3] or not string.find(',' .. ARGV[4] .. ',', ',' .. r[1] .. ',', 1, true) then
  return {0, r[1], r[2]}
end
for i = 10, #ARGV, 2 do redis.call('HSET', job, ARGV[i], ARGV[i + 1]) end
if ARGV[7] ~= '' then redis.call('SET', ARGV[7], ARGV[8], 'EX', ARGV[9]) end
if r[1] ~= ARGV[5] then
  move(r[1], ARGV[5], ARGV[6])
else
  redis.call('PUBLISH', P .. ':changes:' .. id, cjson.encode({id = id, state = r[1], detail = ARGV[6]}))
end
return {1, ARGV[5], r[2]}
"""

# ARGV: 3 holder, 4 from states, 5 delay in seconds, 6 detail, 7 log key, 8 log, 9 ttl, 10 attempts.
# The attempt ended, and another follows after the delay; nobody holds the job until then.
# Returns {1} when done, {2, why} when the job is to be cancelled instead, {0} when the record is not as expected.
BACK_OFF: Final = """
local r = redis.call('HMGET', job, 'state', 'holder', 'cancel', 'attempts')
if r[1] == 'BACKOFF' and r[4] == ARGV[10] then return {1} end
if not r[1] or r[2] ~= ARGV[3] then return {0} end
if not string.find(',' .. ARGV[4] .. ',', ',' .. r[1] .. ',', 1, true) then return {0} end
if r[3] and r[3] ~= '' then return {2, r[3]} end
local due = string.format('%.6f', now + tonumber(ARGV[5]))
redis.call('HSET', job, 'attempts', ARGV[10], 'detail', ARGV[6], 'due_at', due)
if ARGV[7] ~= '' then redis.call('SET', ARGV[7], ARGV[8], 'EX', ARGV[9]) end
unhold(ARGV[3])
redis.call('ZADD', P .. ':due', due, id)
move(r[1], 'BACKOFF', ARGV[6])
return {1}
"""

# ARGV: 3 holder, 4 ttl. The record's outcome has reached Celery's result backend: nobody has to look after it any more.
REPORTED: Final = """
if redis.call('EXISTS', job) == 0 then return 0 end
local owner = redis.call('HGET', job, 'holder')
if owner ~= ARGV[3] then return 0 end
redis.call('HSET', job, 'reported', 1)
unhold(owner)
redis.call('EXPIRE', job, ARGV[4])
redis.call('PUBLISH', P .. ':changes:' .. id, cjson.encode({id = id, state = redis.call('HGET', job, 'state'),
  detail = '', reported = true}))
return 1
"""

# ARGV: 3 why, 4 as JSON the last attempt of a job that nobody holds, 5 ttl.
# Returns {1 when this call ended the job, state before, holder}.
CANCEL: Final = """
local r = redis.call('HMGET', job, 'state', 'holder', 'cancel')
local state = r[1]
if not state then return {0, '', ''} end
if ENDED[state] then return {0, state, r[2]} end
if not r[3] or r[3] == '' then redis.call('HSET', job, 'cancel', ARGV[3]) end
if state == 'QUEUED' or state == 'BACKOFF' or state == 'WAITING' then
  local before = redis.call('HGET', job, 'attempts')
  local after = '[' .. ARGV[4] .. ']'
  if before and before ~= '[]' then after = string.sub(before, 1, -2) .. ', ' .. ARGV[4] .. ']' end
  redis.call('HSET', job, 'attempts', after, 'detail', ARGV[3])
  redis.call('ZREM', P .. ':due', id)
  redis.call('ZREM', P .. ':deadlines', id)
  -- A worker has to bring the outcome to Celery (a chord waits for it), and there may be no message to make it do so.
  redis.call('ZADD', P .. ':orphans', stamp, id)
  move(state, 'CANCELLED', ARGV[3])
  redis.call('EXPIRE', job, ARGV[5])
  return {1, state, r[2]}
end
redis.call('PUBLISH', P .. ':cancels', id)
return {0, state, r[2]}
"""

# ARGV: 3 as JSON its only attempt, 4 why, 5 ttl. Ends a job that nobody has started in the time it had. Returns 1 when
# this call ended it.
OVERDUE: Final = """
redis.call('ZREM', P .. ':deadlines', id)
local r = redis.call('HMGET', job, 'state', 'holder')
if (r[1] ~= 'QUEUED' and r[1] ~= 'WAITING') or r[2] ~= '' then return 0 end
redis.call('HSET', job, 'attempts', '[' .. ARGV[3] .. ']', 'detail', ARGV[4])
-- A worker has to tell Celery of it.
redis.call('ZADD', P .. ':orphans', stamp, id)
move(r[1], 'FAILED', ARGV[4])
redis.call('EXPIRE', job, ARGV[5])
return 1
"""

# ARGV: 3 holder. The holder gives the job up (shutdown): whoever receives its message next goes on with it.
RELEASE: Final = """
if redis.call('HGET', job, 'holder') ~= ARGV[3] then return 0 end
unhold(ARGV[3])
redis.call('ZADD', P .. ':orphans', stamp, id)
redis.call('PUBLISH', P .. ':orphaned', id)
return 1
"""

# ARGV: 2 holder, 3 ttl, 4 info. Returns 1 when the lease was still there (or is the first), 0 when it had run out.
RENEW: Final = """
local P = ARGV[1]
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local old = tonumber(redis.call('ZSCORE', P .. ':holders', ARGV[2]) or '0')
redis.call('ZADD', P .. ':holders', now + tonumber(ARGV[3]), ARGV[2])
redis.call('SET', P .. ':info:' .. ARGV[2], ARGV[4], 'PX', math.ceil(tonumber(ARGV[3]) * 1000))
if old <= now and redis.call('EXISTS', P .. ':seen:' .. ARGV[2]) == 1 then return 0 end
redis.call('SET', P .. ':seen:' .. ARGV[2], 1, 'EX', 86400)
return 1
"""

# ARGV: 2 most jobs a call. Takes every job from holders whose lease has run out. Returns the ids.
REAP: Final = """
local P = ARGV[1]
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local taken = {}
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', P .. ':holders', '-inf', now)) do
  local ids = redis.call('SRANDMEMBER', P .. ':held:' .. holder, tonumber(ARGV[2]) - #taken)
  for _, id in ipairs(ids) do
    local job = P .. ':job:' .. id
    if redis.call('HGET', job, 'holder') == holder then
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
# not returned again before the pause is over.
ORPHANS: Final = """
local P = ARGV[1]
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':due', '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))) do
  redis.call('ZREM', P .. ':due', id)
  if redis.call('HGET', P .. ':job:' .. id, 'holder') == '' then redis.call('ZADD', P .. ':orphans', now, id) end
end
local ids = redis.call('ZRANGEBYSCORE', P .. ':orphans', '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))
for _, id in ipairs(ids) do
  if redis.call('EXISTS', P .. ':job:' .. id) == 1 then
    redis.call('ZADD', P .. ':orphans', now + tonumber(ARGV[3]), id)
  else
    redis.call('ZREM', P .. ':orphans', id)
  end
end
return ids
"""

# ARGV: 2 most, 3 pause in seconds, 4 margin in seconds, 5... queues in which no message waits. Returns QUEUED records
# whose message must have been lost: it is older than the margin and its queue is empty, or the message of a record that
# is younger by the margin has arrived already (queues are first in, first out).
UNHEARD: Final = """
local P = ARGV[1]
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local most, pause, margin = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local queue, empty = ARGV[5], ARGV[6] == '1'
local heard = tonumber(redis.call('HGET', P .. ':heard', queue) or '0')
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':state:QUEUED', '-inf', now - margin, 'LIMIT', 0, 5000)) do
  if #found >= most then break end
  local r = redis.call('HMGET', P .. ':job:' .. id, 'queue', 'created_at', 'asked_at')
  if not r[1] then
    redis.call('ZREM', P .. ':state:QUEUED', id)
  elseif r[1] == queue and tonumber(r[3] or '0') <= now - pause and (empty or tonumber(r[2]) < heard - margin) then
    redis.call('HSET', P .. ':job:' .. id, 'asked_at', string.format('%.6f', now))
    found[#found + 1] = id
  end
end
return found
"""

# ARGV: 3 spec, 4 queue, 5 attempt. A record that Redis has lost is made again for a service that exists.
RESTORE: Final = """
if redis.call('EXISTS', job) == 1 then return 0 end
redis.call('HSET', job, 'spec', ARGV[3], 'queue', ARGV[4], 'task_id', id, 'message', '', 'holder', '',
  'attempt', ARGV[5], 'attempts', '[]', 'created_at', stamp, 'restored', 1)
redis.call('ZADD', P .. ':jobs', stamp, id)
redis.call('ZADD', P .. ':orphans', stamp, id)
move(nil, 'PENDING', 'the record was lost and made again from the service')
return 1
"""

# ARGV: 2 name, 3 holder, 4 ttl. Returns 1 when the holder has the duty now.
LOCK: Final = """
local key = ARGV[1] .. ':lock:' .. ARGV[2]
local owner = redis.call('GET', key)
if owner and owner ~= ARGV[3] then return 0 end
redis.call('SET', key, ARGV[3], 'PX', math.ceil(tonumber(ARGV[4]) * 1000))
return 1
"""

# Ids in the indexes whose record has expired, and batches as old as that. ARGV: 2 how many of the oldest to look at,
# 3 seconds that a batch is kept after its end. Returns how many were removed.
SWEEP: Final = """
local P, gone = ARGV[1], 0
local t = redis.call('TIME')
local limit = tonumber(t[1]) - tonumber(ARGV[3])
for _, batch in ipairs(redis.call('ZRANGEBYSCORE', P .. ':batches', '-inf', limit, 'LIMIT', 0, tonumber(ARGV[2]))) do
  local name = P .. ':batch:' .. batch
  local b = redis.call('HMGET', name, 'created_at', 'ended_at', 'size')
  -- One that was never completed (its producer died) goes too, when none of its jobs is open.
  local idle = not b[2] and redis.call('LLEN', name .. ':ended') >= tonumber(b[3] or '0')
  if not b[1] or idle or (b[2] and tonumber(b[2]) <= limit) then
    redis.call('DEL', name, name .. ':line', name .. ':ended')
    redis.call('ZREM', P .. ':batches', batch)
    redis.call('SREM', P .. ':cancelling', batch)
    gone = gone + 1
  end
end
for _, id in ipairs(redis.call('ZRANGE', P .. ':jobs', 0, tonumber(ARGV[2]) - 1)) do
  if redis.call('EXISTS', P .. ':job:' .. id) == 0 then
    redis.call('ZREM', P .. ':jobs', id)
    for _, state in ipairs({'WAITING', 'QUEUED', 'LAUNCHING', 'PENDING', 'RUNNING', 'BACKOFF', 'SUCCEEDED', 'FAILED',
      'CANCELLED', 'SKIPPED'}) do
      redis.call('ZREM', P .. ':state:' .. state, id)
    end
    redis.call('ZREM', P .. ':orphans', id)
    gone = gone + 1
  end
end
return gone
"""

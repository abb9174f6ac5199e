"""The Lua scripts that change one job: every transition is one of them."""

from __future__ import annotations

from typing import Final

__all__ = ["BACK_OFF", "CANCEL", "CLAIM", "CREATE", "MOVE", "OVERDUE", "RELEASE", "REPORTED", "RESTORE", "TELL_END"]

# ARGV, after the prefix and for each of any number of jobs: id, spec, queue, task_id, message, key, seconds the key
# holds, seconds until it has to be looked at if nobody has claimed it (0: never), as JSON or empty: fields, batch,
# index, after: {{id or "batch:ID", on}, ...}, nth: its place among these jobs; the Celery message that is put into the
# queue with the record (empty: somebody else does it).
# Returns for each {1, id, state} when the record is new, {0, id of the job that is there already by id or key, its
# state}, {2, what} when a job or batch it is to come after is not known, {3} when its batch is cancelled or closed.
# One run for all of them: a script for each made submission in bulk 2.5 times as slow.
CREATE: Final = """
local function create(spec, queue, task, message, named, held, look, rare, doorbell)
  if redis.call('EXISTS', job) == 1 then return {0, id, hash(job, 'state')[1] or ''} end
  if named ~= '' then
    local known = redis.pcall('GET', P .. ':key:' .. named)
    if type(known) == 'table' then known = nil end
    -- A key holds for as long as was said, also when its job's record has expired.
    if known then return {0, known, hash(key(known), 'state')[1] or ''} end
  end
  local o = rare ~= '' and cjson.decode(rare) or {}
  -- Since Redis 7.2 the clock stands still within a transaction: a microsecond apart, its jobs keep their order.
  stamp = string.format('%.6f', now + (o.nth or 0) / 1000000)
  if o.batch then
    local b = hash(P .. ':batch:' .. o.batch, 'created_at', 'cancelled', 'total')
    if not b[1] then return {2, 'batch:' .. o.batch} end
    if b[2] or b[3] then return {3} end
  end
  local found = {}
  for _, dependency in ipairs(o.after or {}) do
    local on = dependency[1]
    local state
    if string.sub(on, 1, 6) == 'batch:' then
      local b = hash(P .. ':' .. on, 'created_at', 'state')
      if not b[1] then return {2, on} end
      state = b[2]
    else
      local r = hash(key(on), 'state', 'reported')
      state = r[1]
      if not state then return {2, on} end
      if not ENDED[state] and r[2] ~= '1' then state = nil end
    end
    found[#found + 1] = {on, dependency[2], state}
  end
  if named ~= '' then redis.call('SET', P .. ':key:' .. named, id, 'EX', held) end
  for field, value in pairs(o.fields or {}) do
    redis.call('HSET', job, field, value)
    if field == 'replay_of' and redis.call('EXISTS', key(value)) == 1 then
      redis.pcall('HSET', key(value), 'replayed_by', id)
    end
  end
  -- What every new job has is left out: a million of them wait in Redis at times, and each field costs up to 90 bytes.
  redis.call('HSET', job, 'spec', spec, 'queue', queue, 'holder', '', 'created_at', stamp)
  if task ~= id then redis.call('HSET', job, 'task_id', task) end
  if message ~= '' then redis.call('HSET', job, 'message', message) end
  redis.call('ZADD', P .. ':jobs', stamp, id)
  if o.batch then
    redis.call('HSET', job, 'batch', o.batch, 'index', o.index)
    count(o.batch, 'size', 1)
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
  if not skip and tonumber(look) > 0 then redis.call('ZADD', P .. ':deadlines', now + tonumber(look), id) end
  move(nil, state)
  -- The record is the job: where Redis refuses the message (a user who may not write there), workers miss it.
  if doorbell ~= '' and state == 'QUEUED' then redis.pcall('LPUSH', queue, doorbell) end
  return {1, id, state}
end
local answers = {}
for at = 2, #ARGV, 10 do
  id = ARGV[at]
  job = key(id)
  answers[#answers + 1] = create(unpack(ARGV, at + 1, at + 9))
end
return answers
"""

# ARGV: 3 holder. Returns {action, state of the record before the claim, the record where the holder has the job now}.
CLAIM: Final = """
local r = redis.call('HMGET', job, 'state', 'holder', 'queue', 'created_at', 'reported', 'waits_for_copy')
local state, owner = r[1], r[2]
if not state then return {'unknown', ''} end
local heard, made = num(hash(P .. ':heard', r[3] or '')[1]), num(r[4])
if made > heard and made <= now + 60 then redis.pcall('HSET', P .. ':heard', r[3], r[4]) end
if r[3] then redis.pcall('HSET', P .. ':claimed', r[3], stamp) end
local terminal = ENDED[state]
if r[5] == '1' then return {'done', state} end
if not terminal and not OPEN[state] then return {'newer', state} end
if state == 'BACKOFF' then
  local due = redis.call('ZSCORE', P .. ':due', id)
  if (due and tonumber(due) > now) or r[6] then return {'early', state} end
end
if owner ~= '' and owner ~= ARGV[3] then
  local lease = redis.call('ZSCORE', P .. ':holders', owner)
  if lease and tonumber(lease) > now then return {'held', state} end
  redis.call('SREM', P .. ':held:' .. owner, id)
end
-- A holder without a lease (it ran out just now) must still be found by the next reap.
redis.call('ZADD', P .. ':holders', 'NX', now, ARGV[3])
hold(ARGV[3])
if terminal then return {'replay', state, redis.call('HGETALL', job)} end
if state == 'QUEUED' then
  redis.call('HSET', job, 'attempt', 1)
  redis.call('HSETNX', job, 'attempts', '[]')
  redis.call('ZREM', P .. ':deadlines', id)
  move('QUEUED', 'LAUNCHING')
  return {'launch', state, redis.call('HGETALL', job)}
end
if state == 'BACKOFF' then
  redis.call('HINCRBY', job, 'attempt', 1)
  redis.call('HDEL', job, 'node', 'started_at', 'due_at')
  redis.call('ZREM', P .. ':due', id)
  move('BACKOFF', 'LAUNCHING')
  return {'launch', state, redis.call('HGETALL', job)}
end
if state == 'WAITING' then
  -- A message cannot start what waits for others.
  unhold(ARGV[3])
  return {'early', state}
end
return {'adopt', state, redis.call('HGETALL', job)}
"""

# ARGV: 3 holder, 4 from states (comma-separated), 5 to, 6 detail, 7 log key, 8 log, 9 ttl, then field, value, ...
# Returns {1, the record if it has ended} when done, {0, state, holder, attempts if the job has a copy, the record if it
# is in that state with that holder} when it is not as expected.
MOVE: Final = """
local r = redis.call('HMGET', job, 'state', 'holder', 'copied_by')
if not r[1] then return {0, '', '', ''} end
if r[2] ~= ARGV[3] or not string.find(',' .. ARGV[4] .. ',', ',' .. r[1] .. ',', 1, true) then
  local same = r[1] == ARGV[5] and r[2] == ARGV[3]
  return {0, r[1], r[2], r[3] and redis.call('HGET', job, 'attempts') or '', same and redis.call('HGETALL', job) or nil}
end
for i = 10, #ARGV, 2 do redis.call('HSET', job, ARGV[i], ARGV[i + 1]) end
if ARGV[7] ~= '' then redis.call('SET', ARGV[7], ARGV[8], 'EX', ARGV[9]) end
if r[1] ~= ARGV[5] then
  move(r[1], ARGV[5], ARGV[6])
else
  redis.call('PUBLISH', P .. ':changes:' .. id, cjson.encode({id = id, state = r[1], detail = ARGV[6]}))
end
return {1, ENDED[ARGV[5]] and redis.call('HGETALL', job) or nil}
"""

# ARGV: 3 holder, 4 from states, 5 delay in seconds, 6 detail, 7 log key, 8 log, 9 ttl, 10 attempts, 11 whether the
# attempt's service may yet appear (1 or 0).
# The attempt ended, and another follows after the delay, or (without a delay) the job's copy may still succeed; nobody
# holds the job until then. Returns {1} when done, {2, why} when the job is to be cancelled instead, {3} when it has no
# copy that may succeed, {0} when the record is not as expected.
BACK_OFF: Final = """
local r = redis.call('HMGET', job, 'state', 'holder', 'cancel', 'attempts', 'copied_by')
if r[1] == 'BACKOFF' and r[4] == ARGV[10] then return {1} end
if not r[1] or r[2] ~= ARGV[3] then return {0} end
if not string.find(',' .. ARGV[4] .. ',', ',' .. r[1] .. ',', 1, true) then return {0} end
if r[3] and r[3] ~= '' then return {2, r[3]} end
if ARGV[5] == '' then
  local copy = r[5] and redis.call('HGET', key(r[5]), 'state')
  if not copy or ENDED[copy] then return {3} end
  redis.call('HSET', job, 'waits_for_copy', 1)
else
  local due = string.format('%.6f', now + tonumber(ARGV[5]))
  redis.call('HSET', job, 'due_at', due)
  redis.call('ZADD', P .. ':due', due, id)
end
redis.call('HSET', job, 'attempts', ARGV[10], 'detail', ARGV[6])
if ARGV[11] == '1' then redis.call('HSET', job, 'late', 1) end
if ARGV[7] ~= '' then redis.call('SET', ARGV[7], ARGV[8], 'EX', ARGV[9]) end
unhold(ARGV[3])
move(r[1], 'BACKOFF', ARGV[6])
return {1}
"""

# ARGV: 3 holder, 4 ttl. The record's outcome has reached Celery's result backend: nobody has to look after it any more.
# Not so where Redis has come back older than that outcome.
REPORTED: Final = """
local r = redis.call('HMGET', job, 'state', 'holder')
local owner = r[2]
if not r[1] or OPEN[r[1]] or owner ~= ARGV[3] then return 0 end
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
local r = redis.call('HMGET', job, 'state', 'holder', 'cancel', 'reported')
local state = r[1]
if not state then return {0, '', ''} end
if ENDED[state] or r[4] == '1' then return {0, state, r[2]} end
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
call_back(id)
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

# ARGV: 3 holder, 4 seconds for which nobody looks for it. The holder gives the job up, for another to go on with it.
RELEASE: Final = """
if hash(job, 'holder')[1] ~= ARGV[3] then
  redis.call('SREM', P .. ':held:' .. ARGV[3], id)
  return 0
end
unhold(ARGV[3])
redis.call('ZADD', P .. ':orphans', now + tonumber(ARGV[4]), id)
if tonumber(ARGV[4]) == 0 then redis.call('PUBLISH', P .. ':orphaned', id) end
return 1
"""

# ARGV: 3 a message for the holder, if there is one. Returns how many heard it.
TELL_END: Final = """
local holder = hash(job, 'holder')[1]
if not holder or holder == '' then return 0 end
return redis.call('PUBLISH', P .. ':ends:' .. holder, ARGV[3])
"""

# ARGV: 3 spec, 4 queue, 5 attempt, 6 as JSON what its batch is: batch, index, copy_of, copy (the id that its copy would
# have). A record that Redis has lost is made again for a service that exists.
#
# Where the whole ledger came back older than the job, its batch has not counted it either, or is unknown, too. Where
# the record alone is gone, the index of its state tells as what it was counted.
RESTORE: Final = """
if redis.call('EXISTS', job) == 1 then return 0 end
local o, was = cjson.decode(ARGV[6]), nil
for _, state in ipairs({'WAITING', 'QUEUED', 'LAUNCHING', 'PENDING', 'RUNNING', 'BACKOFF', 'SUCCEEDED', 'FAILED',
  'CANCELLED', 'SKIPPED'}) do
  if redis.call('ZSCORE', P .. ':state:' .. state, id) then was = state end
end
redis.call('HSET', job, 'spec', ARGV[3], 'queue', ARGV[4], 'task_id', id, 'message', '', 'holder', '',
  'attempt', ARGV[5], 'attempts', '[]', 'created_at', stamp, 'restored', 1)
local name = P .. ':batch:' .. (o.batch or '')
-- One whose end its batch knows is not counted twice.
if o.batch and not (was and ENDED[was]) and redis.pcall('HEXISTS', name, 'done') == 0 then
  redis.call('HSETNX', name, 'created_at', stamp)
  redis.call('ZADD', P .. ':batches', 'NX', stamp, o.batch)
  redis.call('HSET', job, 'batch', o.batch, 'index', o.index, 'active', 1)
  if not was or was == 'WAITING' then count(o.batch, 'active', 1) end
  if o.copy_of then
    redis.call('HSET', job, 'copy_of', o.copy_of)
    if not was then count(o.batch, 'copies', 1) end
    local state = hash(key(o.copy_of), 'state')[1]
    if state and ENDED[state] then
      redis.call('HSET', job, 'cancel', 'job ' .. o.copy_of .. ', which it is a copy of, is ' .. state)
    elseif state then
      redis.call('HSET', key(o.copy_of), 'copied_by', id)
    end
  else
    if not was then count(o.batch, 'size', 1) end
    local span = num(redis.call('HGET', name, 'span'))
    if o.index + 1 > span then redis.call('HSET', name, 'span', o.index + 1) end
    if hash(key(o.copy), 'copy_of')[1] == id then redis.call('HSET', job, 'copied_by', o.copy) end
    local cancelled = redis.call('HGET', name, 'cancelled')
    if cancelled then redis.call('HSET', job, 'cancel', cancelled) end
  end
end
redis.call('ZADD', P .. ':jobs', stamp, id)
redis.call('ZADD', P .. ':orphans', stamp, id)
move(was, 'PENDING', 'the record was lost and made again from the service')
return 1
"""

"""What every Lua script begins with: the clock, how a job moves, and what its end sets off."""

from __future__ import annotations

from typing import Final

__all__ = ["HEAD"]

# Each script starts with this. ARGV[1] is the prefix. Where a script is about one job, KEYS[1] is the job's hash and
# ARGV[2] its id.
HEAD: Final = """
local P, id = ARGV[1], ARGV[2]
local job = KEYS[1]
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local stamp = string.format('%.6f', now)
-- A state in neither list was written by a newer version, in the middle of an update: its job is left alone. It has
-- ended when it is "reported", as every job is that Celery has been told the result of.
local ENDED = {SUCCEEDED = 1, FAILED = 1, CANCELLED = 1, SKIPPED = 1}
local OPEN = {WAITING = 1, QUEUED = 1, LAUNCHING = 1, PENDING = 1, RUNNING = 1, BACKOFF = 1}
local settle
local function key(one) return P .. ':job:' .. one end
-- What looks at many must come to its end whatever it meets: a key that holds another kind of value, or a field that is
-- no number, is as good as missing.
local function num(text) return tonumber(text or '0') or 0 end
local function hash(name, ...)
  local r = redis.pcall('HMGET', name, ...)
  return r.err and {} or r
end
local function range(name, ...)
  local r = redis.pcall('ZRANGEBYSCORE', name, '-inf', ...)
  return r.err and {} or r
end
-- Returns whether something stands there that is no record. It is then among the orphans, where it is named.
local function strange(one)
  local kind = redis.call('TYPE', key(one)).ok
  if kind == 'hash' or kind == 'none' then return false end
  redis.call('ZADD', P .. ':orphans', 'NX', stamp, one)
  return true
end
local function list(text)
  local ok, found = pcall(cjson.decode, text or '')
  return ok and type(found) == 'table' and found or {}
end
local function count(batch, field, by) redis.pcall('HINCRBY', P .. ':batch:' .. batch, field, by) end
-- Moves any job; one that ends settles its batch and those that depend on it.
local function shift(one, from, to, detail)
  if from then redis.call('ZREM', P .. ':state:' .. from, one) end
  if from == 'QUEUED' then redis.call('ZREM', P .. ':released', one) end
  redis.call('ZADD', P .. ':state:' .. to, stamp, one)
  redis.call('HSET', key(one), 'state', to, 'updated_at', stamp)
  redis.call('PUBLISH', P .. ':changes:' .. one, cjson.encode({id = one, state = to, detail = detail or ''}))
  local r = redis.call('HMGET', key(one), 'batch', 'copy_of')
  if r[1] and not r[2] then  -- a copy is none of the batch's own jobs
    if from then count(r[1], 'n:' .. from, -1) end
    count(r[1], 'n:' .. to, 1)
  end
end
-- Tells a job's holder that it is to be cancelled: at once, and for good in a set that the holder looks at.
local function call_back(one)
  local holder = redis.call('HGET', key(one), 'holder')
  if holder and holder ~= '' then
    redis.call('SADD', P .. ':stop:' .. holder, one)
    redis.call('EXPIRE', P .. ':stop:' .. holder, 86400)
  end
  redis.call('PUBLISH', P .. ':cancels', one)
end
local function move(from, to, detail)
  shift(id, from, to, detail)
  if ENDED[to] then settle(id, to) end
end
-- A QUEUED job of which no message tells may be started now: by whoever looks first and has room for it.
local function offer(one)
  redis.call('ZADD', P .. ':released', stamp, one)
  redis.call('PUBLISH', P .. ':orphaned', one)
end
local function start(one)
  shift(one, 'WAITING', 'QUEUED')
  offer(one)
end
local function batch_room(batch)
  local b = hash(P .. ':batch:' .. batch, 'max_parallel', 'active', 'cancelled')
  if b[3] then return 0 end
  local most = num(b[1])
  if most == 0 then return 1 end
  return most - num(b[2])
end
-- Counts a job among its batch's active ones, if there is room; false when it has to stand in line.
local function enter(one, batch)
  if batch_room(batch) <= 0 then
    redis.call('ZADD', P .. ':batch:' .. batch .. ':line', num(redis.call('HGET', key(one), 'index')), one)
    return false
  end
  count(batch, 'active', 1)
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
  local b = hash(name, 'total', 'done', 'min_success', 'n:SUCCEEDED', 'cancelled')
  local total, ended = tonumber(b[1] or ''), redis.pcall('LLEN', name .. ':ended')
  if not total or b[2] or type(ended) == 'table' or ended < total then return nil end
  local needed = math.ceil(total * (tonumber(b[3] or '1') or 1) - 1e-9) + 0  -- ceil may return -0
  local good = num(b[4])
  local state = good >= needed and 'SUCCEEDED' or 'FAILED'
  local why = good .. ' of ' .. b[1] .. ' jobs succeeded, ' .. needed .. ' needed'
  if b[5] then state, why = 'CANCELLED', b[5] end
  redis.call('HSET', name, 'done', 1, 'state', state, 'ended_at', stamp, 'reason', why)
  redis.call('PUBLISH', P .. ':changes:batch:' .. batch, 'done')
  redis.call('SREM', P .. ':speculating', batch)
  return state, why
end
-- What a job's end, or its copy's, means for the others of its batch: its place is free for the next in line.
local function leave(one, name, batch)
  if redis.call('HDEL', key(one), 'active') == 1 then count(batch, 'active', -1) end
  while batch_room(batch) > 0 do
    local next = redis.pcall('ZPOPMIN', name .. ':line')[1]
    if not next then break end
    if not strange(next) and hash(key(next), 'state')[1] == 'WAITING' and enter(next, batch) then start(next) end
  end
end
-- A worker has to bring an end to Celery that no holder has written.
local function tell(one)
  redis.call('ZADD', P .. ':orphans', stamp, one)
  redis.call('PUBLISH', P .. ':orphaned', one)
end
-- The good end of a copy is that of the job which it is a copy of, with output and log. That job's own attempt, if one
-- is under way, is over for the ledger; its holder has to stop the container.
local function win(one, copy, from)
  local r = redis.call('HMGET', key(one), 'holder', 'attempts', 'attempt', 'service', 'node')
  local c = redis.call('HMGET', key(copy), 'attempts', 'output', 'node', 'started_at')
  local why = 'its copy ' .. copy .. ' succeeded first'
  local attempts, number = list(r[2]), num(r[3])
  if from ~= 'BACKOFF' then
    attempts[#attempts + 1] = {number = number, state = 'CANCELLED', cause = 'cancelled', reason = why,
      service = r[4] or nil, node = r[5] and r[5] ~= '' and r[5] or nil, decision = why}
  end
  local theirs = list(c[1])
  local last = theirs[#theirs]
  redis.call('COPY', P .. ':log:' .. copy .. ':' .. last.number, P .. ':log:' .. one .. ':' .. (number + 1), 'REPLACE')
  last.number, last.decision = number + 1, why
  attempts[#attempts + 1] = last
  redis.call('HSET', key(one), 'attempts', cjson.encode(attempts), 'attempt', number + 1, 'detail', why)
  for i, field in ipairs({'output', 'node', 'started_at'}) do
    if c[i + 1] then redis.call('HSET', key(one), field, c[i + 1]) end
  end
  -- Its holder may be about to ask for the attempt's service, which then appears after the end.
  if from == 'LAUNCHING' then redis.call('HSET', key(one), 'late', 1) end
  redis.call('HDEL', key(one), 'waits_for_copy', 'due_at')
  redis.call('ZREM', P .. ':due', one)
  shift(one, from, 'SUCCEEDED', why)
  if r[1] == '' then
    tell(one)
  else
    redis.call('HSET', key(one), 'cancel', why)
    call_back(one)
  end
end
-- Returns the end of the job that an ended copy is a copy of, if it has come to its end with it.
local function copy_ended(copy, one, state)
  local r = hash(key(one), 'state', 'waits_for_copy', 'detail')
  if not r[1] or ENDED[r[1]] then return nil end
  if state == 'SUCCEEDED' then
    win(one, copy, r[1])
    return 'SUCCEEDED'
  end
  if r[2] then
    redis.call('HDEL', key(one), 'waits_for_copy')
    shift(one, r[1], 'FAILED', r[3])
    tell(one)
    return 'FAILED'
  end
  if r[1] == 'RUNNING' then redis.call('HSET', key(one), 'detail', 'its copy ' .. copy .. ' is ' .. state) end
end
-- A job has ended: its copy is not needed any more. Returns whether that has ended by this.
local function call_off(copy, one, state)
  local r = hash(key(copy), 'state', 'cancel')
  if not r[1] or ENDED[r[1]] then return false end
  local why = 'job ' .. one .. ', which it is a copy of, is ' .. state
  if not r[2] or r[2] == '' then redis.call('HSET', key(copy), 'cancel', why) end
  if r[1] ~= 'QUEUED' then
    call_back(copy)
    return false
  end
  redis.call('HSET', key(copy), 'detail', why, 'attempts', cjson.encode({
    {number = 0, state = 'CANCELLED', cause = 'cancelled', reason = why}}))
  redis.call('ZREM', P .. ':deadlines', copy)
  shift(copy, 'QUEUED', 'CANCELLED', why)
  tell(copy)
  return true
end
-- Something has ended just now: its batch, what it is a copy of and its copy learn of it. What comes after it is put
-- on the list. The reason names what it all began with (root) and the nearest link, not the whole chain between them.
local function over(todo, one, state, why, root)
  if redis.call('EXISTS', P .. ':after:' .. one) == 1 then todo[#todo + 1] = {one, state, why, root} end
  local r = redis.call('HMGET', key(one), 'batch', 'copy_of', 'copied_by')
  local batch, name = r[1], P .. ':batch:' .. (r[1] or '')
  if r[2] then
    count(batch, 'copies', -1)
    leave(one, name, batch)
    local ended = copy_ended(one, r[2], state)
    if ended then over(todo, r[2], ended, 'job ' .. r[2] .. ' is ' .. ended) end
  elseif batch then
    redis.pcall('ZREM', name .. ':line', one)
    redis.pcall('RPUSH', name .. ':ended', one)
    redis.call('PUBLISH', P .. ':changes:batch:' .. batch, one)
    leave(one, name, batch)
    local ended, reason = close(batch)
    if ended then
      reason = 'batch ' .. batch .. ': ' .. reason .. (root and ' (' .. root .. ')' or '')
      over(todo, 'batch:' .. batch, ended, reason, root)
    end
  end
  if r[3] and call_off(r[3], one, state) then over(todo, r[3], 'CANCELLED', 'job ' .. r[3] .. ' is CANCELLED') end
end
-- Starts or skips what comes after the ends on the list; no more than so many jobs in one script, or Redis would serve
-- nobody else for seconds. What is left is kept in P:settling, for workers to go on with.
local function spread(todo)
  local left = 250
  while left > 0 do
    if #todo == 0 then
      local kept = redis.pcall('RPOP', P .. ':settling')
      if type(kept) ~= 'string' then return end
      todo[1] = list(kept)
    end
    local one, state, why, root = unpack(todo[#todo])
    local fine = type(one) == 'string' and type(state) == 'string' and type(why) == 'string'
    if type(root) ~= 'string' then root = nil end
    local entries = fine and redis.pcall('SPOP', P .. ':after:' .. one, left) or {}
    if #entries < left then todo[#todo] = nil end
    left = left - 1
    left = left - #entries
    for _, entry in ipairs(entries) do
      local other, on = string.match(entry, '^(.*)|(%a+)$')
      if other and not strange(other) and hash(key(other), 'state')[1] == 'WAITING' then
        if satisfied(on, state) then
          local needs = redis.pcall('HINCRBY', key(other), 'needs', -1)
          if type(needs) == 'number' and needs <= 0 then free(other) end
        else
          redis.call('HSET', key(other), 'detail', why, 'attempts', cjson.encode({
            {number = 0, state = 'SKIPPED', cause = 'skipped', reason = why}}))
          redis.call('ZREM', P .. ':deadlines', other)
          shift(other, 'WAITING', 'SKIPPED', why)
          -- A worker has to tell Celery of it.
          redis.call('ZADD', P .. ':orphans', stamp, other)
          local first = root or why
          over(todo, other, 'SKIPPED', 'job ' .. other .. ' was skipped: ' .. first, first)
        end
      end
    end
  end
  for _, rest in ipairs(todo) do redis.call('RPUSH', P .. ':settling', cjson.encode(rest)) end
  if #todo > 0 then redis.call('PUBLISH', P .. ':orphaned', 'settling') end
end
settle = function(one, state, why)
  local todo = {}
  over(todo, one, state, why or 'job ' .. one .. ' is ' .. state)
  if #todo > 0 then spread(todo) end
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

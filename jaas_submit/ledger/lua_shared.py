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

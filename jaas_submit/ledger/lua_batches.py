"""The Lua scripts for batches: completed, cancelled, a job started a second time, what comes after many."""

from __future__ import annotations

from typing import Final

__all__ = ["CANCEL_BATCH", "CLOSE", "SETTLE", "SPECULATE"]

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

# Goes on with what comes after jobs and batches that have ended, where one script would have taken too long. Returns
# whether there is still more of it.
SETTLE: Final = """
spread({})
local left = redis.pcall('LLEN', P .. ':settling')
return type(left) == 'number' and left > 0 and 1 or 0
"""

# ARGV: 3 the job that runs for too long, 4 spec of its copy, 5 seconds until it has to be looked at if nobody has
# claimed it (0: never), 6 what to say of it. KEYS[1] and ARGV[2] are the copy's. Who looks first and has room starts
# it. Returns 1 when it is new, 0 when the job has one already, has ended meanwhile, or there is no room.
SPECULATE: Final = """
local one = ARGV[3]
if redis.call('EXISTS', job) == 1 then return 0 end
local r = hash(key(one), 'state', 'batch', 'index', 'queue', 'copied_by', 'copy_of', 'cancel', 'image',
  'traceparent')
local batch = r[2]
if r[1] ~= 'RUNNING' or not batch or r[5] or r[6] or (r[7] and r[7] ~= '') then return 0 end
local name = P .. ':batch:' .. batch
if redis.call('HEXISTS', name, 'done') == 1 or batch_room(batch) <= 0 then return 0 end
redis.call('HSET', job, 'spec', ARGV[4], 'queue', r[4], 'task_id', id, 'message', '', 'holder', '', 'attempt', 0,
  'attempts', '[]', 'created_at', stamp, 'batch', batch, 'index', r[3], 'copy_of', one, 'active', 1)
if r[8] then redis.call('HSET', job, 'image', r[8]) end
if r[9] then redis.call('HSET', job, 'traceparent', r[9]) end
redis.call('HINCRBY', name, 'active', 1)
redis.call('HINCRBY', name, 'copies', 1)
if tonumber(ARGV[5]) > 0 then redis.call('ZADD', P .. ':deadlines', now + tonumber(ARGV[5]), id) end
redis.call('ZADD', P .. ':jobs', stamp, id)
move(nil, 'QUEUED')
offer(id)
redis.call('HSET', key(one), 'copied_by', id, 'detail', ARGV[6])
redis.call('PUBLISH', P .. ':changes:' .. one, cjson.encode({id = one, state = r[1], detail = ARGV[6]}))
return 1
"""

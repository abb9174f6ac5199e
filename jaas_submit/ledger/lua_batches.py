"""The Lua scripts that complete or cancel a batch."""

from __future__ import annotations

from typing import Final

__all__ = ["CANCEL_BATCH", "CLOSE"]

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

"""Messages that workers have received and not acknowledged: how they are noted, returned, and counted.

Nothing here decodes a message. Redis stores the queue entry unchanged, under a tag that this worker makes, so that any
entry can be stored and returned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

from kombu.transport import redis as stock
from kombu.transport import virtual

from jaas_worker.messaging.message_checks import MAX_ENTRY_BYTES, TOO_LARGE
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["FETCH", "QoS", "fetch_arguments"]

logger = logging.getLogger(__name__)

_COUNTS_KEPT: Final = 86_400
"""Seconds for which the count of workers that a message has ended is kept."""

_MOST_COUNTS: Final = 10_000
"""Maximal number of messages with such a count, and of those that are marked as returned."""

_PART_BYTES: Final = 64 * 1024
"""Bytes read from the end of an entry that is too large, where Celery writes the headers."""

# A note: when it was fetched, by which worker, and from which list, a line each; then the entry.
_NOTES: Final = """
local function read_note(note)
  local a = string.find(note, '\\n', 1, true)
  local b = a and string.find(note, '\\n', a + 1, true)
  local c = b and string.find(note, '\\n', b + 1, true)
  if not c then return nil end
  return tonumber(string.sub(note, 1, a - 1)), string.sub(note, a + 1, b - 1), string.sub(note, b + 1, c - 1),
    string.sub(note, c + 1)
end
local t = redis.call('TIME')
local now = string.format('%.6f', tonumber(t[1]) + tonumber(t[2]) / 1000000)
"""

# KEYS: 1 index and 2 hash of the notes, 3 hash of workers ended by an entry's digest, 4 set of the digests of returned
# entries, 5... the lists, in this order.
# ARGV: 1 tag, 2 worker, 3 largest entry, 4 how much of the end of a larger one is returned, 5 its first word,
# 6... for each list, whether its messages will be acknowledged.
# Returns list, entry, how many workers it has ended, and whether it is delivered again.
FETCH: Final = (
    _NOTES
    + """
if #KEYS < 1000 and redis.pcall('EXISTS', unpack(KEYS, 5)) == 0 then return nil end
local refused
for i = 5, #KEYS do
  local item = redis.pcall('LINDEX', KEYS[i], -1)
  if type(item) == 'table' then
    refused = refused or item
  elseif item then
    local ended, again = 0, 0
    if ARGV[i + 1] == '1' then
      if redis.call('EXISTS', KEYS[3]) == 1 then
        ended = tonumber(redis.pcall('HGET', KEYS[3], redis.sha1hex(item)) or 0) or 0
      end
      -- In this order: where the second is refused, the next sweep finds what the first has left.
      redis.call('ZADD', KEYS[1], now, ARGV[1])
      redis.call('HSET', KEYS[2], ARGV[1], table.concat({now, ARGV[2], KEYS[i], item}, '\\n'))
    end
    redis.call('RPOP', KEYS[i])
    if redis.call('EXISTS', KEYS[4]) == 1 then again = redis.pcall('SREM', KEYS[4], redis.sha1hex(item)) end
    if #item > tonumber(ARGV[3]) then
      item = ARGV[5] .. ' ' .. #item .. '\\n' .. string.sub(item, -tonumber(ARGV[4]))
    end
    return {KEYS[i], item, ended, again == 1 and 1 or 0}
  end
end
return refused
"""
)

# KEYS: 1 index and 2 hash of the notes, 3 list for a note that cannot be read (the index: it stays), 4 hash of workers
# ended, 5 leases, 6 set of the digests of returned entries.
# Returns whether it is back on its list; where Redis takes nothing, it stays noted and is tried again later.
_GIVE_BACK_ONE: Final = f"""
local function give_back(tag, push)
  local note = redis.call('HGET', KEYS[2], tag)
  if note then
    local _, _, list, item = read_note(note)
    local to = list or KEYS[3]
    if to == KEYS[1] or type(redis.pcall(push, to, item or note)) == 'table' then
      redis.call('ZADD', KEYS[1], 'XX', now, tag)
      return false
    end
    local marked = redis.pcall('SADD', KEYS[6], redis.sha1hex(item or note))
    if marked == 1 then redis.call('EXPIRE', KEYS[6], {_COUNTS_KEPT}) end
  end
  redis.call('HDEL', KEYS[2], tag)
  redis.call('ZREM', KEYS[1], tag)
  return true
end
"""

# ARGV: 1 LPUSH or RPUSH, 2 tag.
_GIVE_BACK: Final = _NOTES + _GIVE_BACK_ONE + "return give_back(ARGV[2], ARGV[1]) and 1 or 0"

# ARGV: 1 seconds after which a note is looked at, 2 most notes, 3 seconds for which counts are kept, 4 most counts,
# 5... tags of messages that the calling worker has.
# A message has ended its worker if the worker's lease is gone and it died before its first announcement of held
# messages. Messages that waited in the worker are not counted. Messages with a count are returned one at a time, so
# that only the cause is counted again.
_SWEEP: Final = (
    _NOTES
    + _GIVE_BACK_ONE
    + """
for i = 5, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now, ARGV[i]) end
local one_has = false
if redis.call('TYPE', KEYS[4]).ok ~= 'hash' or redis.call('HLEN', KEYS[4]) >= tonumber(ARGV[4]) then
  redis.call('DEL', KEYS[4])
end
if redis.call('TYPE', KEYS[6]).ok ~= 'set' or redis.call('SCARD', KEYS[6]) >= tonumber(ARGV[4]) then
  redis.call('DEL', KEYS[6])
end
-- Somebody may have removed or replaced the index: a note without an entry there would never be returned.
if redis.call('HLEN', KEYS[2]) > redis.call('ZCARD', KEYS[1]) then
  for _, tag in ipairs(redis.call('HKEYS', KEYS[2])) do redis.call('ZADD', KEYS[1], 'NX', now, tag) end
end
local latest = '(' .. string.format('%.6f', tonumber(now) - tonumber(ARGV[1]))
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', latest, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #due, 2 do
  local tag, seen = due[i], tonumber(due[i + 1])
  local fetched, worker, _, item = read_note(redis.call('HGET', KEYS[2], tag) or '')
  local blamed, before = false, 0
  if fetched and worker ~= '' and seen == fetched then
    local lease = tonumber(redis.pcall('ZSCORE', KEYS[5], worker) or 0)
    blamed = lease ~= nil and lease <= tonumber(now)
  end
  local digest = blamed and redis.sha1hex(item)
  if blamed then before = tonumber(redis.call('HGET', KEYS[4], digest) or 0) or 0 end
  if not (before > 0 and one_has) and give_back(tag, 'RPUSH') and blamed then
    one_has = one_has or before > 0
    redis.call('HSET', KEYS[4], digest, before + 1)
    redis.call('EXPIRE', KEYS[4], ARGV[3])
  end
end
return 1
"""
)


def fetch_arguments(tag: str, worker: str) -> list[str | int]:
    """Return the first arguments of ``FETCH``.

    Args:
        tag: under which the message is noted.
        worker: the fetching worker; empty if none is to be counted.
    """
    return [tag, worker, MAX_ENTRY_BYTES, _PART_BYTES, TOO_LARGE]


class QoS(stock.QoS):
    """Keeps the notes of one channel."""

    channel: Any
    _delivered: Any
    _dirty: set[str]
    _remove_from_indices: Any
    worker: ClassVar[str] = ""
    """The fetching worker's name; of the class, as the next one."""

    held: ClassVar[bool] = False
    """No messages are taken off the queues; of the class, because Celery makes new instances with each connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.in_ledger: set[Any] = set()
        """Delivery tags of messages that a record in the ledger has replaced."""

    def replaced(self, delivery_tag: Any) -> None:
        """Learn that a record in the ledger has replaced a message: its note is gone. The message counts until `ack`.

        Args:
            delivery_tag: the message's.
        """
        self.in_ledger.add(delivery_tag)

    def can_consume(self) -> bool:
        return not self.held and bool(super().can_consume())

    def append(self, message: Any, delivery_tag: Any) -> None:
        virtual.QoS.append(self, message, delivery_tag)  # the fetching script has noted it

    def ack(self, delivery_tag: Any) -> None:
        self.leave(delivery_tag)  # even if the note stays: this worker is done with the message
        if delivery_tag in self.in_ledger:
            self.in_ledger.discard(delivery_tag)
            return
        self._unless_refused(self._remove_from_indices(delivery_tag).execute)

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        self.leave(delivery_tag)
        self.in_ledger.discard(delivery_tag)  # other workers find the record
        if requeue:
            self._unless_refused(partial(self.restore_by_tag, delivery_tag, leftmost=True))
        else:
            self._unless_refused(self._remove_from_indices(delivery_tag).execute)

    def _unless_refused(self, write: Callable[[], object]) -> None:
        """Change a note; where Redis refuses, it stays: the message comes once more, and the ledger knows its job."""
        try:
            write()
        except self.channel.ResponseError as error:  # read-only; or somebody wrote to our keys
            about = action(Action.REDIS_UNAVAILABLE)
            logger.warning("a message stays noted as unacknowledged: %s", error, extra=about)

    def leave(self, delivery_tag: Any) -> None:
        """Forget a message here and leave its note: it is delivered again after the time-out.

        Args:
            delivery_tag: the message's.
        """
        virtual.QoS.ack(self, delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        try:
            super().restore_unacked_once(stderr)
        except Exception as error:  # noqa: BLE001 (the stock one stumbles over its own closed connection, too)
            # While Redis is away nothing can be returned. That is harmless: the notes are in Redis, and the messages
            # are delivered again.
            logger.debug("messages could not be returned now: %r", error)

    def restore_unacked(self, client: Any = None) -> Any:
        """Return unacknowledged messages, if there is still a connection.

        The stock method ends the worker with AttributeError if Redis is away. Messages that are not returned are
        delivered again after the visibility time-out; the ledger knows the jobs, and does not wait for that.
        """
        transport = self.channel.connection
        if transport is None or transport.client is None:
            return []
        return super().restore_unacked(client)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        self._run(_GIVE_BACK, "LPUSH" if leftmost else "RPUSH", tag, client=client)

    def restore_visible(self, start: int = 0, num: int = 1000, interval: int = 1) -> None:  # noqa: ARG002 (kombu's)
        """Announce the messages that this worker still has, and return those that nobody has announced for a while."""
        mine = [tag for tag in list(self._delivered) if tag not in self._dirty]
        try:
            self._run(_SWEEP, self.visibility_timeout, num or 1000, _COUNTS_KEPT, _MOST_COUNTS, *mine)
        except self.channel.ResponseError as error:  # full, read-only, loading; or another program wrote to our keys
            about = action(Action.REDIS_UNAVAILABLE)
            logger.warning("messages of dead workers could not be returned: %s", error, extra=about)

    def _run(self, script: str, *arguments: Any, client: Any = None) -> None:
        channel = self.channel
        keys = [
            self.unacked_index_key,
            self.unacked_key,
            channel.main_queue or self.unacked_index_key,
            channel.ended_key,
            channel.leases_key,
            channel.redelivered_key,
        ]
        with channel.conn_or_acquire(client) as redis:
            redis.eval(script, len(keys), *keys, *arguments)

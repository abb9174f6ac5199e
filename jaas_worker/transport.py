"""kombu's Redis transport, made fit for jobs: it loses no message, knows a dead connection, and survives garbage.

Three things that the stock transport of kombu 5.7.0 does not do, each measured:

* It takes a message off its queue with BRPOP and notes it as unacknowledged in a second round trip. A worker that is
  killed in between, or whose connection is half-open, takes the message along (7 of 130 in a fault campaign of eight
  minutes). Here a script moves it, in one step; what waits for messages takes none off.
* On a half-open connection it finds one dead connection after the other, each after up to a minute: 131 to 184
  seconds until messages arrive again. Here the first one is noticed after 6 to 11 seconds, and all are dropped.
* An entry that is not JSON, or no message, ends the worker, and the entry is lost: `LPUSH jaas garbage`. Here it is
  recorded.

It speaks to one server or, over Sentinel, to the present master.
"""

from __future__ import annotations

import logging
import select
import uuid
import weakref
from collections.abc import Callable
from queue import Empty
from time import monotonic
from typing import Any, ClassVar, Final

import redis.exceptions
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from jaas_submit.connection.sentinel import Finder, MasterConnection
from jaas_submit.connection.url import SentinelAddress, sentinel_address
from jaas_worker.envelope import DEFECT, entry_defect, is_task_id
from jaas_worker.logsetup import Action, action

__all__ = [
    "Channel",
    "Poller",
    "QoS",
    "SentinelChannel",
    "SentinelTransport",
    "Transport",
    "lists_of",
    "options",
    "settings",
]

logger = logging.getLogger(__name__)


def settings(url: str, common: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return Celery's settings of a worker's broker.

    Args:
        url: of Redis (``jaas_submit.connection.url``).
        common: the transport options that producers have.
        prefix: of this installation's keys.

    Raises:
        SpecError: the URL is not valid.
    """
    address = sentinel_address(url)
    more = {**common, **options(prefix)}
    if address is None:
        return {"broker_transport": "jaas_worker.transport:Transport", "broker_transport_options": more}
    # With the URLs of all Sentinels kombu would go on with the next of them after a lost connection, and with the stock
    # transport that its scheme means. What that one is told of the Sentinels holds what cannot be sent as JSON.
    for stocks in ("master_name", "sentinel_kwargs"):
        more.pop(stocks, None)
    first = address.celery_urls()[0]
    return {
        "broker_transport": "jaas_worker.transport:SentinelTransport",
        "broker_transport_options": {**more, "sentinel": address},
        "broker_read_url": first,
        "broker_write_url": first,
    }


def options(prefix: str) -> dict[str, Any]:
    """Return the transport options of a worker, on top of those that producers have.

    Args:
        prefix: of this installation's keys.
    """
    return {
        # Of our own: the stock ones are shared by all Celery clients of a Redis, and the shortest visibility_timeout
        # among them counts for all.
        "unacked_key": f"{prefix}:unacked",
        "unacked_index_key": f"{prefix}:unacked_index",
        "unacked_mutex_key": f"{prefix}:unacked_mutex",
        # A message that a worker has received and not claimed is delivered again after so many seconds, should that
        # worker be gone. Harmless where it is not: the ledger knows a job whose message comes twice.
        "visibility_timeout": 60,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "unacked_restore_limit": 1000,
        # Redis answers a waiting worker every second; without an answer for so much longer the connection is dead.
        "health_check_interval": 5,
        "socket_timeout": 5,
    }


def lists_of(queue: str) -> list[str]:
    """Return the names of the Redis lists that a queue is made of: one for each priority, as kombu names them."""
    steps = stock.PRIORITY_STEPS
    return [f"{queue}{stock.Channel.sep}{step}" if step else queue for step in steps]


# KEYS: 1 index and 2 hash of what is unacknowledged (in kombu's form), 3... the lists to take from, in this order.
# ARGV: for each list, whether its messages will be acknowledged.
# The entry is copied as it is, for a decoded and encoded one may differ (empty lists, large numbers).
_FETCH: Final = """
local t = redis.call('TIME')
for i = 3, #KEYS do
  local item = redis.call('LINDEX', KEYS[i], -1)
  if item then
    local ok, message = pcall(cjson.decode, item)
    local properties = ok and type(message) == 'table' and message.properties
    local tag = type(properties) == 'table' and properties.delivery_tag
    local info = type(properties) == 'table' and properties.delivery_info
    if ARGV[i - 2] == '1' and type(tag) == 'string' and type(info) == 'table' then
      local exchange, key = cjson.encode(info.exchange or ''), cjson.encode(info.routing_key or '')
      redis.call('HSET', KEYS[2], tag, '[' .. item .. ', ' .. exchange .. ', ' .. key .. ']')
      redis.call('ZADD', KEYS[1], tonumber(t[1]) + tonumber(t[2]) / 1000000, tag)
    end
    redis.call('RPOP', KEYS[i])
    return {KEYS[i], item}
  end
end
return nil
"""

_alive: weakref.WeakSet[Channel] = weakref.WeakSet()


class QoS(stock.QoS):
    """Does not note down again what the fetching script has noted already."""

    channel: Any
    held: ClassVar[bool] = False
    """No messages are taken off the queues; of the class, because Celery makes new instances with each connection."""

    def can_consume(self) -> bool:
        return not self.held and bool(super().can_consume())

    def append(self, message: Any, delivery_tag: Any) -> None:
        if delivery_tag == self.channel.fetched:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        try:
            super().restore_unacked_once(stderr)
        except Exception as error:  # noqa: BLE001 (the stock one stumbles over its own closed connection, too)
            # With Redis away nothing can be given back, and nothing needs to be: it is noted there, and comes again.
            logger.debug("messages could not be given back now: %r", error)

    def restore_unacked(self, client: Any = None) -> Any:
        """Put back what was received and not acknowledged, if there still is a connection to do it by.

        The stock one ends the worker with AttributeError where Redis went away under it. What is not put back comes
        back by the visibility time-out; the ledger knows the jobs, and does not wait for that.
        """
        transport = self.channel.connection
        if transport is None or transport.client is None:
            return []
        return super().restore_unacked(client)


class Channel(stock.Channel):
    """Fetches messages without a moment in which they are nowhere, and reports entries that are no JSON.

    It does by turns what the stock channel does with BRPOP: it waits until the first queue holds something (BLMOVE of
    the last entry to where it is), and then fetches from all queues until they are empty.
    """

    QoS = QoS
    # What kombu's stubs leave out.
    connection: Any
    connection_errors: Any
    _queue_cycle: Any
    _q_for_pri: Any
    _flush_brpop_reauth: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.fetched: str | None = None
        """Delivery tag of the message that is being delivered."""
        self._pool: Any = None
        self._async_pool: Any = None
        self._publisher: Any = None
        self._unacknowledged: set[str] = set()
        self._next = "fetch"
        self._sent = ""
        super().__init__(*args, **kwargs)
        _alive.add(self)

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            # The stock channel raises AttributeError when a message is acknowledged after its connection was closed,
            # and the worker ends of it.
            raise redis.exceptions.ConnectionError("the channel is closed")
        return super()._connparams(asynchronous)  # type: ignore[misc] # not in the stubs

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return a client of the channel's pool: the same as before, since making one takes longer than a message."""
        if asynchronous:  # the channel keeps those itself
            return super()._create_client(asynchronous)  # type: ignore[misc] # not in the stubs
        pool = self.pool
        if self._publisher is None or self._publisher.connection_pool is not pool:
            self._publisher = super()._create_client()  # type: ignore[misc] # as above
        return self._publisher

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        (self._unacknowledged.add if no_ack else self._unacknowledged.discard)(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def _brpop_start(self, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        seconds = self.brpop_timeout if timeout is None else timeout
        lists = [(self._q_for_pri(queue, step), queue) for step in self.priority_steps for queue in queues]
        keys = [self.unacked_index_key, self.unacked_key, *(key for key, _ in lists)]
        noted = [int(queue not in self._unacknowledged) for _, queue in lists]
        bell = self._q_for_pri(next(iter(self.active_queues)), 0)
        self._sent, self._next = self._next, "fetch"
        commands: dict[str, list[Any]] = {
            "fetch": ["EVAL", _FETCH, len(keys), *keys, *noted],
            "wait": ["BLMOVE", bell, bell, "RIGHT", "RIGHT", seconds],
            # Redis refuses the other two: a second of waiting for what never comes.
            "pause": ["BLPOP", f"{self.unacked_key}:nothing", seconds],
        }
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        self.client.connection.send_command(*commands[self._sent])

    def _brpop_read(self, **options: Any) -> Any:
        found = None
        try:
            try:
                found = self.client.parse_response(self.client.connection, "EVAL", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            except self.ResponseError as error:  # full, read-only, loading
                logger.warning("Redis refuses to hand out messages for now: %s", error, extra=action(Action.REDIS_AWAY))
                self._next = "pause"
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if self._sent == "fetch" and found:
            return self._hand_on(*found)
        if self._sent == "fetch" and self._next != "pause":
            self._next = "wait"
        raise Empty

    def _hand_on(self, key: bytes, item: bytes) -> bool:
        queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        try:
            message = loads(bytes_to_str(item))
        except (ValueError, RecursionError) as error:
            self.connection.poisoned(queue, len(item), f"it is not JSON ({error})")
            return True
        properties = message.get("properties") if isinstance(message, dict) else None
        self.fetched = properties.get("delivery_tag") if isinstance(properties, dict) else None
        try:
            self.connection._deliver(message, queue)
        finally:
            self.fetched = None
        return True


class Poller(stock.MultiChannelPoller):
    """Breaks the connection off as soon as Redis is silent for longer than it can be."""

    _channels: Any

    def maybe_check_brpop_health(self) -> None:
        for channel in self._channels:
            sent, interval = channel._brpop_sent_at, channel.health_check_interval
            if not channel._in_poll or sent is None or not interval:
                continue
            silent = monotonic() - sent
            if silent > channel.brpop_timeout + interval and not _readable(channel._in_poll):
                # Not only this one is dead, most likely: the consumer begins anew, with new connections only.
                raise redis.exceptions.ConnectionError(f"Redis has been silent for {silent:.0f} s")


def _readable(connection: Any) -> bool:
    """Return whether an answer is there already, which the event loop has not come to yet."""
    sock = getattr(connection, "_sock", None)
    if sock is None:
        return True
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))


def _stand_in(entry: Any, queue: str, wrong: str) -> dict[str, Any]:
    """Return what is handed on instead of an entry that kombu cannot make a message of.

    It has the entry's delivery tag, by which the entry is acknowledged, and its task id, under which it is recorded;
    empty for an entry that has neither.
    """
    headers, properties = (entry.get(name) if isinstance(entry, dict) else None for name in ("headers", "properties"))
    headers = headers if isinstance(headers, dict) else {}
    properties = properties if isinstance(properties, dict) else {}
    tag, where = properties.get("delivery_tag"), properties.get("delivery_info")
    if not (is_task_id(tag) or is_task_id(headers.get("id"))):
        return {}
    kept = {name: headers[name] for name in ("id", "task") if is_task_id(headers.get(name))}
    return {
        "headers": {**kept, DEFECT: f"the queue entry is no message of Celery: {wrong}"},
        "body": "",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {
            "delivery_tag": tag if is_task_id(tag) else str(uuid.uuid4()),
            "delivery_info": where if isinstance(where, dict) else {"exchange": "", "routing_key": queue},
        },
    }


class Transport(stock.Transport):
    """Reports entries that are no messages."""

    Channel = Channel

    sinks: ClassVar[list[Callable[[str, str], object]]] = []
    """Who records an entry: called with queue and reason. Of the class, because Celery makes the instances; among the
    transport's options they would break `inspect stats`, which sends those as JSON."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

    @staticmethod
    def drop_connections() -> None:
        """Close all connections of all transports that nobody is using: one was dead, so the others may be, too."""
        for channel in list(_alive):
            for pool in (channel._pool, channel._async_pool):
                if pool is not None:
                    pool.disconnect(inuse_connections=False)

    def _deliver(self, message: Any, queue: str | None) -> None:
        wrong = self._defect(message)
        if not wrong:
            super()._deliver(message, queue)
        elif stand_in := _stand_in(message, queue or "?", wrong):
            super()._deliver(stand_in, queue)
        else:
            self.poisoned(queue or "?", len(str(message)), f"it is no message of Celery: {wrong}")

    def _defect(self, message: Any) -> str:
        if wrong := entry_defect(message):
            return wrong
        try:
            for channel in (self.channels or [])[:1]:
                channel.Message(message, channel=channel)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with it, it is no message)
            return type(error).__name__
        return ""

    def poisoned(self, queue: str, size: int, reason: str) -> None:
        """Hand a bad entry to whoever records it. Its content is not shown: it may be a job's, cut in half."""
        text = f"a queue entry of {size:,} characters could not be read: {reason}"
        logger.error("%s", text, extra=action(Action.JOB_REFUSED))
        for record in self.sinks:
            record(queue, text)


class _Finder(Finder):
    """Says when the master is another one."""

    found: ClassVar[dict[str, tuple[str, int]]] = {}
    """The last known one by its name. Of the class, because each channel makes an instance."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        now = super().discover_master(service_name)
        if self.found.get(service_name, now) != now:
            logger.warning("the master of %s is now %s:%d", service_name, *now, extra=action(Action.REDIS_MOVED))
        self.found[service_name] = now
        return now


class SentinelChannel(Channel, stock.SentinelChannel):
    """Asks Sentinel for the present master at each new connection."""

    from_transport_options = (*stock.SentinelChannel.from_transport_options, "sentinel")

    connection_class = MasterConnection

    sentinel: SentinelAddress
    """Which one; an option of the transport."""

    _sentinel_manager: Any
    _async_sentinel_manager: Any

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        params = self._connparams(asynchronous)
        # Those of the URL are a Sentinel's.
        params = {name: value for name, value in params.items() if name not in {"host", "port"}}
        finder = _Finder(self.sentinel)
        # The stock channel closes them.
        if asynchronous:
            self._async_sentinel_manager = finder
        else:
            self._sentinel_manager = finder
        return finder.master(**params).connection_pool


class SentinelTransport(Transport):
    """``Transport`` over Sentinel."""

    Channel = SentinelChannel

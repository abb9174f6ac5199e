"""kombu's Redis transport, changed for jobs: it loses no message, detects dead connections, and survives invalid data.

Three things that the stock transport of kombu 5.7.0 does not do, each measured:

* It takes a message off its queue with BRPOP and notes it as unacknowledged in a second round trip. If the worker is
  killed in between, or its connection is half-open, the message is lost (7 of 130 in a fault campaign of eight
  minutes). Here a script moves the message in one step.
* On a half-open connection it finds one dead connection after the other, each after up to a minute: 131 to 184
  seconds until messages arrive again. Here the first one is noticed after 6 to 11 seconds, and all are dropped.
* An entry that is not JSON, or no message, ends the worker, and the entry is lost: `LPUSH jaas garbage`. So does an
  invalid broadcast. Here an invalid entry becomes a placeholder message with the reason, and the consumer records it;
  an invalid broadcast is logged and dropped.

It speaks to one server; ``sentinel_transport`` to the present master.
"""

from __future__ import annotations

import functools
import logging
import select
import uuid
import weakref
from collections.abc import Mapping
from queue import Empty
from time import monotonic
from typing import Any

import redis.exceptions
from kombu.transport import redis as stock
from kombu.utils.encoding import bytes_to_str

from jaas_submit.messaging.queues import lists_of
from jaas_submit.model.bounds import shown
from jaas_worker.messaging.message_checks import DEFECT, MAX_REASON, broadcast_message, queue_message
from jaas_worker.messaging.unacknowledged import FETCH, QoS, fetch_arguments
from jaas_worker.telemetry.log_actions import Action, action

__all__ = [
    "Channel",
    "Poller",
    "QoS",
    "Transport",
]

logger = logging.getLogger(__name__)


_alive: weakref.WeakSet[Channel] = weakref.WeakSet()


@functools.lru_cache(maxsize=64)
def _lists_in_order(queues: tuple[str, ...]) -> Mapping[str, str]:
    """Return the queue of each Redis list, in the order in which the lists are read: the most urgent of all first.

    These are all lists that a producer may have chosen. The next task after a job is published to the default ones
    (priority_steps): it is for other workers, which read no others.
    """
    ranked = zip(*(lists_of(queue) for queue in queues), strict=True)
    return {key: queue for keys in ranked for key, queue in zip(keys, queues, strict=True)}


class Channel(stock.Channel):
    """Fetches messages atomically, and survives invalid ones.

    Instead of BRPOP it waits until the main queue has an entry (BLMOVE of the last entry to its own place), and then
    fetches from all queues until they are empty.
    """

    QoS = QoS
    from_transport_options = (
        *stock.Channel.from_transport_options,
        "ended_key",
        "leases_key",
        "main_queue",
        "redelivered_key",
    )

    ended_key = "unacked_ended"
    """Key of the number of workers that a message has ended; an option of the transport, as the next ones."""

    leases_key = "holders"

    main_queue = ""
    """The queue that is waited for, and that takes notes which cannot be read; without it these stay. Another queue
    may be shared with other applications, whose workers end by such an entry."""

    redelivered_key = "unacked_redelivered"
    """Key of the set of messages that were returned to their queue."""

    # Missing in kombu's stubs.
    connection: Any
    connection_errors: Any
    _queue_cycle: Any
    _flush_brpop_reauth: Any
    _handle_message: Any
    _fanout_to_queue: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._tag = ""
        self._pool: Any = None
        self._async_pool: Any = None
        self._publisher: Any = None
        self._unacknowledged: set[str] = set()
        self._next = "fetch"
        self._sent = ""
        self._queue_of: Mapping[str, str] = {}
        super().__init__(*args, **kwargs)
        _alive.add(self)

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            # The stock channel raises AttributeError when a message is acknowledged after its connection was closed,
            # and that ends the worker.
            raise redis.exceptions.ConnectionError("the channel is closed")
        return super()._connparams(asynchronous)  # type: ignore[misc] # not in the stubs

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return a client of the channel's pool: the same as before, since creating one takes longer than handling a
        message."""
        if asynchronous:  # the channel keeps those itself
            return super()._create_client(asynchronous)  # type: ignore[misc] # not in the stubs
        pool = self.pool
        if self._publisher is None or self._publisher.connection_pool is not pool:
            self._publisher = super()._create_client()  # type: ignore[misc] # as above
        return self._publisher

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        (self._unacknowledged.add if no_ack else self._unacknowledged.discard)(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def _size(self, queue: str) -> int:
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for name in lists_of(queue):
                pipe.llen(name)
            # One of its keys may not be a list; the others can be read.
            return sum(size for size in pipe.execute(raise_on_error=False) if isinstance(size, int))

    def _brpop_start(self, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        seconds = self.brpop_timeout if timeout is None else timeout
        self._queue_of = _lists_in_order(tuple(queues))
        self._tag = str(uuid.uuid4())
        notes = [self.unacked_index_key, self.unacked_key, self.ended_key, self.redelivered_key]
        keys = [*notes, *self._queue_of]
        noted = [int(queue not in self._unacknowledged) for queue in self._queue_of.values()]
        bell = self.main_queue if self.main_queue in queues else queues[0]
        self._sent, self._next = self._next, "fetch"
        commands: dict[str, list[Any]] = {
            "fetch": ["EVAL", FETCH, len(keys), *keys, *fetch_arguments(self._tag, self.QoS.worker), *noted],
            "wait": ["BLMOVE", bell, bell, "RIGHT", "RIGHT", seconds],
            # Redis refuses the other two, so waiting would be useless.
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
                logger.warning(
                    "Redis refuses to return messages for now: %s", error, extra=action(Action.REDIS_UNAVAILABLE)
                )
                self._next = "pause"
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if self._sent == "fetch" and found:
            return self._hand_on(*found)
        if self._sent == "fetch" and self._next != "pause":
            self._next = "wait"
        raise Empty

    def _hand_on(self, key: bytes, item: bytes, ended: int, again: int) -> bool:
        queue = self._queue_of[bytes_to_str(key)]
        self._queue_cycle.rotate(queue)
        message = queue_message(item, queue, self._tag, ended, again=bool(again))
        if queue in self._unacknowledged:  # answers to Celery's own questions
            if DEFECT in message["headers"]:
                self._drop(queue, message["headers"][DEFECT])
            else:
                self._deliver_broadcast(message, queue)
        else:
            self.connection._deliver(message, queue)
        return True

    def _receive_one(self, c: Any) -> Any:
        try:
            response = c.parse_response()
        except self.connection_errors:
            self._in_listen = None
            raise
        if not isinstance(response, list | tuple):
            return None
        payload = self._handle_message(c, response)
        if not bytes_to_str(payload["type"]).endswith("message") or not payload["data"]:
            return None
        channel = payload["channel"].decode(errors="replace")
        exchange = (channel.partition(".")[2] if channel.startswith("/") else channel).partition("/")[0]
        try:
            message = broadcast_message(payload["data"])
            queue = self._fanout_to_queue[exchange]
        except (ValueError, KeyError) as error:
            self._drop(channel, error)
            return True
        self._deliver_broadcast(message, queue)
        return True

    def _deliver_broadcast(self, message: dict[str, Any], queue: str) -> None:
        """Deliver a message without acknowledgement; errors in its content are caught."""
        try:
            self.connection._deliver(message, queue)
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 (nobody waits for it)
            self._drop(queue, f"it could not be handled ({type(error).__name__})")

    @staticmethod
    def _drop(where: str, why: object) -> None:
        about = action(Action.BROADCAST_DROPPED)
        logger.warning("dropped what came on %s: %s", shown(where, 200), shown(why, MAX_REASON), extra=about)


class Poller(stock.MultiChannelPoller):
    """Closes the connection when Redis is silent for longer than its time-out."""

    _channels: Any

    def maybe_restore_messages(self) -> None:
        for channel in list(self._channels):
            try:
                channel.qos.restore_visible(num=channel.unacked_restore_limit)
            except channel.connection_errors as error:  # reading messages detects that too
                logger.debug("messages of dead workers could not be searched: %s", error)

    def maybe_check_brpop_health(self) -> None:
        for channel in self._channels:
            sent, interval = channel._brpop_sent_at, channel.health_check_interval
            if not channel._in_poll or sent is None or not interval:
                continue
            silent = monotonic() - sent
            if silent > channel.brpop_timeout + interval and not _readable(channel._in_poll):
                # Other connections are probably dead too: the consumer restarts with new ones.
                raise redis.exceptions.ConnectionError(f"Redis has been silent for {silent:.0f} s")


def _readable(connection: Any) -> bool:
    """Return whether an answer has arrived that the event loop has not read yet."""
    sock = getattr(connection, "_sock", None)
    if sock is None:
        return True
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))


class Transport(stock.Transport):
    """Creates these channels, and their poller."""

    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

    @staticmethod
    def drop_connections() -> None:
        """Close all unused connections of all transports: one was dead, so the others may be too."""
        for channel in list(_alive):
            for pool in (channel._pool, channel._async_pool):
                if pool is not None:
                    pool.disconnect(inuse_connections=False)

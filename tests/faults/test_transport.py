"""The worker's transport: a message is on its queue or noted as unacknowledged at every moment, and never lost."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import kombu
import pytest
import redis

from jaas_submit import Client, JobSpec
from jaas_worker.transport import Transport, options
from tests.faults.proxies import ProxyLoop, RedisProxy
from tests.support.real import required_env
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation

pytestmark = [pytest.mark.redis]

PREFIX = "t-transport"


class Side:
    """A connection of the worker's kind, with a consumer.

    Args:
        url: of Redis.
        queue: consumed.
        no_ack: whether messages need no acknowledgement.
        more: further transport options.
    """

    made: ClassVar[list[Side]] = []
    """All of them, to be closed after the test."""

    def __init__(self, url: str, queue: str, *, no_ack: bool = False, **more: Any) -> None:
        self.got: list[Any] = []
        self.connection = kombu.Connection(url, transport=Transport, transport_options={**options(PREFIX), **more})
        self.consumer = kombu.Consumer(
            self.connection, [kombu.Queue(queue)], on_message=self.got.append, no_ack=no_ack, accept=["json"]
        )
        self.consumer.consume()
        self.made.append(self)

    def drain(self, seconds: float = 3.0) -> list[Any]:
        """Take what comes; return all messages so far."""
        with suppress(TimeoutError):
            self.connection.drain_events(timeout=seconds)
        return self.got

    def vanish(self) -> None:
        """Be gone without a word, as after SIGKILL: nothing is given back."""
        for channel in self.connection.transport.channels:
            channel.qos.restore_at_shutdown = False
            channel.do_restore = False
        self.connection.release()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """A Redis of this module."""
    made = OwnRedis(tmp_path_factory.mktemp("redis")).start()
    yield made
    made.kill()


@pytest.fixture
def client(server: OwnRedis) -> Iterator[redis.Redis]:
    """An empty Redis."""
    with redis.Redis(port=server.port, decode_responses=True) as made:
        made.config_set("maxmemory", 0)
        made.flushall()
        yield made
    while Side.made:
        Side.made.pop().vanish()


@pytest.fixture
def queue() -> str:
    """A queue's name."""
    return f"q-{uuid.uuid4().hex[:8]}"


def publish(url: str, queue: str, body: dict[str, Any]) -> None:
    """Send a message as any Celery client does."""
    with kombu.Connection(url) as connection, connection.Producer() as producer:
        producer.publish(body, routing_key=queue, declare=[kombu.Queue(queue)])


def test_a_fetched_message_is_noted_as_it_is_until_it_is_acknowledged(
    server: OwnRedis, client: redis.Redis, queue: str
) -> None:
    publish(server.url, queue, {"empty": [], "number": 12345678901234567890})
    entry = client.lrange(queue, 0, -1)[0]
    side = Side(server.url, queue)

    message = side.drain()[0]

    noted = client.hgetall(f"{PREFIX}:unacked")
    assert noted == {message.delivery_tag: noted[message.delivery_tag]}
    payload, _, routing_key = json.loads(noted[message.delivery_tag])
    assert (payload, routing_key) == (json.loads(entry), queue)
    assert (client.llen(queue), client.zcard(f"{PREFIX}:unacked_index"), client.exists("unacked")) == (0, 1, 0)
    message.ack()
    assert client.exists(f"{PREFIX}:unacked", f"{PREFIX}:unacked_index") == 0


def test_a_message_whose_worker_vanished_comes_to_another_one(
    server: OwnRedis, client: redis.Redis, queue: str
) -> None:
    first = Side(server.url, queue)
    publish(server.url, queue, {"n": 1})
    assert len(first.drain()) == 1
    first.vanish()
    second = Side(server.url, queue, visibility_timeout=0)

    def comes() -> bool:
        second.connection.transport.cycle.maybe_restore_messages()
        return bool(second.drain(1))

    eventually(comes, 20)
    assert second.got[0].payload == {"n": 1}


def test_what_needs_no_acknowledgement_is_not_noted(server: OwnRedis, client: redis.Redis, queue: str) -> None:
    publish(server.url, queue, {"n": 1})

    assert len(Side(server.url, queue, no_ack=True).drain()) == 1
    assert client.exists(f"{PREFIX}:unacked") == 0


def test_messages_arrive_in_order_and_by_priority(server: OwnRedis, client: redis.Redis, queue: str) -> None:
    side = Side(server.url, queue)
    for n in range(20):
        publish(server.url, queue, {"n": n})

    eventually(lambda: len(side.drain(1)) == 20, 20)

    assert [message.payload["n"] for message in side.got] == list(range(20))


def test_waiting_takes_nothing_off_the_queue(server: OwnRedis, client: redis.Redis, queue: str) -> None:
    sides = [Side(server.url, queue) for _ in range(3)]
    for side in sides:
        side.drain(0.1)  # each of them waits at Redis now
    publish(server.url, queue, {"n": 1})

    eventually(lambda: sum(len(side.drain(0.2)) for side in sides) == 1, 20)

    assert client.llen(queue) == 0
    assert client.hlen(f"{PREFIX}:unacked") == 1


def test_a_full_redis_is_waited_for(server: OwnRedis, client: redis.Redis, queue: str) -> None:
    side = Side(server.url, queue)
    publish(server.url, queue, {"n": 1})
    client.config_set("maxmemory", 1)

    assert side.drain(1.5) == []

    client.config_set("maxmemory", 0)
    eventually(lambda: side.drain(1), 20)


@pytest.mark.parametrize("garbage", [b"no JSON", b"\xff\xfe", b"[]", b'{"properties": 1}', b'{"properties": {}}'])
def test_garbage_is_reported_and_the_next_message_arrives(
    server: OwnRedis, client: redis.Redis, queue: str, garbage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[str] = []
    monkeypatch.setattr(Transport, "sinks", [lambda _queue, reason: reported.append(reason)])
    client.lpush(queue, garbage)
    publish(server.url, queue, {"n": 1})
    side = Side(server.url, queue)

    eventually(lambda: side.drain(1), 20)

    assert len(reported) == 1
    assert client.hlen(f"{PREFIX}:unacked") == 1


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_a_half_open_connection_is_given_up_soon(server: OwnRedis, client: redis.Redis, tmp_path: Path) -> None:
    host = required_env("DOCKER_HOST")
    loop = ProxyLoop()
    proxy = RedisProxy(loop, server.port, 0)
    home = Installation(server.url, host, f"t-half-{server.port}", tmp_path)
    worker = home.worker(redis_url=proxy.url).start()
    try:
        with Client(server.url, queue=home.queue, prefix=home.prefix) as submitter:

            def taken() -> bool:
                """Whether a job is received at once, by its message."""
                job = submitter.submit(JobSpec(image=TEST_IMAGE, command=["true"]))
                return (
                    bool(eventually(lambda: job.record().terminal, 120, lambda: worker.log))
                    and (job.record().updated_at - job.record().created_at).total_seconds() < 15
                )

            assert eventually(taken, 120, lambda: worker.log)
            assert proxy.silence() > 3
            assert eventually(taken, 120, lambda: worker.log)
    finally:
        home.close()
        loop.close()

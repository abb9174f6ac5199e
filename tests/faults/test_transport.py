"""The worker's transport: a message is on its queue or noted as unacknowledged at every moment, and never lost."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import kombu
import pytest
import redis

from jaas_submit import Client, JobSpec
from jaas_submit.messaging.queues import lists_of
from jaas_worker.messaging.message_checks import DEFECT
from jaas_worker.messaging.redis_transport import Transport
from jaas_worker.messaging.transport_settings import options
from jaas_worker.messaging.unacknowledged import QoS
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
        also: queues that are consumed, too.
        no_ack: whether messages need no acknowledgement.
        more: further transport options.
    """

    made: ClassVar[list[Side]] = []
    """All of them, to be closed after the test."""

    def __init__(self, url: str, queue: str, *also: str, no_ack: bool = False, **more: Any) -> None:
        self.got: list[Any] = []
        settings = {**options(PREFIX, queue), **more}
        self.connection = kombu.Connection(url, transport=Transport, transport_options=settings)
        self.transport: Any = self.connection.transport  # of its class, which its annotation does not know
        queues = [kombu.Queue(name) for name in (*also, queue)]
        self.consumer = kombu.Consumer(
            self.connection, queues, on_message=self.got.append, no_ack=no_ack, accept=["json"]
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
        for channel in self.transport.channels:
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
    _, worker, where, as_it_was = str(noted[message.delivery_tag]).split("\n", 3)
    assert (worker, where, as_it_was) == ("", queue, entry)
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
        second.transport.cycle.maybe_restore_messages()
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


HOSTILE: dict[str, bytes] = {
    "no JSON": b"no JSON",
    "not UTF-8": b"\xff\xfe",
    "a list": b"[]",
    "properties a number": b'{"properties": 1}',
    "properties empty": b'{"properties": {}}',
    "a raw line's end, as a shell script makes it": b'{"body": "a\nb", "properties": {"delivery_tag": "t"}}',
    "an infinite exchange": b'{"properties": {"delivery_tag": "t", "delivery_info": {"exchange": 1e999}}}',
    "no number as a key": b'{"properties": {"delivery_tag": "t", "delivery_info": {"routing_key": NaN}}}',
    "half a character as a key": b'{"properties": {"delivery_tag": "t", "delivery_info": {"routing_key": "\\ud800"}}}',
    "NUL": b'{"properties": {"delivery_tag": "a\x00b", "delivery_info": {}}}',
    "a tag of a megabyte": b'{"properties": {"delivery_tag": "' + b"t" * 1_000_000 + b'", "delivery_info": {}}}',
    "deep": b"[" * 1_500_000,
    "deep where cjson still reads": b'{"properties": {"delivery_tag": "t", "delivery_info": {"exchange": '
    + b"[" * 990
    + b"]" * 990
    + b"}}}",
    "too large": b'"' + b"a" * 3_000_000 + b'"',
    "a note's form": b"1\nworker\nqueue\nentry",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_is_on_a_queue_is_delivered_noted_and_comes_again(
    server: OwnRedis, client: redis.Redis, queue: str, name: str
) -> None:
    client.lpush(queue, HOSTILE[name])
    publish(server.url, queue, {"n": 1})
    first = Side(server.url, queue)

    eventually(lambda: len(first.drain(1)) == 2, 20)

    assert DEFECT in first.got[0].headers
    assert (first.got[1].payload, client.hlen(f"{PREFIX}:unacked")) == ({"n": 1}, 2)
    noted: Any = redis.Redis(port=server.port).hget(f"{PREFIX}:unacked", first.got[0].delivery_tag)
    assert noted.split(b"\n", 3)[3] == HOSTILE[name]
    first.vanish()
    second = Side(server.url, queue, visibility_timeout=0)
    eventually(lambda: restored(second) == 2, 20)
    again: Any = redis.Redis(port=server.port).hvals(f"{PREFIX}:unacked")
    assert HOSTILE[name] in [note.split(b"\n", 3)[3] for note in again]
    for message in second.got:
        message.ack()
    assert client.exists(queue, f"{PREFIX}:unacked", f"{PREFIX}:unacked_index") == 0


def restored(side: Side) -> int:
    """Give back what nobody has any more; return how many messages have arrived."""
    side.transport.cycle.maybe_restore_messages()
    return len(side.drain(1))


@pytest.mark.parametrize("note", [b"garbage", b"", b"\xff", b'[{"properties": {}}, "", "q"]', b"1\n2", b"\n\n"])
def test_a_note_that_cannot_be_read_becomes_a_bad_message_and_holds_nothing_up(
    server: OwnRedis, client: redis.Redis, queue: str, note: bytes
) -> None:
    gone = Side(server.url, queue)
    client.hset(f"{PREFIX}:unacked", "foreign", note)
    client.zadd(f"{PREFIX}:unacked_index", {"foreign": 1, "without a note": 2})
    publish(server.url, queue, {"n": 1})
    eventually(lambda: gone.drain(1), 20)
    gone.vanish()
    side = Side(server.url, queue, visibility_timeout=0)

    eventually(lambda: restored(side) == 2, 20)

    assert sorted(DEFECT in message.headers for message in side.got) == [False, True]
    assert client.zscore(f"{PREFIX}:unacked_index", "without a note") is None


def test_a_note_that_cannot_be_read_goes_to_no_queue_of_others(
    server: OwnRedis, client: redis.Redis, queue: str
) -> None:
    client.hset(f"{PREFIX}:unacked", "foreign", "[" * 3000)
    client.zadd(f"{PREFIX}:unacked_index", {"foreign": 1})
    side = Side(server.url, queue, *(f"{queue}-{number}" for number in range(8)), visibility_timeout=0)

    eventually(lambda: restored(side) == 1, 20)

    assert [message.delivery_info["routing_key"] for message in side.got] == [queue]


def test_a_message_of_the_main_queue_does_not_wait_for_the_end_of_a_poll(
    server: OwnRedis, client: redis.Redis, queue: str
) -> None:
    side = Side(server.url, queue, *(f"{queue}-{number}" for number in range(8)))
    for channel in side.transport.channels:
        channel.brpop_timeout = 60
    eventually(lambda: side.drain(0.1) == [] and "blmove" in [one["cmd"] for one in client.client_list()], 20)
    publish(server.url, queue, {"n": 1})

    assert len(side.drain(20)) == 1


def test_a_list_of_the_wrong_type_does_not_keep_the_others_from_being_read(
    server: OwnRedis, client: redis.Redis, queue: str
) -> None:
    publish(server.url, queue, {"n": 1})
    client.rename(queue, lists_of(queue)[1])
    client.set(queue, "no list")  # it is looked at before the other one
    side = Side(server.url, queue)

    eventually(lambda: side.drain(1), 20)


def test_a_note_whose_list_is_none_stays_and_holds_nothing_up(
    server: OwnRedis, client: redis.Redis, queue: str
) -> None:
    client.set(f"{queue}-other", "no list")
    client.hset(f"{PREFIX}:unacked", "other", f"1.000000\nw\n{queue}-other\nentry")
    client.hset(f"{PREFIX}:unacked", "mine", f"2.000000\nw\n{queue}\nentry")
    client.zadd(f"{PREFIX}:unacked_index", {"other": 1, "mine": 2})
    side = Side(server.url, queue, visibility_timeout=1)

    side.transport.cycle.maybe_restore_messages()

    assert client.lrange(queue, 0, -1) == ["entry"]
    assert client.hkeys(f"{PREFIX}:unacked") == ["other"]
    assert float(client.zscore(f"{PREFIX}:unacked_index", "other") or 0) > 1


@pytest.mark.parametrize("name", ["unacked", "unacked_index"])
def test_notes_that_cannot_be_made_are_waited_for_and_leave_nothing(
    server: OwnRedis, client: redis.Redis, queue: str, name: str
) -> None:
    client.set(f"{PREFIX}:{name}", "something else")
    publish(server.url, queue, {"n": 1})
    side = Side(server.url, queue)
    assert side.drain(1.5) == []
    side.transport.cycle.maybe_restore_messages()
    client.delete(f"{PREFIX}:{name}")

    eventually(lambda: side.drain(1), 20)

    other = Side(server.url, queue, visibility_timeout=0)
    other.transport.cycle.maybe_restore_messages()
    assert (client.hlen(f"{PREFIX}:unacked"), client.llen(queue)) == (0, 1)
    assert client.zcard(f"{PREFIX}:unacked_index") == 0


def test_a_message_that_a_worker_still_has_does_not_come_again(
    server: OwnRedis, client: redis.Redis, queue: str
) -> None:
    publish(server.url, queue, {"n": 1})
    side = Side(server.url, queue, visibility_timeout=1)
    eventually(lambda: side.drain(1), 20)
    client.zadd(f"{PREFIX}:unacked_index", {side.got[0].delivery_tag: 1})

    side.transport.cycle.maybe_restore_messages()

    assert (client.llen(queue), client.hlen(f"{PREFIX}:unacked")) == (0, 1)


@pytest.mark.parametrize("how", ["its worker is gone", "requeued"])
def test_a_message_is_marked_when_it_is_delivered_again(
    server: OwnRedis, client: redis.Redis, queue: str, how: str
) -> None:
    publish(server.url, queue, {"n": 1})
    entry = client.lindex(queue, 0)
    first = Side(server.url, queue)
    eventually(lambda: first.drain(1), 20)
    if how == "requeued":
        first.got[0].requeue()
    first.vanish()
    publish(server.url, queue, {"n": 2})

    second = Side(server.url, queue, visibility_timeout=0)
    eventually(lambda: second.drain(1) and (restored(second), len(second.got) == 2)[1], 20)

    marks = {message.payload["n"]: message.delivery_info.get("redelivered") for message in second.got}
    assert (first.got[0].delivery_info.get("redelivered"), marks) == (None, {1: True, 2: None})
    notes = "".join(map(str, client.hvals(f"{PREFIX}:unacked")))
    assert str(entry) in notes  # it is still what was sent


def test_marks_that_are_too_many_are_begun_anew(server: OwnRedis, client: redis.Redis, queue: str) -> None:
    key = f"{PREFIX}:unacked_redelivered"
    client.sadd(key, *range(10_000))
    publish(server.url, queue, {"n": 1})
    side = Side(server.url, queue, visibility_timeout=0)
    eventually(lambda: restored(side) == 1, 20)

    assert client.scard(key) <= 1
    assert client.exists(key) == 0 or client.ttl(key) > 0


def test_a_note_that_is_missing_in_the_index_is_returned(server: OwnRedis, client: redis.Redis, queue: str) -> None:
    publish(server.url, queue, {"n": 1})
    first = Side(server.url, queue)
    eventually(lambda: first.drain(1), 20)
    first.vanish()
    client.delete(f"{PREFIX}:unacked_index")

    second = Side(server.url, queue, visibility_timeout=0)
    eventually(lambda: (restored(second), second.got)[1], 20)

    assert second.got[0].payload == {"n": 1}


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that fetches has a name, and no lease: it is gone."""
    monkeypatch.setattr(QoS, "worker", "w1")


@pytest.mark.usefixtures("named")
def test_a_message_that_has_ended_two_workers_is_refused_under_its_id(
    server: OwnRedis, client: redis.Redis, queue: str
) -> None:
    publish(server.url, queue, {"n": 1})
    seen = [comes_once_and_the_worker_dies(server, queue) for _ in range(4)]

    wrong = [message.headers.get(DEFECT) for message in seen]
    assert wrong == [None, None, "refused: it ended 2 workers", "refused: it ended 3 workers"]
    assert 0 < client.ttl(f"{PREFIX}:unacked_ended") <= 86_400


def comes_once_and_the_worker_dies(server: OwnRedis, queue: str) -> Any:
    side = Side(server.url, queue, visibility_timeout=0)
    eventually(lambda: restored(side) == 1, 20)
    side.vanish()
    return side.got[0]


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("how", ["alive", "waits in a worker", "returned"])
def test_a_message_is_not_blamed_for_what_it_did_not_do(
    server: OwnRedis, client: redis.Redis, queue: str, how: str
) -> None:
    publish(server.url, queue, {"n": 1})
    side = Side(server.url, queue)
    eventually(lambda: side.drain(1), 20)
    if how == "alive":
        client.zadd(f"{PREFIX}:holders", {"w1": 1e12})
    elif how == "waits in a worker":
        side.transport.cycle.maybe_restore_messages()  # it looks after its messages
    else:
        side.got[0].requeue()
    side.vanish()

    second = Side(server.url, queue, visibility_timeout=0)
    eventually(lambda: restored(second) == 1, 20)

    assert client.exists(f"{PREFIX}:unacked_ended") == 0


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("how", ["another type", "too many"])
def test_counts_that_are_none_or_too_many_are_begun_anew(
    server: OwnRedis, client: redis.Redis, queue: str, how: str
) -> None:
    key = f"{PREFIX}:unacked_ended"
    if how == "another type":
        client.set(key, "x")
    else:
        client.hset(key, mapping={str(number): 1 for number in range(10_000)})
    publish(server.url, queue, {"n": 1})

    seen = [comes_once_and_the_worker_dies(server, queue) for _ in range(2)]

    assert [DEFECT in message.headers for message in seen] == [False, False]
    assert list(client.hgetall(key).values()) == ["1"]


def test_messages_that_have_ended_a_worker_come_back_one_at_a_time(
    server: OwnRedis, client: redis.Redis, queue: str
) -> None:
    side = Side(server.url, queue, visibility_timeout=1)
    back = []
    for _ in range(2):
        for n in range(3):
            client.hset(f"{PREFIX}:unacked", f"t{n}", f"1.000000\nw1\n{queue}\nentry {n}")
            client.zadd(f"{PREFIX}:unacked_index", {f"t{n}": 1})
        side.transport.cycle.maybe_restore_messages()
        back.append((client.llen(queue), client.hlen(f"{PREFIX}:unacked")))
        client.delete(queue)

    assert back == [(3, 0), (1, 2)]


BROADCASTS: dict[str, tuple[str, bytes]] = {
    "no JSON": ("", b"no JSON"),
    "not UTF-8": ("", b"\xff\xfe"),
    "deep": ("", b"[" * 200_000),
    "deep in its body": ("", b'{"body": "' + b"[" * 100_000 + b'", "properties": {}}'),
    "no message": ("", b"5"),
    "a decimal": ("", b'{"__type__": "decimal", "__value__": "x"}'),
    "too large": ("", b'"' + b"a" * 3_000_000 + b'"'),
    "a channel that is no text": ("/\udcff", b"{}"),
}


@pytest.mark.parametrize("database", [0, 5])
@pytest.mark.parametrize("name", BROADCASTS)
def test_a_bad_broadcast_is_dropped_and_the_next_arrives(
    server: OwnRedis, client: redis.Redis, queue: str, name: str, database: int
) -> None:
    exchange = kombu.Exchange(f"{queue}.pidbox", type="fanout")
    got: list[Any] = []
    side = Side(server.url, queue)
    topics = [kombu.Queue(f"{queue}.fanout", exchange, routing_key="worker.#")]
    kombu.Consumer(side.connection, topics, on_message=got.append, no_ack=True, accept=["json"]).consume()
    side.drain(0.5)
    suffix, data = BROADCASTS[name]
    with redis.Redis(port=server.port, db=database) as publisher:
        assert eventually(publisher.pubsub_numpat, 20)
        publisher.publish(f"/0.{queue}.pidbox/worker.x{suffix}".encode(errors="surrogateescape"), data)
    with kombu.Connection(server.url) as connection, connection.Producer() as producer:
        producer.publish({"n": 1}, exchange=exchange, routing_key="worker.y", declare=[exchange])

    eventually(lambda: side.drain(0.5) or got, 20)

    assert [message.payload for message in got] == [{"n": 1}]


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

"""Feeds, whole outputs and leases of agents in a real Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from jaas_submit import Client, JobSpec
from jaas_submit.connection import Subscription, connect
from jaas_submit.ledger import Ledger
from jaas_submit.output import AgentLeases, FeedEnd, Feeds, Gap, Piece, WholeOutput, WholeOutputs, release_memory
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually

JOB = "6f0d8a52-0000-4000-8000-000000000001"
T = "2026-11-30T12:00:00.000000001Z"


@pytest.fixture
def feeds(ledger: Ledger) -> Feeds:
    return Feeds(ledger.client, ledger.prefix)


def piece(offset: int, data: bytes, *, err: bool = False) -> Piece:
    return Piece("stderr" if err else "stdout", offset, T, data)


def pieces_of(feeds: Feeds, feed: str, cursor: int = 0) -> list[Piece | Gap]:
    found: list[Piece | Gap] = []
    more = True
    while more:
        view = feeds.read(feed, cursor)
        assert view
        found += view.pieces
        cursor, more = view.cursor, view.more
    return found


def text_of(feeds: Feeds, feed: str) -> bytes:
    return b"".join(one.data for one in pieces_of(feeds, feed) if isinstance(one, Piece))


def test_a_watcher_reads_what_a_writer_appends_up_to_the_end(feeds: Feeds) -> None:
    feed = feeds.watch(JOB, 1).feed
    assert feeds.wanted([JOB, "another"]) == {JOB: [(feed, 1, "", None, 0, 0)]}
    view = feeds.read(feed)
    assert view
    assert (view.pieces, view.writer, view.end) == ((), "", None)
    assert feeds.begin(feed, "node1")
    assert feeds.append(feed, [piece(0, b"a\n"), piece(0, b"\xff\x00", err=True), piece(2, b"b")])
    view = feeds.read(feed, view.cursor)
    assert view
    assert view.pieces == (piece(0, b"a\n"), piece(0, b"\xff\x00", err=True), piece(2, b"b"))
    assert (view.writer, view.more, view.end) == ("node1", False, None)
    assert feeds.wanted([JOB])[JOB][0][4:] == (3, 2)
    feeds.append(feed, [piece(3, b"c")])
    assert feeds.finish(feed, FeedEnd(stdout=4, stderr=2))
    view = feeds.read(feed, view.cursor)
    assert view
    assert (view.pieces, view.end) == ((piece(3, b"c"),), FeedEnd("complete", "", 4, 2))
    assert feeds.wanted([JOB]) == {}


def test_what_is_appended_twice_is_there_once(feeds: Feeds) -> None:
    feed = feeds.watch(JOB, 1).feed
    for data in (b"abc", b"abc", b"abcdef", b"ab"):
        assert feeds.append(feed, [piece(0, data)])
    feeds.append(feed, [piece(4, b"efg"), piece(2, b"cde")])
    assert pieces_of(feeds, feed) == [piece(0, b"abc"), piece(3, b"def"), piece(6, b"g")]


def test_a_writer_says_what_it_could_not_get(feeds: Feeds) -> None:
    feed = feeds.watch(JOB, 1).feed
    feeds.append(feed, [Gap("stdout", 0, 10, "rotated away"), piece(10, b"x"), Gap("stdout", 9, 2, "seen already")])
    assert pieces_of(feeds, feed) == [Gap("stdout", 0, 10, "rotated away"), piece(10, b"x")]


def test_what_an_agent_of_an_earlier_version_wrote_is_read(feeds: Feeds) -> None:
    feed = feeds.watch(JOB, 1).feed
    entry: dict[Any, Any] = {"s": "2", "o": "3", "t": T, "d": b"\xff old\n"}
    feeds.client.xadd(feeds.key("feed", feed), entry, id="0-1")
    assert pieces_of(feeds, feed) == [piece(3, b"\xff old\n", err=True)]


def test_a_feed_says_where_it_began_also_when_that_is_not_there_any_more(feeds: Feeds) -> None:
    feed = feeds.watch(JOB, 1, tail=5).feed
    feeds.append(feed, [Gap("stdout", 1000, 7, "too much"), piece(1007, b"x" * 5_000_000)])
    view = feeds.read(feed)
    assert view
    assert view.begins == {"stdout": 1000}
    first = view.pieces[0]
    assert isinstance(first, Piece)
    assert first.offset > 800_000


def test_large_pieces_are_divided(feeds: Feeds) -> None:
    feed = feeds.watch(JOB, 1).feed
    data = bytes(range(256)) * 5000
    feeds.append(feed, [piece(0, data)])
    found = pieces_of(feeds, feed)
    assert len(found) == 20
    assert text_of(feeds, feed) == data


def test_many_short_lines_are_read_at_once(feeds: Feeds) -> None:
    feed = feeds.watch(JOB, 1).feed
    lines = [piece(number * 2, b"a\n") for number in range(3000)]
    feeds.append(feed, lines)
    view = feeds.read(feed)
    assert view
    assert view.pieces == tuple(lines)
    assert not view.more


def test_a_reader_far_behind_goes_on_with_what_is_left(feeds: Feeds) -> None:
    feed = feeds.watch(JOB, 1).feed
    feeds.append(feed, (piece(number * 60_000, b"x" * 60_000) for number in range(100)))
    found = pieces_of(feeds, feed)
    assert 0 < found[0].offset < found[-1].offset == 99 * 60_000
    assert [one.offset for one in found] == list(range(found[0].offset, 6_000_000, 60_000))


@pytest.mark.parametrize(
    "text",
    [
        '{"until": 9e9, "attempt": 1, "since": "", "tail": -1}',
        '{"until": 9e9, "attempt": Infinity, "since": ""}',
        '{"until": 9e9, "attempt": 1, "since": "", "tail": [1]}',
        "[" * 100_000,
        "[]",
        "",
    ],
)
def test_an_invalid_watch_is_ignored(text: str, feeds: Feeds) -> None:
    feed = feeds.watch(JOB, 1).feed
    feeds.client.hset(feeds.key("watch", JOB), feed, text)
    assert feeds.wanted([JOB]) == {}


def test_any_number_of_lines_may_be_asked_for(feeds: Feeds) -> None:
    feeds.watch(JOB, 1, tail=10**20)
    assert feeds.wanted([JOB])[JOB][0].tail == 1_000_000


def test_watchers_share_a_feed_from_the_first_byte(feeds: Feeds) -> None:
    first = feeds.watch(JOB, 1).feed
    feeds.append(first, [piece(0, b"x" * 1000)])
    assert {feeds.watch(JOB, 1).feed for _ in range(50)} == {first}
    assert feeds.watch(JOB, 2).feed != first


def test_a_feed_without_its_first_bytes_is_joined_only_when_a_job_has_four(feeds: Feeds) -> None:
    def trimmed() -> str:
        feed = feeds.watch(JOB, 1).feed
        feeds.append(feed, [piece(0, b"x" * 5_000_000), piece(5_000_000, b"end")])
        return feed

    four = [trimmed() for _ in range(4)]
    assert len({*four}) == 4
    assert feeds.watch(JOB, 1).feed in four
    kept = pieces_of(feeds, four[0])
    first = kept[0]
    assert isinstance(first, Piece)
    assert 800_000 < first.offset < 900_000
    assert kept[-1] == piece(5_000_000, b"end")


def test_some_lines_alone_are_a_feed_of_their_own_with_any_offset(feeds: Feeds) -> None:
    feed = feeds.watch(JOB, 1).feed
    part = feeds.watch(JOB, 1, T, 10)
    assert part.feed != feed
    assert [wanted[1:4] for wanted in feeds.wanted([JOB])[JOB] if wanted.feed == part.feed] == [(1, T, 10)]
    feeds.append(part.feed, [piece(5000, b"x")])
    assert pieces_of(feeds, part.feed) == [piece(5000, b"x")]


def test_a_writer_stops_when_nobody_watches_and_is_told_when_somebody_comes(feeds: Feeds) -> None:
    with Subscription(feeds.client, feeds.watch_channel) as watched:
        wanted = feeds.watch(JOB, 1)
        assert watched.next(5) == f"{JOB} {wanted.feed}"
        assert feeds.renew(wanted)
        assert watched.next(5) == f"{JOB} {wanted.feed}", "nobody writes it yet"
        assert feeds.begin(wanted.feed, "its writer")
        feeds.append(wanted.feed, [piece(0, b"abc")])
        feeds.client.delete(feeds.key("watch", JOB))  # as if it had run out
        assert not feeds.append(wanted.feed, [piece(3, b"def")])
        assert feeds.renew(wanted)
        assert watched.next(5) == f"{JOB} {wanted.feed}"
        assert feeds.renew(wanted)
        assert watched.next(0.05) is None
        feeds.client.hincrbyfloat(feeds.key("feed", wanted.feed, "state"), "told", -11)
        assert feeds.renew(wanted)
        assert watched.next(5) == f"{JOB} {wanted.feed}", "its writer may have died, and who holds the job is told"
    assert feeds.wanted([JOB])[JOB][0].stdout == 3
    assert feeds.append(wanted.feed, [piece(3, b"def")])
    assert text_of(feeds, wanted.feed) == b"abcdef"
    feeds.client.delete(feeds.key("feed", wanted.feed, "state"), feeds.key("feed", wanted.feed))
    assert not feeds.renew(wanted)
    assert feeds.read(wanted.feed) is None


def test_keys_expire(feeds: Feeds) -> None:
    feed = feeds.watch(JOB, 1).feed
    feeds.append(feed, [piece(0, b"x")])
    WholeOutputs(feeds.client, feeds.prefix).put(JOB, 1, WholeOutput("c", "complete"))
    AgentLeases(feeds.client, feeds.prefix).take("node", "a")
    lives = {
        name: feeds.client.ttl(feeds.key(name))
        for name in (f"watch:{JOB}", f"feed:{feed}", f"feed:{feed}:state", f"whole:{JOB}:1", "agent:node")
    }
    assert [round(seconds, -1) for seconds in lives.values()] == [30, 60, 60, 3600, 20]


def test_a_whole_output_is_kept_until_it_is_stored(feeds: Feeds) -> None:
    whole = WholeOutputs(feeds.client, feeds.prefix)
    output = WholeOutput(
        "c1", "truncated", "why", b"\x00\xff", 5, 6, "aa", "bb", True, T, T, {"cpu_seconds": 1.5, "peak_memory": 1e6}
    )
    assert whole.get(JOB, 1) is None
    assert whole.put(JOB, 1, output)
    assert whole.get(JOB, 1) == output
    whole.delete(JOB, 1)
    assert whole.get(JOB, 1) is None
    assert not feeds.client.exists(feeds.key("output", "whole"))


def test_one_process_follows_a_node(feeds: Feeds) -> None:
    agents = AgentLeases(feeds.client, feeds.prefix)
    assert agents.get("n") is None
    assert agents.take("n", "a", "0.1.0", "20.10.24")
    assert not agents.take("n", "b")
    assert agents.take("n", "a", "0.1.0", "20.10.24")
    lease = agents.get("n")
    assert lease
    assert (lease.holder, lease.version, lease.engine) == ("a", "0.1.0", "20.10.24")
    feeds.client.expire(feeds.key("agent", "n"), 3)
    assert agents.take("n", "a", "0.1.0", "20.10.24")
    assert feeds.client.ttl(feeds.key("agent", "n")) > 3, "renewed, though nothing is new"
    assert agents.take("n", "a", "0.1.0", "28.5.1")
    lease = agents.get("n")
    assert lease
    assert lease.engine == "28.5.1"
    assert agents.nodes() == 1
    assert not agents.release("n", "b")
    assert agents.release("n", "a")
    assert agents.take("n", "b")


# -- the budget --------------------------------------------------------------------


def test_all_output_together_keeps_within_its_share(own_redis: Callable[..., OwnRedis]) -> None:
    megabyte = 1024 * 1024
    with connect(own_redis(maxmemory="60mb").url) as client:
        feeds = Feeds(client, "p", share=0.2)
        before = int(client.info("memory")["used_memory"])

        def used() -> int:  # buffers of large commands are in it until the server has been idle for a moment
            return int(client.info("memory")["used_memory"]) - before

        made = [feeds.watch(f"job-{number}", 1).feed for number in range(30)]
        for offset in range(0, 2 * megabyte, 65536):
            for feed in made:
                assert feeds.append(feed, [piece(offset, b"x" * 65536)])
        eventually(lambda: used() < 0.2 * 60 * megabyte + 3 * megabyte, what=used)
        last = pieces_of(feeds, made[-1])[-1]
        assert isinstance(last, Piece)
        assert last.offset + len(last.data) == 2 * megabyte
        whole = WholeOutputs(client, "p", share=0.2)
        assert whole.put("job-0", 1, WholeOutput("c", "complete", logs=b"x" * 8 * megabyte))
        assert not whole.put("job-1", 1, WholeOutput("c", "complete", logs=b"x" * 8 * megabyte, stdout=8))
        found = whole.get("job-1", 1)
        assert found
        assert (found.status, found.reason, found.stdout) == ("unavailable", "Redis had no room for it", 8)
        eventually(lambda: used() < 0.2 * 60 * megabyte + 3 * megabyte, what=used)
        assert release_memory(client, "p")
        assert not release_memory(client, "p")
        eventually(lambda: used() < 2 * megabyte, what=used)


def test_a_full_redis_takes_output_without_an_error_and_keeps_none(own_redis: Callable[..., OwnRedis]) -> None:
    with connect(own_redis(maxmemory="100mb").url) as client:
        feeds = Feeds(client, "p")
        feed = feeds.watch(JOB, 1).feed
        assert feeds.append(feed, [piece(0, b"x" * 1000)])
        client.set("other", b"x" * 27 * 1024 * 1024)
        client.config_set("maxmemory", "24mb")
        assert feeds.append(feed, [piece(1000, b"y" * 1000)])
        assert pieces_of(feeds, feed) == []
        client.config_set("maxmemory", "100mb")
        assert feeds.append(feed, [piece(2000, b"z")])
        assert pieces_of(feeds, feed) == [piece(2000, b"z")]


def test_no_submission_is_refused_because_of_output(own_redis: Callable[..., OwnRedis]) -> None:
    server = own_redis(maxmemory="40mb")
    with connect(server.url) as connection, Client(server.url, queue="q", prefix="p") as client:
        feeds = Feeds(connection, "p", share=0.5)
        made = [feeds.watch(f"job-{number}", 1).feed for number in range(8)]
        for feed in made:
            feeds.append(feed, [piece(0, b"x" * 3_500_000)])
        eventually(lambda: int(connection.info("memory")["used_memory"]) < 30_000_000)
        used = int(connection.info("memory")["used_memory"])
        assert used > 15_000_000
        connection.config_set("maxmemory", used - 1_000_000)  # some of it may still be given back
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            connection.set("other", "x" * 100_000)
        assert client.submit(JobSpec(image="x")).state == "QUEUED"
        assert not any(connection.exists(feeds.key("feed", feed)) for feed in made)
        batch = client.map(JobSpec(image="x", command=["{item}"]), [1, 2, 3])
        assert batch.status.size == 3


def test_live_output_that_fills_its_budget_leaves_room_for_every_submission(own_redis: Callable[..., OwnRedis]) -> None:
    """Twenty feeds are written as fast as Redis takes them, and beside them jobs are submitted: none is refused."""
    server = own_redis(maxmemory="48mb")  # it evicts nothing
    with connect(server.url) as connection, Client(server.url, queue="q", prefix="p") as client:
        feeds = Feeds(connection, "p")
        made = [feeds.watch(f"job-{number}", 1).feed for number in range(20)]
        at, most = 0, 0
        for turn in range(25):
            for feed in made:
                assert feeds.append(feed, [piece(at, b"x" * 60_000)]), "somebody watches it"
            at += 60_000
            assert client.submit(JobSpec(image="x", labels={"turn": str(turn)})).state == "QUEUED"
            used = sum(int(size) for _, size in connection.zrange("p:output:feeds", 0, -1, withscores=True))
            most = max(most, used)
        memory = connection.info("memory")
        assert 0.15 * memory["maxmemory"] < most <= 0.2 * memory["maxmemory"], "the budget was filled, and kept"
        assert memory["used_memory"] < memory["maxmemory"]
        assert connection.info("stats")["evicted_keys"] == 0

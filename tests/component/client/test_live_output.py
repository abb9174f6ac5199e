"""Following a job's output: pieces in time, every byte once, and what is missing is counted; on both clients."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from jaas_submit import AttemptBegins, AttemptEnds, JobSpec, JobState, Logs, Missing, NotLive, Piece
from jaas_submit.client.job_handle import JobHandle
from jaas_submit.client.live_output import job_output
from jaas_submit.client.live_output.findings import Output
from jaas_submit.connection import connect
from jaas_submit.ledger import Ledger
from jaas_submit.output import FeedEnd, Gap
from tests.support.output_scene import WRITTEN_AT, OutputScene, meanwhile
from tests.support.redis_server import OwnRedis
from tests.support.stage import HOLDER, Stage, ended
from tests.support.twins import TWINS, client_of

T = WRITTEN_AT


@pytest.fixture
def scene(ledger: Ledger, stage: Stage) -> OutputScene:
    return OutputScene(ledger, stage)


@pytest.fixture(params=TWINS)
def handle(request: pytest.FixtureRequest, redis_url: str, prefix: str, scene: OutputScene) -> Iterator[JobHandle]:
    with client_of(request.param, redis_url, queue=prefix, prefix=prefix) as client:
        made = client.submit(JobSpec(image="x"))
        scene.job = made.id
        yield made


class Reader:
    """Reads in a thread, so that the test sees when something comes."""

    def __init__(self, found: Iterator[Output]) -> None:
        self._found: queue.Queue[Output | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(found,), name="reader")
        self._thread.start()

    def _read(self, found: Iterator[Output]) -> None:
        for one in found:
            self._found.put(one)
        self._found.put(None)

    def next(self, timeout: float = 20) -> Output | None:
        return self._found.get(timeout=timeout)

    def rest(self) -> list[Output]:
        found: list[Output] = []
        while (one := self.next()) is not None:
            found.append(one)
        self._thread.join(10)
        return found


def data_of(found: list[Output], stream: str = "stdout") -> bytes:
    return b"".join(one.data for one in found if isinstance(one, Piece) and one.stream == stream)


def test_pieces_come_while_the_container_runs(handle: JobHandle, scene: OutputScene) -> None:
    reader = Reader(handle.logs(follow=True))
    scene.feed()  # watched before the job is launched, so that nothing is missed
    scene.stage.launch(handle.id)
    scene.feeds.begin(scene.feed(), "node1")
    scene.write(b"one\n")
    assert reader.next() == Piece("stdout", 0, T, b"one\n")
    scene.write(b"\xff\x00", err=True)
    assert reader.next() == Piece("stderr", 0, T, b"\xff\x00")
    scene.write(b"two\n")
    scene.end_feed()
    scene.end("one\ntwo\n")
    assert reader.rest() == [Piece("stdout", 4, T, b"two\n"), AttemptEnds(1, "complete", "")]


def test_the_output_of_a_job_that_has_ended_is_read_from_the_ledger(handle: JobHandle, scene: OutputScene) -> None:
    scene.stage.launch(handle.id)
    scene.end("one\ntwo\n")
    assert list(handle.logs(follow=True)) == [Piece("stdout", 0, T, b"one\ntwo\n"), AttemptEnds(1, "complete", "")]
    assert scene.feeds.wanted([handle.id]) == {}


def test_what_a_feed_does_not_have_comes_from_the_ledger(
    handle: JobHandle, scene: OutputScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_output, "END_S", 0.1)
    reader = Reader(handle.logs(follow=True))
    scene.stage.launch(handle.id)
    scene.feeds.begin(scene.feed(), "node1")
    scene.write(b"one\ntw")
    assert reader.next() == Piece("stdout", 0, T, b"one\ntw")
    scene.end("one\ntwo\nthree\n")  # and the writer is gone
    assert reader.rest() == [Piece("stdout", 6, T, b"o\nthree\n"), AttemptEnds(1, "complete", "")]


def test_the_next_attempt_is_followed_too(handle: JobHandle, scene: OutputScene) -> None:
    reader = Reader(handle.logs(follow=True))
    scene.stage.launch(handle.id)
    scene.write(b"first")
    scene.end_feed()
    assert scene.ledger.ownership.back_off(handle.id, HOLDER, [ended(code=1)], Logs(), 0.0, "again")[0]
    scene.at["stdout"] = 0
    scene.feed(2)
    assert scene.ledger.ownership.claim(handle.id, HOLDER).action == "launch"
    assert scene.ledger.ownership.move(handle.id, HOLDER, JobState.PENDING, attempt=2)
    scene.write(b"second", 2)
    scene.end_feed(2)
    assert scene.ledger.ownership.finish(handle.id, HOLDER, [ended(code=1), ended(number=2)], Logs())
    found = reader.rest()
    assert found == [
        Piece("stdout", 0, T, b"first"),
        AttemptEnds(1, "complete", ""),
        AttemptBegins(2),
        Piece("stdout", 0, T, b"second"),
        AttemptEnds(2, "complete", ""),
    ]


def test_who_falls_behind_is_told_how_much_is_missing(handle: JobHandle, scene: OutputScene) -> None:
    scene.stage.launch(handle.id)
    found = handle.logs(follow=True)
    with meanwhile(lambda: scene.write(b"first")):
        assert next(found) == Piece("stdout", 0, T, b"first")
    scene.write(b"x" * 5_000_000)
    scene.feeds.append(scene.feed(), [Gap("stdout", scene.at["stdout"], 7, "rotated away")])
    scene.at["stdout"] += 7
    scene.write(b"last")
    scene.end_feed()
    scene.end("")
    missing, *rest = found
    assert isinstance(missing, Missing)
    assert missing.behind
    assert 800_000 < missing.missing < 900_000
    assert 5 + missing.missing + len(data_of(rest)) + 7 == scene.at["stdout"]
    assert rest[-3:] == [
        Missing("stdout", 7, "rotated away"),
        Piece("stdout", scene.at["stdout"] - 4, T, b"last"),
        AttemptEnds(1, "complete", ""),
    ]


def test_gaps_without_anything_between_are_told_as_one(handle: JobHandle, scene: OutputScene) -> None:
    scene.stage.launch(handle.id)
    found = handle.logs(follow=True)
    with meanwhile(lambda: scene.write(b"first")):
        assert next(found) == Piece("stdout", 0, T, b"first")
    feed = scene.feed()
    scene.feeds.append(feed, [Gap("stdout", 5, 10, "rotated away"), Gap("stdout", 15, 20, "not read")])
    scene.feeds.append(feed, [Gap("stdout", 35, 1, "not read"), Piece("stderr", 0, T, b"said")])
    scene.feeds.append(feed, [Piece("stdout", 36, T, b"last"), Gap("stdout", 40, 2, "not read")])
    scene.feeds.finish(feed, FeedEnd("partial", "why", 45, 4))
    scene.end("")
    assert list(found) == [
        Piece("stderr", 0, T, b"said"),
        Missing("stdout", 31, "rotated away; not read"),
        Piece("stdout", 36, T, b"last"),
        Missing("stdout", 5, "not read; they were removed before they were read", behind=True),
        AttemptEnds(1, "partial", "why"),
    ]


def test_of_the_last_lines_it_is_told_what_is_missing(handle: JobHandle, scene: OutputScene) -> None:
    scene.stage.launch(handle.id)
    found = handle.logs(follow=True, tail=10**6)

    def write() -> None:
        scene.feeds.append(scene.feed(), [Gap("stdout", 1000, 7, "too much"), Piece("stdout", 1007, T, b"first")])

    with meanwhile(write):
        assert next(found) == Missing("stdout", 7, "too much")
        assert next(found) == Piece("stdout", 1007, T, b"first")
    feed = scene.feed()
    # Nothing of stderr has been read when its first bytes are removed.
    scene.feeds.append(feed, [Piece("stderr", 300, T, b"y" * 100), Piece("stdout", 1012, T, b"x" * 5_000_000)])
    scene.feeds.append(feed, [Piece("stderr", 400, T, b"last")])
    scene.feeds.finish(feed, FeedEnd("complete", "", 5_001_012, 404))
    scene.end("")
    rest = list(found)
    behind = {one.stream: one for one in rest if isinstance(one, Missing)}
    assert all(one.behind for one in behind.values())
    assert behind["stderr"].missing == 100
    assert behind["stdout"].missing + len(data_of(rest)) == 5_000_000


def test_a_feed_that_expired_is_asked_for_again_and_nothing_comes_twice(
    handle: JobHandle, scene: OutputScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_output, "RENEW_S", 0.1)
    reader = Reader(handle.logs(follow=True))
    scene.stage.launch(handle.id)
    scene.write(b"one\n")
    assert reader.next() == Piece("stdout", 0, T, b"one\n")
    feed = scene.feed()
    keys = (scene.feeds.key("watch", handle.id), scene.feeds.key("feed", feed), scene.feeds.key("feed", feed, "state"))
    scene.ledger.client.delete(*keys)
    again = scene.feed()
    assert again != feed
    scene.at["stdout"] = 0
    scene.write(b"one\ntwo\n")
    scene.end_feed()
    scene.end("one\ntwo\n")
    assert reader.rest() == [Piece("stdout", 4, T, b"two\n"), AttemptEnds(1, "complete", "")]


@pytest.mark.parametrize("refused", [False, True])
def test_who_cannot_be_live_is_told_once_and_gets_it_at_the_end(
    handle: JobHandle, scene: OutputScene, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    monkeypatch.setattr(job_output, "NOT_LIVE_S", 0.0)
    reader = Reader(handle.logs(follow=True))
    if refused:
        scene.feeds.finish(scene.feed(), FeedEnd("unavailable", "its log driver cannot be read"))
        why = "its log driver cannot be read"
    else:
        why = "nothing reads it on node1 while the job runs"
    scene.stage.launch(handle.id)
    assert reader.next() == NotLive(why)
    scene.end("one\n")
    assert reader.rest() == [Piece("stdout", 0, T, b"one\n"), AttemptEnds(1, "complete", "")]


def test_text_is_decoded_across_pieces_and_marks_what_is_missing(handle: JobHandle, scene: OutputScene) -> None:
    found = handle.logs(follow=True, text=True)
    scene.stage.launch(handle.id)

    def write() -> None:
        scene.write("ä".encode()[:1])
        scene.write("ä".encode()[1:] + b"\xff")
        scene.feeds.append(scene.feed(), [Gap("stdout", scene.at["stdout"], 1234, "rotated away")])
        scene.at["stdout"] += 1234
        scene.write(b"end\n")
        scene.end_feed()
        scene.end("")

    with meanwhile(write):
        text = "".join(found)
    assert text == "ä\ufffd\n[... 1,234 bytes of stdout are missing: rotated away ...]\nend\n"


def test_following_goes_on_over_an_outage_of_redis_without_repeat(
    own_redis: Callable[..., OwnRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_redis(appendfsync="always")
    with connect(server.url) as connection, client_of("sync", server.url, queue="q", prefix="p") as client:
        ledger = Ledger(connection, "p")
        scene = OutputScene(ledger, Stage(ledger, server.url, monkeypatch))
        handle = client.submit(JobSpec(image="x"))
        scene.job = handle.id
        reader = Reader(handle.logs(follow=True))
        scene.stage.launch(handle.id)
        scene.write(b"one\n")
        assert reader.next() == Piece("stdout", 0, T, b"one\n")
        server.kill()
        server.start()
        scene.write(b"two\n")
        assert reader.next() == Piece("stdout", 4, T, b"two\n")
        scene.end_feed()
        scene.end("one\ntwo\n")
        assert reader.rest() == [AttemptEnds(1, "complete", "")]


def test_since_and_tail_are_asked_for_and_hold_for_what_is_stored(handle: JobHandle, scene: OutputScene) -> None:
    reader = Reader(handle.logs(follow=True, tail=2))
    scene.stage.launch(handle.id)
    scene.feed()
    assert scene.feeds.wanted([handle.id])[handle.id][0].tail == 2
    scene.at["stdout"] = 1000
    scene.write(b"x\n")
    scene.end_feed()
    scene.end("stored\n")
    assert reader.rest() == [Piece("stdout", 1000, T, b"x\n"), AttemptEnds(1, "complete", "")]
    late = datetime(2026, 11, 30, 12, 0, 0, 1, tzinfo=UTC)
    assert data_of(list(handle.logs(follow=True, since=late - timedelta(microseconds=1)))) == b"stored\n"
    assert data_of(list(handle.logs(follow=True, since=late))) == b""
    assert data_of(list(handle.logs(follow=True, tail=0))) == b""

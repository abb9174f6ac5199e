"""A container's output: what is kept of it, where it is cut, and what the mark says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_submit.model.logs import STREAMS, LogGap, LogLine, Logs, LogStatus, Stream
from jaas_worker.swarm.container_logs import collect, marked, read_logs
from jaas_worker.swarm.engine import Frame
from jaas_worker.swarm.log_driver import LogDriver
from tests.support.fake_swarm import FakeSwarm

STAMP = "2026-11-23T12:00:00.000000001Z"


def out(data: bytes | str) -> Frame:
    return Frame("stdout", STAMP.encode() + b" " + (data.encode() if isinstance(data, str) else data))


def err(data: bytes | str) -> Frame:
    return Frame("stderr", out(data).data)


def written(output: list[tuple[str, bytes]], stream: str) -> bytes:
    return b"".join(data for name, data in output if name == stream)


def test_no_output() -> None:
    assert collect([], 100) == Logs((), LogStatus.COMPLETE, "")


def test_streams_lines_times_and_order() -> None:
    logs = collect([out("one\n"), err("two\n"), out("three\n"), out("four")], 100)
    assert logs.lines == (
        LogLine(STAMP, "stdout", b"one\n"),
        LogLine(STAMP, "stderr", b"two\n"),
        LogLine(STAMP, "stdout", b"three\n"),
        LogLine(STAMP, "stdout", b"four"),
    )
    assert (logs.stdout, logs.stderr, logs.text) == ("one\nthree\nfour", "two\n", "one\ntwo\nthree\nfour")
    assert str(logs) == logs.text
    assert (logs.status, logs.reason) == (LogStatus.COMPLETE, "")


def test_each_stream_has_a_cap_of_its_own() -> None:
    logs = collect([*[out("o" * 9 + "\n")] * 10, *[err("e" * 9 + "\n")] * 2, *[out("p\n")]], 40)
    assert logs.stderr == ("e" * 9 + "\n") * 2
    assert logs.gaps == (LogGap("stdout", 2, 102 - 40),)
    assert (logs.status, logs.reason) == (LogStatus.TRUNCATED, "62 bytes of stdout cut")


def test_both_streams_cut() -> None:
    logs = collect([frame for _ in range(10) for frame in (out("o" * 9 + "\n"), err("e" * 9 + "\n"))], 20)
    assert logs.gaps == (LogGap("stdout", 1, 80), LogGap("stderr", 2, 80))
    assert logs.reason == "80 bytes of stdout cut, 80 bytes of stderr cut"
    assert [line.data[:1] for line in logs.lines] == [b"o", b"e", b"o", b"e"]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"\xe2\x82", b"\xac\n"],  # the engine's cut falls into a character
        [b"\xff\xfe\n"],
        [b"a\xe2\x82"],  # the output ends within one
        [b"\x00\x01\x1b[31m\n"],
        [bytes(range(256))],
        [b""],
        [b"a b  c\n"],
        [b" \n"],
        [b"progress 1\rprogress 2\r\n"],
    ],
)
def test_bytes_are_kept_as_they_are(pieces: list[bytes]) -> None:
    logs = collect([out(piece) for piece in pieces], 1000)
    assert logs.stdout_bytes == b"".join(pieces)
    assert logs.stdout == b"".join(pieces).decode(errors="replace")


def test_a_character_in_pieces_belongs_to_its_stream() -> None:
    logs = collect([out(b"\xe2\x82"), err(b"\xc3"), out(b"\xac"), err(b"\xa4")], 1000)
    assert (logs.stdout, logs.stderr) == ("€", "ä")


# -- what the log driver may have done -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("json-file", "plain\n", LogStatus.COMPLETE),
        ("json-file", "\ufffd\n", LogStatus.PARTIAL),
        ("", "\ufffd\n", LogStatus.PARTIAL),  # the engine's own choice, which may be json-file
        ("local", "\ufffd\n", LogStatus.COMPLETE),
        ("journald", "\ufffd\n", LogStatus.COMPLETE),
    ],
)
def test_replaced_bytes_are_suspected_where_the_driver_replaces_them(name: str, data: str, status: LogStatus) -> None:
    logs = collect([out("first\n"), out(data)], 1000, LogDriver(name))
    assert logs.status is status
    assert ("may have replaced bytes" in logs.reason) == (status is LogStatus.PARTIAL)
    assert logs.has_end("stdout")


def test_replaced_bytes_are_suspected_in_what_is_cut_too() -> None:
    logs = collect([out("a" * 9), out("\ufffd"), out("b" * 9)], 4, LogDriver("json-file"))
    assert (logs.status, logs.stdout_bytes) == (LogStatus.PARTIAL, b"aabb")
    assert logs.reason.startswith("17 bytes of stdout cut, the driver may have replaced bytes")


def test_a_beginning_that_may_have_rotated_away_is_a_gap() -> None:
    logs = collect([out("x" * 99 + "\n")] * 100, 10**6, LogDriver("local", {"max-size": "5k", "max-file": "2"}))
    assert (logs.status, logs.gaps) == (
        LogStatus.PARTIAL,
        (LogGap("stdout", 0, 0, exact=False), LogGap("stderr", 0, 0, exact=False)),
    )
    assert logs.reason == "log driver local may have removed the beginning (max-size, max-file)"
    assert logs.has_end("stdout")


PIECE = 16 * 1024


@pytest.mark.parametrize("driver", ["local", "syslog", "json-file"])
def test_line_ends_that_a_driver_leaves_out_are_put_back(driver: str) -> None:
    frames = [out(b"x" * PIECE), out(b"y"), out(b"next\n"), err(b"x" * PIECE), err(b"")]
    logs = collect(frames, 10**6, LogDriver(driver))
    assert logs.stdout_bytes == b"x" * PIECE + b"y\nnext\n"
    if driver == "json-file":
        assert logs.status is LogStatus.COMPLETE
    else:
        assert (logs.status, logs.reason) == (LogStatus.PARTIAL, "a line end may be missing at the end of stderr")
    assert logs.has_end("stderr")


# -- errors in the middle --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [EngineUnavailable("the time is over"), EngineRefused("gone")])
def test_what_came_before_an_error_is_kept(error: Exception) -> None:
    def broken() -> Iterator[Frame]:
        yield out("one\n")
        yield out(b"\xe2\x82")
        raise error

    logs = collect(broken(), 100)
    assert logs.stdout == "one\n\ufffd"
    assert (logs.status, logs.reason) == (LogStatus.PARTIAL, f"the end is missing: {error}")
    assert logs.gaps == (LogGap("stdout", 2, 0, exact=False), LogGap("stderr", 2, 0, exact=False))
    assert not logs.has_end("stdout")
    assert not logs.has_end("stderr")


def test_where_nothing_could_be_read_the_output_is_unavailable() -> None:
    def broken() -> Iterator[Frame]:
        raise EngineUnavailable("it does not support reading")
        yield

    logs = collect(broken(), 100)
    assert logs == Logs((), LogStatus.UNAVAILABLE, "it does not support reading")
    assert not logs.has_end("stdout")


def test_an_error_counts_for_more_than_a_cut() -> None:
    def broken() -> Iterator[Frame]:
        yield from [out("x" * 9 + "\n")] * 10
        raise EngineUnavailable("the time is over")

    logs = collect(broken(), 20)
    assert logs.gaps[0] == LogGap("stdout", 1, 80)
    assert logs.status is LogStatus.PARTIAL
    assert logs.reason == "80 bytes of stdout cut, the end is missing: the time is over"


def test_a_fault_of_our_own_is_not_hidden() -> None:
    def broken() -> Iterator[Frame]:
        yield out("one\n")
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        collect(broken(), 100)


def test_without_a_container_the_engine_is_not_asked() -> None:
    engine = FakeSwarm()
    assert read_logs(engine, "service", None, 100, 1) == Logs()
    assert engine.calls["logs"] == 0


def test_an_engine_that_is_away_gives_no_logs_and_no_error() -> None:
    engine = FakeSwarm()
    engine.away = True
    logs = read_logs(engine, "service", "container", 100, 1)
    assert (logs.text, logs.status) == ("", LogStatus.UNAVAILABLE)
    assert "does not answer" in logs.reason


# -- an engine that is slow ------------------------------------------------------------------------------------------


class SlowEngine(FakeSwarm):
    """Hands out so many frames in the time allowed, whether of all or of the last ones."""

    def __init__(self, frames: list[Frame], in_time: int) -> None:
        super().__init__()
        self.frames, self.in_time = frames, in_time
        self.asked: list[int | Stream] = []

    def logs(
        self, service_id: str, container_id: str | None, timeout: float, tail: int = 0, only: Stream | None = None
    ) -> Iterator[Frame]:
        self.asked.append(only or tail)
        wanted = [frame for frame in self.frames[-tail:] if only in {None, frame.stream}]
        yield from wanted[: self.in_time]
        if len(wanted) > self.in_time:
            raise EngineUnavailable("reading logs: the time allowed is over")


def numbered(count: int) -> list[Frame]:
    return [Frame("stdout", f"2026-11-23T12:00:00.{n:09}Z {n:09}\n".encode()) for n in range(count)]


NO_TIME = "there was no time to read what is in between"


# Frames of ten bytes; how many are handed out in time; the cap; how many are kept of the beginning and of the end; what
# is missing between them; the status.
SLOW = [
    (5000, 5000, 10**6, 5000, 0, "", LogStatus.COMPLETE),
    (5000, 4001, 10**6, 4001, 999, "", LogStatus.COMPLETE),  # the few that were missing
    (5000, 4001, 1000, 50, 50, "49,000 bytes of stdout", LogStatus.TRUNCATED),
    (50_000, 2000, 1000, 50, 50, "at least 29,000 bytes of stdout", LogStatus.TRUNCATED),
    (5000, 4000, 10**6, 4000, 1000, "", LogStatus.COMPLETE),  # the last 1000 lines do not follow on, the last 4000 do
    (5000, 1000, 10**6, 1000, 1000, "an unknown number of bytes of stdout", LogStatus.PARTIAL),
]


@pytest.mark.parametrize(("count", "in_time", "cap", "head", "tail", "missing", "status"), SLOW)
def test_the_end_of_what_takes_too_long_is_read_by_itself(
    count: int, in_time: int, cap: int, head: int, tail: int, missing: str, status: LogStatus
) -> None:
    frames = numbered(count)
    logs = read_logs(SlowEngine(frames, in_time), "s", "c", cap, 10)
    data = [frame.data.partition(b" ")[2] for frame in frames]
    assert logs.stdout_bytes == b"".join([*data[:head], *data[count - tail :]])
    assert "".join(map(str, logs.gaps)) == missing
    assert [gap.before for gap in logs.gaps] == ([head] if missing else [])
    assert logs.status is status
    assert (NO_TIME in logs.reason) == missing.startswith(("at least", "an unknown"))
    assert logs.has_end("stdout")


class Clock:
    """Time that goes on when a frame is handed out."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("time_for", "kept", "status", "asked"),
    [
        # At 500 the last 1,000 lines are read, until 1,500; for 4,000 there is no time until 3,000; until 6,500 all.
        (10_000, [*range(3999), *range(9000, 10_000)], LogStatus.PARTIAL, [0, 1000, 4000, "stderr", "stdout"]),
        # What is read passes the beginning of the end that was read, so that this is not needed any more.
        (20_000, [*range(10_000)], LogStatus.COMPLETE, [0, 1000, 4000, 1000, 4000]),
    ],
)
def test_the_end_is_read_before_the_time_is_over(
    time_for: int, kept: list[int], status: LogStatus, asked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine is busy for long with what nobody waits for any more, so the end is not left for the last moment."""
    clock = Clock()

    class Engine(FakeSwarm):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[object] = []

        def logs(
            self, service_id: str, container_id: str | None, timeout: float, tail: int = 0, only: Stream | None = None
        ) -> Iterator[Frame]:
            self.asked.append(only or tail)
            deadline = clock.now + timeout
            for frame in numbered(10_000)[-tail:]:
                clock.now += 1
                if clock.now > deadline:
                    raise EngineUnavailable("reading logs: the time limit has passed")
                if only in {None, frame.stream}:
                    yield frame

    engine = Engine()
    monkeypatch.setattr("jaas_worker.swarm.container_logs.time", clock)
    logs = read_logs(engine, "s", "c", 10**6, time_for)
    assert [int(line) for line in logs.stdout.splitlines()] == kept
    assert (logs.status, engine.asked) == (status, asked)


def shorter_at_the_end() -> list[Frame]:
    """Return 3,000 lines of 1,000 bytes, then 100,000 of 4 bytes, each at a time of its own."""
    data = [*["x" * 999] * 3000, *[f"{n:03}" for n in range(1000)] * 100]
    return [Frame("stdout", f"2026-11-23T12:00:00.{n:09}Z {text}\n".encode()) for n, text in enumerate(data)]


def test_lines_that_are_shorter_at_the_end_fill_their_half_of_the_cap_as_well() -> None:
    engine = SlowEngine(shorter_at_the_end(), 4000)
    logs = read_logs(engine, "s", "c", 20_000, 10)
    assert engine.asked == [0, 1000, 2813, "stderr"]
    assert logs.status is LogStatus.TRUNCATED
    assert len(logs.stdout_bytes) == 20_000
    assert logs.stdout.endswith("997\n998\n999\n")


def test_a_short_end_is_better_than_none() -> None:
    engine = SlowEngine(shorter_at_the_end(), 2000)  # the next larger piece takes too long
    logs = read_logs(engine, "s", "c", 20_000, 10)
    assert engine.asked == [0, 1000, 2813, "stderr", "stdout"]
    assert logs.status is LogStatus.PARTIAL
    assert logs.stdout_bytes == b"".join([b"x" * 999 + b"\n"] * 10 + [f"{n:03}\n".encode() for n in range(1000)])


def with_an_error(few: int) -> list[Frame]:
    """Return 50,000 lines of stdout, and a few of stderr far before the end."""
    frames = numbered(50_000)
    frames[30_000:30_000] = [Frame("stderr", f"2026-11-23T12:00:01.{n:09}Z error\n".encode()) for n in range(few)]
    return frames


def test_the_end_of_the_other_stream_is_read_by_itself_where_it_is_far_before_the_end() -> None:
    engine = SlowEngine(with_an_error(3), 2000)
    logs = read_logs(engine, "s", "c", 1000, 10)
    assert engine.asked == [0, 1000, "stderr"]
    assert logs.stderr == "error\n" * 3
    assert logs.stdout_bytes[-10:] == b"000049999\n"
    assert (logs.status, logs.gaps) == (LogStatus.TRUNCATED, (LogGap("stdout", 50, 29_000, exact=False),))


def test_where_the_other_stream_takes_too_long_as_well_it_is_not_called_empty() -> None:
    engine = SlowEngine(with_an_error(2001), 2000)
    logs = read_logs(engine, "s", "c", 1000, 10)
    assert logs.stderr == ""
    assert logs.status is LogStatus.PARTIAL
    assert [str(gap) for gap in logs.gaps if gap.stream == "stderr"] == ["an unknown number of bytes of stderr"]


def test_an_end_that_takes_too_long_as_well_is_missing() -> None:
    engine = SlowEngine(numbered(50_000), 500)
    logs = read_logs(engine, "s", "c", 100_000, 10)
    assert engine.asked == [0, 1000]
    assert (logs.status, logs.reason) == (
        LogStatus.PARTIAL,
        "the end is missing: reading logs: the time allowed is over",
    )
    assert logs.stdout.startswith("000000000\n")
    assert not logs.has_end("stdout")


# -- whatever a container prints -------------------------------------------------------------------------------------

outputs = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=12)), max_size=30)


def frames(output: list[tuple[str, bytes]]) -> list[Frame]:
    return [out(data) if stream == "stdout" else err(data) for stream, data in output]


@given(outputs, st.integers(0, 60))
def test_the_first_and_the_last_bytes_are_kept_and_the_others_counted(
    output: list[tuple[str, bytes]], cap: int
) -> None:
    logs = collect(frames(output), cap, LogDriver("local"))
    for stream in STREAMS:
        data, parts = written(output, stream), logs.parts(stream)
        if len(data) <= cap:
            assert parts == ([data] if data else [])
        else:
            head, tail = data[: cap // 2], data[len(data) - (cap - cap // 2) :]
            (gap,) = (part for part in parts if isinstance(part, LogGap))
            assert [part for part in parts if isinstance(part, bytes)] == [part for part in (head, tail) if part]
            assert gap[2:] == (len(data) - cap, True)
            assert parts.index(gap) == bool(head)
    whole = all(len(written(output, stream)) <= cap for stream in STREAMS)
    assert logs.status is (LogStatus.COMPLETE if whole else LogStatus.TRUNCATED)
    assert bool(logs.reason) == (not whole)


@given(outputs)
def test_the_order_of_both_streams_together_is_kept(output: list[tuple[str, bytes]]) -> None:
    logs = collect(frames(output), 10_000)
    assert [(line.stream, line.data) for line in logs.lines] == [(stream, data) for stream, data in output if data]


def test_a_notice_of_our_own_is_not_in_the_output() -> None:
    logs = collect([err("no end")], 100)
    assert marked(marked(logs, "stopped"), "again") == replace(logs, notices=("stopped", "again"))

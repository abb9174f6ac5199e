"""A container's output: what is kept of it, where it is cut, and what the mark says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_submit.model.logs import LogLine, Logs, LogStatus
from jaas_worker.swarm.container_logs import collect, marked, read_logs
from jaas_worker.swarm.engine import Frame
from tests.support.fake_swarm import FakeSwarm

STAMP = "2026-11-23T12:00:00.000000001Z"
MARK = re.compile(r"\n?\[\.\.\. ([\d,]+) bytes of (stdout|stderr) cut by jaas \.\.\.\]\n")


def out(data: bytes | str) -> Frame:
    return Frame("stdout", STAMP.encode() + b" " + (data.encode() if isinstance(data, str) else data))


def err(data: bytes | str) -> Frame:
    return Frame("stderr", out(data).data)


def marks(text: str) -> list[int]:
    """Return how many bytes each mark in the text says to be missing."""
    return [int(match[1].replace(",", "")) for match in MARK.finditer(text)]


def test_no_output() -> None:
    assert collect([], 100) == Logs((), LogStatus.COMPLETE, "")


def test_streams_lines_times_and_order() -> None:
    logs = collect([out("one\n"), err("two\n"), out("three\n"), out("four")], 100)
    assert logs.lines == (
        LogLine(STAMP, "stdout", "one\n"),
        LogLine(STAMP, "stderr", "two\n"),
        LogLine(STAMP, "stdout", "three\n"),
        LogLine(STAMP, "stdout", "four"),
    )
    assert (logs.stdout, logs.stderr, logs.text) == ("one\nthree\nfour", "two\n", "one\ntwo\nthree\nfour")
    assert str(logs) == logs.text
    assert (logs.status, logs.reason) == (LogStatus.COMPLETE, "")


# The frames' texts; the cap; what stands in the end, with the mark as <cut bytes>.
CUTS: list[tuple[list[str], int, str]] = [
    (["aaaa\n", "bbbb\n"], 10, "aaaa\nbbbb\n"),  # exactly the cap
    (["aaaa\n", "bbbb\n", "c\n"], 10, "aaaa\n<5>c\n"),
    (["a\n", "b\n", "c\n", "d\n", "e\n"], 6, "a\n<4>d\ne\n"),
    (["a\n", "bbbbbbb\n"], 10, "a\nbbbbbbb\n"),  # the tail may have what the head leaves over
    (["bbbbbbb\n", "a\n"], 10, "bbbbbbb\na\n"),
    (["0123456789"], 10, "0123456789"),
    (["0123456789A"], 10, "01234\n<1>6789A"),  # one piece larger than the cap
    (["a\n", "0123456789"], 10, "a\n012\n<2>56789"),
    (["a\n", "b\n", "0123456789"], 4, "a\n<10>89"),
    (["ab", "cd"], 3, "<2>cd"),  # a piece that is not larger than the cap is kept whole or not at all
    (["ab"], 0, "<2>"),
]


@pytest.mark.parametrize(("texts", "cap", "kept"), CUTS)
def test_head_and_tail_are_kept_and_the_cut_is_marked(texts: list[str], cap: int, kept: str) -> None:
    logs = collect([out(text) for text in texts], cap)
    shown = MARK.sub(lambda mark: ("\n" if mark[0].startswith("\n") else "") + f"<{mark[1]}>", logs.stdout)
    assert shown == kept
    if "<" in kept:
        cut = marks(logs.stdout)[0]
        assert (logs.status, logs.reason) == (LogStatus.TRUNCATED, f"{cut:,} bytes of stdout cut")
    else:
        assert (logs.status, logs.reason) == (LogStatus.COMPLETE, "")


def test_each_stream_has_a_cap_of_its_own() -> None:
    logs = collect([*[out("o" * 9 + "\n")] * 10, *[err("e" * 9 + "\n")] * 2, *[out("p\n")]], 40)
    assert logs.stderr == ("e" * 9 + "\n") * 2
    assert marks(logs.stdout) == [102 - 2 * 10 - 10 - 2]
    assert logs.reason == "70 bytes of stdout cut"


def test_both_streams_cut() -> None:
    logs = collect([frame for _ in range(10) for frame in (out("o" * 9 + "\n"), err("e" * 9 + "\n"))], 20)
    assert marks(logs.stdout) == marks(logs.stderr) == [80]
    assert logs.reason == "80 bytes of stdout cut, 80 bytes of stderr cut"
    # A mark stands where something is missing: behind what came before it, in front of what comes after it.
    assert [line.text[0] for line in logs.lines] == ["o", "[", "e", "[", "o", "e"]


def test_a_large_number_in_a_mark_is_readable() -> None:
    logs = collect([out("x" * 99 + "\n")] * 1000, 10_000)
    assert "[... 90,000 bytes of stdout cut by jaas ...]\n" in logs.stdout
    assert logs.stdout.startswith("x" * 99 + "\n")
    assert logs.stdout.endswith("x" * 99 + "\n")


# -- characters ------------------------------------------------------------------------------------------------------

CHARACTERS: list[tuple[list[bytes], str]] = [
    ([b"\xe2\x82", b"\xac\n"], "€\n"),  # the engine's cut falls into a character
    ([b"\xe2", b"\x82", b"\xac"], "€"),
    ([b"\xff\xfe\n"], "\ufffd\ufffd\n"),
    ([b"a\xe2\x82"], "a\ufffd"),  # the output ends within one
    ([b"a\xe2\x82\n"], "a\ufffd\n"),
    ([b"\x00\x01\x1b[31m\n"], "\x00\x01\x1b[31m\n"),
    (["😀".encode()], "😀"),
    ([b""], ""),
    ([b"a b  c\n"], "a b  c\n"),
    ([b" \n"], " \n"),
    ([b"progress 1\rprogress 2\r\n"], "progress 1\rprogress 2\r\n"),
]


@pytest.mark.parametrize(("pieces", "text"), CHARACTERS)
def test_bytes_become_text(pieces: list[bytes], text: str) -> None:
    assert collect([out(piece) for piece in pieces], 1000).stdout == text


def test_a_character_in_pieces_belongs_to_its_stream() -> None:
    logs = collect([out(b"\xe2\x82"), err(b"\xc3"), out(b"\xac"), err(b"\xa4")], 1000)
    assert (logs.stdout, logs.stderr) == ("€", "ä")


@pytest.mark.parametrize("cap", range(12))
def test_a_cut_falls_between_characters(cap: int) -> None:
    logs = collect([out("€€€€")], cap)
    kept = MARK.sub("", logs.stdout)
    assert set(kept) <= {"€"}
    assert len(kept.encode()) <= cap
    assert marks(logs.stdout) == ([12 - len(kept.encode())] if kept != "€€€€" else [])


# -- errors in the middle --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [EngineUnavailable("the time is over"), EngineRefused("gone")])
def test_what_came_before_an_error_is_kept(error: Exception) -> None:
    def broken() -> Iterator[Frame]:
        yield out("one\n")
        yield out(b"\xe2\x82")
        raise error

    logs = collect(broken(), 100)
    assert logs.stdout == "one\n\ufffd"
    assert (logs.status, logs.reason) == (LogStatus.UNAVAILABLE, str(error))


def test_an_error_counts_for_more_than_a_cut() -> None:
    def broken() -> Iterator[Frame]:
        yield from [out("x" * 9 + "\n")] * 10
        raise EngineUnavailable("the time is over")

    logs = collect(broken(), 20)
    assert marks(logs.stdout) == [80]
    assert (logs.status, logs.reason) == (LogStatus.UNAVAILABLE, "the time is over")


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


# -- whatever a container prints -------------------------------------------------------------------------------------

streams = st.sampled_from(["stdout", "stderr"])
texts = st.text(st.characters(codec="utf-8"), max_size=12)
outputs = st.lists(st.tuples(streams, texts), max_size=30)


def frames(output: list[tuple[str, str]]) -> list[Frame]:
    return [out(text) if stream == "stdout" else err(text) for stream, text in output]


class SlowEngine(FakeSwarm):
    """Hands out so many frames in the time allowed, whether of all or of the last ones."""

    def __init__(self, frames: list[Frame], in_time: int) -> None:
        super().__init__()
        self.frames, self.in_time = frames, in_time
        self.asked: list[int] = []

    def logs(self, service_id: str, container_id: str | None, timeout: float, tail: int = 0) -> Iterator[Frame]:
        self.asked.append(tail)
        wanted = self.frames[-tail:]
        yield from wanted[: self.in_time]
        if len(wanted) > self.in_time:
            raise EngineUnavailable("reading logs: the time allowed is over")


def numbered(count: int) -> list[Frame]:
    return [Frame("stdout", f"2026-11-23T12:00:00.{n:09}Z {n:09}\n".encode()) for n in range(count)]


NO_TIME = "there was no time to read what is in between"


# Frames of ten bytes; how many are handed out in time; the cap; how many are kept of the beginning and of the end; what
# the mark between them says; the status.
SLOW = [
    (5000, 5000, 10**6, 5000, 0, "", LogStatus.COMPLETE),
    (5000, 4001, 10**6, 4001, 999, "", LogStatus.COMPLETE),  # the few that were missing
    (5000, 4001, 1000, 50, 50, "49,000 bytes of stdout", LogStatus.TRUNCATED),
    (50_000, 2000, 1000, 50, 50, "at least 29,000 bytes of stdout", LogStatus.TRUNCATED),
    (5000, 4000, 10**6, 4000, 1000, "an unknown number of bytes of stdout", LogStatus.TRUNCATED),
]


@pytest.mark.parametrize(("count", "in_time", "cap", "head", "tail", "mark", "status"), SLOW)
def test_the_end_of_what_takes_too_long_is_read_by_itself(
    count: int, in_time: int, cap: int, head: int, tail: int, mark: str, status: LogStatus
) -> None:
    frames = numbered(count)
    logs = read_logs(SlowEngine(frames, in_time), "s", "c", cap, 10)
    texts = [frame.data.partition(b" ")[2].decode() for frame in frames]
    cut = f"[... {mark} cut by jaas ...]\n" if mark else ""
    assert logs.stdout == "".join(texts[:head]) + cut + "".join(texts[count - tail :])
    assert logs.status is status
    assert (NO_TIME in logs.reason) == mark.startswith(("at least", "an unknown"))


def test_an_end_that_takes_too_long_as_well_is_asked_for_once_more_and_is_none() -> None:
    engine = SlowEngine(numbered(50_000), 500)
    logs = read_logs(engine, "s", "c", 100_000, 10)
    assert engine.asked == [0, 5000, 1000]
    assert (logs.status, logs.reason) == (LogStatus.UNAVAILABLE, "reading logs: the time allowed is over")
    assert logs.stdout.startswith("000000000\n")


@given(outputs, st.integers(0, 60))
def test_never_more_than_the_cap_and_everything_below_it(output: list[tuple[str, str]], cap: int) -> None:
    logs = collect(frames(output), cap)
    for stream in ("stdout", "stderr"):
        printed = "".join(text for name, text in output if name == stream)
        kept = [line.text for line in logs.lines if line.stream == stream and line.time]
        said = [line.text for line in logs.lines if line.stream == stream and not line.time]
        size = len(printed.encode())
        left = len("".join(kept).encode())
        assert left <= cap
        if size <= cap:
            assert "".join(kept) == printed
            assert not said
        else:
            assert marks("".join(said)) == [size - left]
            assert left > cap - 12 * 4 - 4  # it gives away less than one piece and one character
    whole = all(len("".join(t for n, t in output if n == s).encode()) <= cap for s in ("stdout", "stderr"))
    assert logs.status is (LogStatus.COMPLETE if whole else LogStatus.TRUNCATED)
    assert bool(logs.reason) == (not whole)


@given(outputs, st.integers(0, 60))
def test_what_is_kept_is_a_beginning_and_an_end(output: list[tuple[str, str]], cap: int) -> None:
    logs = collect(frames(output), cap)
    for stream in ("stdout", "stderr"):
        printed = "".join(text for name, text in output if name == stream)
        mine = [line for line in logs.lines if line.stream == stream]
        mark = next((n for n, line in enumerate(mine) if not line.time), len(mine))
        assert printed.startswith("".join(line.text for line in mine[:mark]))
        assert printed.endswith("".join(line.text for line in mine[mark + 1 :]))


@given(outputs)
def test_the_order_of_both_streams_together_is_kept(output: list[tuple[str, str]]) -> None:
    logs = collect(frames(output), 10_000)
    assert [(line.stream, line.text) for line in logs.lines] == [(stream, text) for stream, text in output if text]


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_it_does_not_matter_where_the_engine_cuts(data: bytes, places: list[int]) -> None:
    ends = [*sorted(min(place, len(data)) for place in places), len(data)]
    pieces = [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert collect([out(piece) for piece in pieces], 10_000).stdout == data.decode(errors="replace")


@given(
    st.lists(st.builds(LogLine, st.text(max_size=5), streams, st.text(st.characters(), max_size=8)), max_size=8),
    st.sampled_from(LogStatus),
    st.text(max_size=10),
)
def test_logs_survive_packing(lines: list[LogLine], status: LogStatus, reason: str) -> None:
    logs = Logs(tuple(lines), status, reason)
    again = Logs.unpack(logs.pack())
    assert again == logs
    assert all(isinstance(line, LogLine) for line in again.lines)
    assert again.status is status


def test_a_line_of_our_own_comes_behind_the_containers() -> None:
    line = partial(LogLine, STAMP)
    mark = LogLine("", "stderr", "[... stopped ...]\n")
    for lines, last in (
        ((), mark),
        ((line("stderr", "whole\n"), line("stdout", "no end")), mark),
        ((line("stderr", "no end"), line("stdout", "whole\n")), mark._replace(text="\n" + mark.text)),
    ):
        logs = marked(Logs(lines, LogStatus.TRUNCATED, "why"), "stopped")
        assert logs == Logs((*lines, last), LogStatus.TRUNCATED, "why")


def test_packing_makes_smaller() -> None:
    logs = Logs((LogLine(STAMP, "stdout", "the same line\n"),) * 1000)
    assert len(logs.pack()) < 2000

"""Output in the store: what is packed, and how it completes the head and tail that the record has."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.model.files.stored_logs import OutputPacker, completed
from jaas_submit.model.logs import STREAMS, LogGap, LogLine, Logs, LogStatus, Stream
from jaas_worker.swarm.head_tail import HeadTail, together

LINES = st.lists(st.builds(LogLine, st.just("t"), st.sampled_from(STREAMS), st.binary(min_size=1, max_size=9)))


def packed(lines: list[LogLine], limit: int) -> Logs:
    packer = OutputPacker(limit)
    return Logs.unpack(b"".join(map(packer.add, lines)) + packer.end())


def kept_of(lines: list[LogLine], cap: int) -> Logs:
    """Return head and tail of an output, as a record has them."""
    streams = {stream: HeadTail(stream, cap) for stream in STREAMS}
    for number, line in enumerate(lines):
        streams[line.stream].add(number, line.time, line.data)
    kept = together(streams.values())
    return Logs(kept.lines, LogStatus.TRUNCATED, "cut", kept.gaps, ("stopped",))


def found_parts(logs: Logs, stream: Stream) -> list[bytes]:
    return [part for part in logs.parts(stream) if isinstance(part, bytes)]


@given(LINES, st.integers(1, 20), st.integers(1, 60))
def test_head_tail_and_beginning_make_the_output_and_count_what_is_missing(
    lines: list[LogLine], cap: int, limit: int
) -> None:
    whole = Logs(tuple(lines))
    made = completed(kept_of(lines, cap), packed(lines, limit))
    assert made.notices == ("stopped",)
    for stream in STREAMS:
        parts, all_of_it = made.parts(stream), Logs.stdout_bytes if stream == "stdout" else Logs.stderr_bytes
        expected: bytes = all_of_it.fget(whole)  # type: ignore[attr-defined] # mypy knows no fget of a property
        found = b"".join(part if isinstance(part, bytes) else b"?" * part.missing for part in parts)
        assert len(found) == len(expected)
        assert sum(map(len, found_parts(made, stream))) >= sum(map(len, found_parts(kept_of(lines, cap), stream)))
        assert all(one in {b"?"[0], other} for one, other in zip(found, expected, strict=True))
        assert sum(gap.missing for gap in made.gaps) <= sum(gap.missing for gap in kept_of(lines, cap).gaps)
    assert (made.status is LogStatus.COMPLETE) == (not made.gaps)
    if limit >= sum(len(line.data) for line in lines):
        assert made.lines == whole.lines


@pytest.mark.parametrize(
    "stored",
    [
        Logs((LogLine("t", "stdout", b"other"),)),
        Logs((LogLine("t", "stdout", b"ab" + b"x" * 9),)),
        Logs((LogLine("t", "stdout", b"abxxxxYZ"),)),
        Logs((LogLine("t", "stderr", b"e"),)),
    ],
    ids=["another beginning", "more than there was", "another end", "a stream without output"],
)
def test_what_is_of_another_output_is_not_used(stored: Logs) -> None:
    lines = (LogLine("t", "stdout", b"ab"), LogLine("t", "stdout", b"yz"))
    kept = Logs(lines, LogStatus.TRUNCATED, "4 bytes cut", (LogGap("stdout", 1, 4),))
    assert completed(kept, stored) == kept
    uncounted = replace(kept, gaps=(LogGap("stdout", 1, 4, exact=False),))
    assert completed(uncounted, Logs((LogLine("t", "stdout", b"abxxxxyz"),))) == uncounted


def test_a_stream_of_which_the_store_has_less_than_the_record_keeps_its_head_and_tail() -> None:
    """The limit is for both streams together."""
    out, err = LogLine("1", "stdout", b"o" * 60), LogLine("2", "stderr", b"head of it, what is between, its tail")
    kept = kept_of([out, err, err], 40)
    for limit in (60, 63):
        made = completed(kept, packed([out, err, err], limit))
        assert made.stdout_bytes == out.data
        assert found_parts(made, "stderr") == found_parts(kept, "stderr")
        assert [gap.missing for gap in made.gaps] == [34]
        assert (made.status, made.reason) == (LogStatus.TRUNCATED, "34 bytes of stderr cut")


def test_many_short_lines_are_joined() -> None:
    lines = [LogLine("t", "stdout", b"x\n")] * 255_000
    found = packed(lines, 10_000_000)
    assert found.stdout_bytes == b"x\n" * 255_000
    assert len(found.lines) < 250_100

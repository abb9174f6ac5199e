"""The captured output: bytes, text, lines, gaps, and its packed form."""

from __future__ import annotations

import os
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.model.logs import STREAMS, LogGap, LogLine, Logs, LogStatus, Stream
from jaas_submit.model.states import read_as

STAMP = "2026-11-23T12:00:00.000000001Z"

lines = st.lists(
    st.builds(
        LogLine, st.text(st.characters(codec="ascii"), max_size=5), st.sampled_from(STREAMS), st.binary(max_size=8)
    ),
    max_size=8,
)


def out(data: bytes, time: str = "t") -> LogLine:
    return LogLine(time, "stdout", data)


def err(data: bytes, time: str = "t") -> LogLine:
    return LogLine(time, "stderr", data)


@st.composite
def logs(draw: st.DrawFn) -> Logs:
    found = tuple(draw(lines))
    gaps = st.builds(LogGap, st.sampled_from(STREAMS), st.integers(0, len(found)), st.integers(0, 2**62), st.booleans())
    ordered = sorted(draw(st.lists(gaps, max_size=3)), key=lambda gap: gap.before)
    status, notices = draw(st.sampled_from(LogStatus)), draw(st.lists(st.text(max_size=9), max_size=2))
    return Logs(found, status, draw(st.text(st.characters(), max_size=9)), tuple(ordered), tuple(notices))


def shape(found: Logs, stream: Stream) -> list[bytes | tuple[int, bool]]:
    """Return a stream's parts, wherever among the lines their gaps are."""
    return [(part.missing, part.exact) if isinstance(part, LogGap) else part for part in found.parts(stream)]


# -- bytes and text --------------------------------------------------------------------------------------------------


def test_bytes_are_text_only_where_text_is_asked_for() -> None:
    found = Logs((out(b"\xe2\x82"), err(b"\xff"), out(b"\xac\n"), err(b"\xc3")))
    assert (found.stdout_bytes, found.stderr_bytes) == (b"\xe2\x82\xac\n", b"\xff\xc3")
    assert (found.stdout, found.stderr) == ("€\n", "\ufffd\ufffd")
    assert found.text == str(found) == "\ufffd€\n\ufffd"
    assert out(b"a\xff").text == "a\ufffd"


def test_a_character_never_reaches_across_a_gap() -> None:
    found = Logs((out(b"a\xe2\x82"), out(b"\xacb")), LogStatus.TRUNCATED, "", (LogGap("stdout", 1, 9),))
    assert found.stdout == found.text == "a\ufffd\ufffdb"
    assert found.stdout_bytes == b"a\xe2\x82\xacb"


def test_the_parts_of_a_stream_are_its_bytes_and_its_gaps() -> None:
    gaps = (LogGap("stdout", 1, 5), LogGap("stderr", 2, 6), LogGap("stdout", 3, 7, exact=False))
    found = Logs((out(b"a"), err(b"b"), out(b"c")), gaps=gaps)
    assert found.parts("stdout") == [b"a", gaps[0], b"c", gaps[2]]
    assert found.parts("stderr") == [b"b", gaps[1]]
    assert Logs().parts("stdout") == []
    assert [str(gap) for gap in (*gaps, LogGap("stdout", 0, 0, exact=False))] == [
        "5 bytes of stdout",
        "6 bytes of stderr",
        "at least 7 bytes of stdout",
        "an unknown number of bytes of stdout",
    ]


@pytest.mark.parametrize(
    ("found", "has_end"),
    [
        (Logs(), True),
        (Logs(status=LogStatus.UNAVAILABLE), False),
        (Logs((out(b"a"),), LogStatus.TRUNCATED, "", (LogGap("stdout", 0, 5),)), True),
        (Logs((out(b"a"),), LogStatus.PARTIAL, "", (LogGap("stdout", 1, 5),)), False),
        (Logs((out(b"a"), err(b"b")), LogStatus.PARTIAL, "", (LogGap("stdout", 1, 5),)), False),
        (Logs((out(b"a"), err(b"b")), LogStatus.PARTIAL, "", (LogGap("stderr", 2, 5),)), True),
    ],
)
def test_the_end_of_a_stream_may_be_missing(found: Logs, has_end: bool) -> None:
    assert found.has_end("stdout") is has_end


@given(logs())
def test_one_stream_alone_is_as_it_was_among_both(found: Logs) -> None:
    for stream in STREAMS:
        assert shape(found.only(stream), stream) == shape(found, stream)
        assert {line.stream for line in found.only(stream).lines} <= {stream}
        assert {gap.stream for gap in found.only(stream).gaps} <= {stream}


# -- lines -----------------------------------------------------------------------------------------------------------


@given(logs())
def test_whole_lines_are_the_same_bytes(found: Logs) -> None:
    whole = found.by_line()
    for stream in STREAMS:
        assert shape(whole, stream) == shape(found, stream)
        mine = [line.data for line in whole.lines if line.stream == stream]
        assert all(data.find(b"\n") in {-1, len(data) - 1} for data in mine)


def test_a_line_has_the_time_of_its_first_piece_and_the_place_of_its_last() -> None:
    pieces = (out(b"a", "1"), err(b"x\n", "2"), out(b"b\nc\nd", "3"), err(b"y", "4"))
    assert Logs(pieces).by_line().lines == (
        err(b"x\n", "2"),
        out(b"ab\n", "1"),
        out(b"c\n", "3"),
        out(b"d", "3"),
        err(b"y", "4"),
    )


@pytest.mark.parametrize(("count", "tail"), [(0, ""), (1, "c"), (2, "b\nc"), (3, "a\nb\nc"), (99, "a\nb\nc")])
def test_the_last_lines(count: int, tail: str) -> None:
    assert Logs((out(b"a\nb\n"), err(b"c"))).tail(count) == tail


def test_the_last_lines_have_the_gaps_between_them() -> None:
    gaps = (LogGap("stdout", 1, 5), LogGap("stdout", 2, 6), LogGap("stdout", 3, 7))
    found = Logs((out(b"a\n"), out(b"b\n"), out(b"\xff\n")), gaps=gaps)
    assert shape(found.last(2), "stdout") == [(5, True), b"b\n", (6, True), b"\xff\n", (7, True)]
    assert shape(found.last(1), "stdout") == [(6, True), b"\xff\n", (7, True)]
    assert shape(found.last(0), "stdout") == [(7, True)]


# -- the packed form -------------------------------------------------------------------------------------------------


@given(logs())
def test_output_survives_packing(found: Logs) -> None:
    again = Logs.unpack(found.pack())
    assert again == found
    assert again.status is found.status
    assert all(isinstance(line, LogLine) for line in again.lines)
    assert all(isinstance(gap, LogGap) for gap in again.gaps)


def test_all_bytes_survive_packing_in_pieces_of_any_size() -> None:
    found = Logs(tuple(out(bytes(range(256)) * count) for count in (1, 0, 255, 257, 1000)))
    assert Logs.unpack(found.pack()).stdout_bytes == bytes(range(256)) * 1513


def test_packing_makes_smaller() -> None:
    assert len(Logs((out(b"the same line\n", STAMP),) * 1000).pack()) < 2000


def test_unpacking_needs_little_more_than_what_it_returns() -> None:
    found = Logs(tuple(out(os.urandom(4096) * 4, STAMP) for _ in range(1024)))
    packed = found.pack()
    tracemalloc.start()
    try:
        again = Logs.unpack(packed)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert again == found
    assert kept < 17 * 2**20
    assert peak < kept + 2**20


def whole(*records: bytes) -> bytes:
    return zlib.compress(b"".join(records))


HEAD = b'\x00\x00\x00\x00\x00\x3f{"status": "complete", "reason": "", "gaps": [], "notices": []}'


def test_records_of_a_newer_version_are_left_out() -> None:
    assert Logs.unpack(whole(HEAD, b"\x01\x01\x00\x00\x00\x02tab", b"\x07\x00\x00\x00\x00\x01x")) == Logs((out(b"ab"),))
    newer = Logs(status=read_as(LogStatus, "streamed"))
    assert Logs.unpack(newer.pack()).status == "streamed"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zlib",
        whole(),
        whole(HEAD)[:-1],
        whole(HEAD[:-1]),
        whole(HEAD, b"\x01"),
        whole(HEAD, b"\x01\x00\x00\x00\x00\x05abcd"),
        whole(HEAD, b"\x01\x01\x00\x00\x00\x00\xff"),
        whole(HEAD, b"\x01\x00\xff\xff\xff\xff"),
        whole(HEAD.replace(b"[]", b"[1]", 1).replace(b"\x3f", b"\x40")),
        whole(b"\x00\x00\x00\x00\x00\x02{}"),
        whole(b"\x00\x00\x00\x00\x00\x01["),
        whole(b"\x01\x00\x00\x00\x00\x01x"),
    ],
)
def test_what_was_not_packed_so_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no log of jaas"):
        Logs.unpack(data)


def test_what_unpacks_to_too_much_is_refused_before_it_is_there() -> None:
    one = b"\x01\x00\x00\x10\x00\x00" + bytes(2**20)
    packer = zlib.compressobj(9)
    bomb = packer.compress(HEAD) + b"".join(packer.compress(one) for _ in range(129)) + packer.flush()
    with pytest.raises(ValueError, match="too large"):
        Logs.unpack(bomb)
    packer = zlib.compressobj(9)
    bomb = packer.compress(HEAD) + packer.compress(b"\x07\x00\x00\x00\x00\x00" * 2**20) + packer.flush()
    with pytest.raises(ValueError, match="too many lines"):
        Logs.unpack(bomb)

"""Known values are replaced, however the output is cut into pieces."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaas_submit.model.logs import LogGap, LogLine, Logs, LogStatus, Stream
from jaas_worker.decisions.secrecy.scrubbing import MASK, REPLACED, Scrubber, scrubbed

LETTERS = st.binary().map(lambda data: bytes(b"ab\n"[one % 3] for one in data))
"""Few letters, so that values overlap and begin again within themselves."""
VALUES = st.lists(LETTERS.filter(lambda one: len(one) < 9), max_size=4)


def whole(data: bytes, values: list[bytes]) -> tuple[bytes, int]:
    """Replace in the whole, by another way than the scrubber."""
    longest = sorted({one for one in values if len(one) >= 4}, key=len, reverse=True)
    if not longest:
        return data, 0
    return re.subn(b"|".join(map(re.escape, longest)), MASK, data)


@given(st.lists(LETTERS, max_size=12), VALUES)
@example([b"aab", b"abab"], [b"abab", b"aabab"])
@example([b"aaaa", b"", b"ab"], [b"aaaa", b"aaaaab"])
def test_the_pieces_do_not_matter(pieces: list[bytes], values: list[bytes]) -> None:
    scrubber = Scrubber(values)
    found = b"".join(scrubber.feed(piece) for piece in pieces)
    most = max((len(one) for one in values), default=1)
    assert len(scrubber.held) < max(most, 1), "more waits than a value is long"
    assert (found + scrubber.end(), scrubber.count) == whole(b"".join(pieces), values)
    assert scrubber.held == b""


@given(st.lists(LETTERS.filter(bool), max_size=12), VALUES)
def test_kept_output_is_scrubbed_across_its_lines(pieces: list[bytes], values: list[bytes]) -> None:
    logs = Logs(tuple(LogLine("t", "stdout", piece) for piece in pieces))
    found = scrubbed(logs, values)
    expected, count = whole(b"".join(pieces), values)
    assert found.stdout_bytes == expected
    assert found.status is (LogStatus.PARTIAL if count else LogStatus.COMPLETE)
    assert found.reason == (REPLACED if count else "")


def lines(*pairs: tuple[Stream, bytes]) -> tuple[LogLine, ...]:
    return tuple(LogLine("t", stream, data) for stream, data in pairs)


def test_streams_do_not_mix() -> None:
    logs = Logs(lines(("stdout", b"sec"), ("stderr", b"secret!"), ("stdout", b"ret!")))
    found = scrubbed(logs, [b"secret"])
    assert (found.stdout_bytes, found.stderr_bytes) == (b"***!", b"***!")


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (b"x hunt", b"er22 y", b"x ****** y"),
        (b"x hun", b"r22 y", b"x hunr22 y"),  # too little to tell
        (b"x hunter22", b"hunter22", b"x ******"),
        (b"plain", b"text", b"plaintext"),
    ],
)
def test_at_a_gap_a_part_of_a_value_is_replaced(before: bytes, after: bytes, kept: bytes) -> None:
    logs = Logs(lines(("stdout", before), ("stdout", after)), LogStatus.TRUNCATED, "cut", (LogGap("stdout", 1, 5),))
    found = scrubbed(logs, [b"hunter22"])
    assert found.stdout_bytes == kept
    changed = kept != before + after
    assert (found.status, found.reason) == (
        (LogStatus.PARTIAL, f"cut, {REPLACED}") if changed else (LogStatus.TRUNCATED, "cut")
    )


def test_at_a_missing_end_the_beginning_of_a_value_is_replaced() -> None:
    logs = Logs(lines(("stdout", b"x hunter2")), LogStatus.PARTIAL, "?", (LogGap("stdout", 1, 0, exact=False),))
    assert scrubbed(logs, [b"hunter22"]).stdout_bytes == b"x ***"
    assert scrubbed(Logs(logs.lines), [b"hunter22"]).stdout_bytes == b"x hunter2", "that is all that it wrote"


def test_short_values_are_left_alone() -> None:
    assert scrubbed(Logs(lines(("stdout", b"abc1"))), [b"abc", b""]).status is LogStatus.COMPLETE

"""The last lines of an output: no more than are wanted, no more than are kept, and what is missing is counted."""

from __future__ import annotations

import pytest

from jaas_submit.model.logs import Stream
from jaas_submit.output import WINDOW_BYTES, Gap, Piece, piece_cost
from jaas_worker.agent.kept_output.last_lines import LastLines


def found_of(lines: int, size: int, count: int, *, turns: bool = False) -> tuple[list[Piece], dict[Stream, Gap]]:
    last = LastLines(lines)
    at: dict[Stream, int] = {"stdout": 0, "stderr": 0}
    for number in range(count):
        stream: Stream = "stderr" if turns and number % 2 else "stdout"
        last.add(Piece(stream, at[stream], "t", b"x" * size))
        at[stream] += size
    found = list(last.found())
    gaps = {one.stream: one for one in found if isinstance(one, Gap)}
    assert all(isinstance(one, Gap) for one in found[: len(gaps)])
    return [one for one in found if isinstance(one, Piece)], gaps


@pytest.mark.parametrize(("lines", "count", "kept"), [(0, 5, 0), (3, 5, 3), (5, 5, 5), (9, 5, 5), (3, 0, 0)])
def test_only_the_last_ones_are_wanted(lines: int, count: int, kept: int) -> None:
    pieces, gaps = found_of(lines, 10, count)
    assert [piece.offset for piece in pieces] == [10 * number for number in range(count - kept, count)]
    assert not gaps


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize(("lines", "count"), [(700, 700), (700, 1000), (600, 5000), (10**6, 1000)])
def test_wanted_lines_that_are_not_kept_are_counted(lines: int, count: int, turns: bool) -> None:
    size = 10_000
    pieces, gaps = found_of(lines, size, count, turns=turns)
    assert sum(piece_cost(piece) for piece in pieces) <= WINDOW_BYTES < (len(pieces) + 10) * (size + 48)
    missing = sum(gap.missing for gap in gaps.values())
    assert missing == (min(lines, count) - len(pieces)) * size
    for stream, gap in gaps.items():
        assert gap.offset + gap.missing == next(piece.offset for piece in pieces if piece.stream == stream)


def test_a_stream_of_which_nothing_is_kept_is_counted_to_its_end() -> None:
    last = LastLines(1000)
    last.add(Piece("stderr", 0, "t", b"early\n"))
    for number in range(999):
        last.add(Piece("stdout", number * 10_000, "t", b"x" * 10_000))
    assert next(one for one in last.found() if one.stream == "stderr")[:3] == ("stderr", 0, 6)

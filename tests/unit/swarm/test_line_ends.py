"""Line ends that the driver ``local`` of Docker 20.10 leaves out."""

from __future__ import annotations

import pytest

from jaas_worker.swarm.line_ends import LineEnds

PIECE = 16 * 1024
X, Y = b"x" * PIECE, b"y" * PIECE

# Pieces of stdout with their times; what they become; whether a line end may be missing at the end.
PIECES: list[tuple[list[tuple[str, bytes]], bytes, bool]] = [
    ([("1", b"a\n"), ("2", b"b")], b"a\nb", False),
    ([("1", b"a"), ("2", b"b")], b"ab", False),  # not pieces of a long line
    ([("1", X), ("1", b"x"), ("2", b"b\n")], X + b"x\nb\n", False),
    ([("1", X), ("1", b""), ("2", b"b\n")], X + b"\nb\n", False),  # exactly the size of a piece
    ([("1", X), ("1", Y), ("1", b"z"), ("2", b"b")], X + Y + b"z\nb", False),
    ([("1", X), ("1", b"x")], X + b"x", True),
    ([("1", X), ("1", b"")], X, True),
    ([("1", X), ("1", Y)], X + Y, False),  # a last piece would have followed
    ([("1", X), ("1", b"x"), ("2", X), ("2", b"x"), ("3", b"b")], (X + b"x\n") * 2 + b"b", False),
    ([("1", X), ("2", b"x"), ("3", b"b\n")], X + b"xb\n", False),  # of another line
    # An engine that hands out every line end: what has none, had none.
    ([("1", X), ("1", b"x\n"), ("2", b"b\n")], X + b"x\nb\n", False),
    ([("1", X), ("1", b"x\n"), ("2", X), ("2", b"x")], X + b"x\n" + X + b"x", False),
    ([("1", X[:-1] + b"\n"), ("2", b"b")], X[:-1] + b"\nb", False),
]


@pytest.mark.parametrize(("pieces", "whole", "unknown"), PIECES)
def test_line_ends_are_put_back(pieces: list[tuple[str, bytes]], whole: bytes, unknown: bool) -> None:
    ends = LineEnds()
    assert b"".join(ends.restored("stdout", time, data) for time, data in pieces) == whole
    assert ends.unknown == (("stdout",) if unknown else ())


def test_streams_are_told_apart() -> None:
    ends = LineEnds()
    given = [("stdout", X), ("stderr", X), ("stdout", b"a"), ("stderr", b"b"), ("stdout", b"c\n")]
    assert [ends.restored("stdout" if stream == "stdout" else "stderr", "1", data) for stream, data in given] == [
        X,
        X,
        b"a",
        b"b",
        b"\nc\n",
    ]
    assert ends.unknown == ("stderr",)

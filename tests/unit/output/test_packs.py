"""Packs: many pieces in one entry of a feed, and each of them comes out of it as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.model.logs import STREAMS, Stream
from jaas_submit.output import Gap, Piece, piece_cost
from jaas_submit.output.packs import Pack, packs, unpacked

T = "2026-11-30T12:00:00.{:09}Z"


def pieces_of(found: list[Pack | Gap]) -> list[Piece | Gap]:
    return [
        piece for one in found for piece in ([one] if isinstance(one, Gap) else list(unpacked(one.heads, one.data)))
    ]


def in_a_row(written: list[tuple[Stream, int, bytes]]) -> list[Piece]:
    at = dict.fromkeys(STREAMS, 0)
    found = []
    for stream, time, data in written:
        found.append(Piece(stream, at[stream], T.format(time), data))
        at[stream] += len(data)
    return found


@given(st.lists(st.tuples(st.sampled_from(STREAMS), st.integers(0, 10**9 - 1), st.binary(min_size=1, max_size=30))))
def test_what_was_packed_comes_out_again(written: list[tuple[Stream, int, bytes]]) -> None:
    pieces = in_a_row(written)
    found = list(packs(pieces))
    assert pieces_of(found) == pieces
    assert len(found) <= 1


@given(
    st.lists(st.tuples(st.sampled_from(STREAMS), st.just(0), st.binary(min_size=1, max_size=9)), min_size=1),
    st.integers(0, 99),
    st.integers(0, 99),
)
def test_what_was_there_before_is_left_out(written: list[tuple[Stream, int, bytes]], stdout: int, stderr: int) -> None:
    pieces = in_a_row(written)
    (pack,) = packs(pieces)
    assert isinstance(pack, Pack)
    known = (min(stdout, pack.lengths[0]), min(stderr, pack.lengths[1]))
    for stream, had in zip(STREAMS, known, strict=True):
        left = [piece for piece in unpacked(pack.heads, pack.data, known) if piece.stream == stream]
        whole = b"".join(piece.data for piece in pieces if piece.stream == stream)
        assert b"".join(piece.data for piece in left) == whole[had:]
        assert not left or left[0].offset == had


def test_a_pack_is_bounded_and_lines_cost_no_more_than_is_counted() -> None:
    lines = in_a_row([("stdout", number * 1000, b"y\n") for number in range(50_000)])
    found = list(packs(lines))
    assert pieces_of(found) == lines
    assert all(isinstance(pack, Pack) and pack.size <= 65_536 for pack in found)
    assert len(found) < 50
    assert sum(pack.size for pack in found if isinstance(pack, Pack)) <= sum(piece_cost(line) for line in lines)


def test_a_large_piece_is_divided() -> None:
    data = bytes(range(256)) * 1000
    found = list(packs([Piece("stderr", 7, T, data)]))
    assert len(found) == 4
    pieces = [piece for piece in pieces_of(found) if isinstance(piece, Piece)]
    assert b"".join(piece.data for piece in pieces) == data
    assert pieces[0].offset == 7


@pytest.mark.parametrize(
    "second",
    [Piece("stdout", 5, "t", b"b"), Piece("stdout", 0, "t", b"a"), Gap("stdout", 1, 4, "rotated")],
)
def test_what_does_not_follow_begins_anew(second: Piece | Gap) -> None:
    pieces = [Piece("stdout", 0, "t", b"a"), second]
    found = list(packs(pieces))
    assert len(found) == 2
    assert pieces_of(found) == pieces

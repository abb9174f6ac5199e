"""Pieces are kept in a file as they are in memory, and take little memory."""

from __future__ import annotations

import random
import tempfile
import tracemalloc

import pytest

from jaas_worker.agent.kept_output.spilled_pieces import SpilledPieces
from jaas_worker.agent.kept_output.tally import Message, Tally
from jaas_worker.swarm.head_tail import HeadTail, Pieces


@pytest.mark.parametrize("together", [1, 7, 200])
@pytest.mark.parametrize("disk", [True, False])
@pytest.mark.parametrize("size", [1, 100, 20_000])
def test_what_is_kept_is_the_same(size: int, disk: bool, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(**_: object) -> None:
        raise OSError("no room (test)")

    if not disk:
        monkeypatch.setattr(tempfile, "TemporaryFile", no_room)
    chance = random.Random(size)
    memory = HeadTail("stdout", 100_000, pieces=Pieces)
    spilled = HeadTail("stdout", 100_000, pieces=SpilledPieces)
    pieces = [
        (number, b"%d" % number, chance.randbytes(chance.randint(0, 2 * size)))
        for number in range(30_000 if size < 20_000 else 100)
    ]
    for number, time, data in pieces:
        memory.add(number, time.decode(), data)
    for begin in range(0, len(pieces), together):
        spilled.add_all(pieces[begin : begin + together])

    def kept(one: HeadTail) -> list[object]:
        found: list[object] = [b""]
        for _, piece in one.pieces():
            if isinstance(piece, int):
                found += [piece, b""]
            else:
                found[-1] += piece.data  # type: ignore[operator] # it is bytes
        return found

    assert kept(spilled) == kept(memory)
    assert len(list(spilled.pieces())) < 25_000, "short ones are joined"
    assert (spilled.total, spilled.missing, spilled.full) == (memory.total, memory.missing, memory.full)


@pytest.mark.parametrize("size", [2, 100, 10_000])
def test_a_container_that_prints_much_takes_little_memory(size: int) -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tallies = [Tally(1024 * 1024) for _ in range(2)]
        for tally in tallies:
            for number in range(min(3_000_000 // size, 20_000)):
                tally.add([Message("stdout", b"%030d" % number, b"x" * size)])
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used / len(tallies) < 256 * 1024
    assert all(tally.total >= 40_000 for tally in tallies)

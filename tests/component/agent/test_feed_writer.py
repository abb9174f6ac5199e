"""What a feed's writer holds in memory: a real Redis, and the engine in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from jaas_submit.ledger import Ledger
from jaas_submit.output import FeedEnd, Gap, Piece
from jaas_worker.agent.feed_writer import FeedWriter, Target
from jaas_worker.agent.redis_calls import RedisCalls
from jaas_worker.agent.timing import TIMING
from tests.support.fake_node import FakeNode


class _Exited:
    """A container that has exited after ten million bytes."""

    def __init__(self) -> None:
        self.exited = asyncio.Event()
        self.exited.set()

    def present(self) -> tuple[int, int]:
        return 10_000_000, 0

    async def end(self) -> FeedEnd:
        return FeedEnd("complete", "", 10_000_000, 0)


def test_of_the_last_lines_no_more_is_held_than_a_feed_keeps(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = RedisCalls(ledger.client, ledger.prefix)
    wanted = calls.feeds.watch("j", 1, tail=10**6)
    written: list[Piece] = []

    def append(_feed: str, pieces: Iterable[Piece | Gap]) -> bool:
        written.extend(piece for piece in pieces if isinstance(piece, Piece))
        return True

    async def main() -> None:
        node = FakeNode()
        ref = node.start("j")
        node.write("j", "stdout", *[b"x" * 9_999 + b"\n"] * 1000)
        node.exit("j")
        await FeedWriter(Target(calls, wanted, "writer"), node, ref.id, _Exited(), TIMING).run()

    monkeypatch.setattr(calls.feeds, "append", append)
    try:
        asyncio.run(main())
    finally:
        calls.close()
    assert 4_000_000 < sum(len(piece.data) for piece in written) < 4 * 1024 * 1024
    assert written[-1].offset == 9_990_000
    view = calls.feeds.read(wanted.feed)
    assert view
    assert view.end == FeedEnd("complete", "", 10_000_000, 0)

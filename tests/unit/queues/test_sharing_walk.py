"""Limits hold whatever dies when, and what waits starts. `python -m tests.support.sharing_walk` walks for longer."""

from __future__ import annotations

import pytest

from jaas_submit.queues.book import Book
from jaas_submit.queues.reasons import Reason
from tests.support.sharing_walk import Walk


@pytest.mark.parametrize("seed", range(3))
def test_no_limit_is_exceeded_and_all_that_waits_starts(seed: int) -> None:
    walk = Walk(seed)
    walk.walk(4000)
    assert walk.admitted > 200
    assert walk.refused > 3, "no plan was too old: the walk shows nothing"
    assert walk.crashes > 20
    waiting = len(walk.waiting)
    assert walk.drain() <= waiting


def test_without_the_condition_the_walk_finds_a_limit_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    def hold_all(self: Book, *args: object, **named: object) -> Reason | None:
        self.hold(*args, **named)  # type: ignore[arg-type]  # as try_hold has them
        return None

    monkeypatch.setattr(Book, "try_hold", hold_all)
    walk = Walk(0)
    with pytest.raises(AssertionError):
        walk.walk(4000)

"""What an agent keeps for the worker in its process is bounded in bytes."""

from __future__ import annotations

from jaas_submit.output import WholeOutput
from jaas_worker.agent.kept_output.recent_outputs import RecentOutputs


def test_the_oldest_go_first_and_the_newest_stays_whatever_it_has() -> None:
    kept = RecentOutputs(10_000)
    for name, size in (("a", 2000), ("b", 2000), ("c", 2000)):
        kept.add(WholeOutput(name, "complete", logs=bytes(size)))
    assert len(kept) == 3
    kept.add(WholeOutput("a", "complete", logs=bytes(100)))
    kept.add(WholeOutput("d", "complete", logs=bytes(5000)))
    assert [name for name in "abcd" if kept.get(name)] == ["a", "d"]
    kept.add(WholeOutput("e", "complete", logs=bytes(50_000)))
    assert [name for name in "abcde" if kept.get(name)] == ["e"]
    kept.remove("e")
    kept.remove("never there")
    kept.add(WholeOutput("f", "complete", logs=bytes(8000)))
    assert len(kept) == 1

"""PURE: which causes the end of an attempt may have, by what was done to its node while it lived.

Whatever happens to workers, Redis, the way to an engine, or the messages in a queue is no cause of an end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["ENGINE_FAULTS", "HOSTILE_CAUSES", "NODE_FAULTS", "Hit", "possible_causes", "true_code"]

_ENGINE_DIED: Final = frozenset({"engine", "node_lost"})
"""Node lost: where the swarm had given the node up by then."""

_CAUSES: Final[Mapping[str, frozenset[str]]] = {
    "drain": frozenset({"preempted"}),
    "partition_8": frozenset({"node_lost"}),
    "partition": frozenset({"node_lost"}),
    "engine_kill": _ENGINE_DIED,
    "leader_kill": _ENGINE_DIED,
    "engine_stop": _ENGINE_DIED,
    "leader_stop": _ENGINE_DIED,
    "rolling_stop": _ENGINE_DIED,
    # A swarm that changes its leader, whatever the cause, may count a node as lost that was never touched.
    "manager_away": frozenset({"node_lost"}),
}
"""Of each fault of a node: what may be recorded for the attempts there."""

NODE_FAULTS: Final = frozenset(_CAUSES)

ENGINE_FAULTS: Final = frozenset({"engine_kill", "leader_kill"})
"""Those whose containers outlive the engine."""

HOSTILE_CAUSES: Final = frozenset({"refused", "image", "expired", "cancelled"})
"""Of what a hostile entry became: its image is on no node, and the campaign cancels what is left of them."""

_AFTERMATH: Final = 30.0
"""Seconds after a node fault's heal during which the swarm still acts on it."""

_KILLED: Final = frozenset({137, 143})
"""Exit codes of a container that its engine, or the swarm, ended, and that had no time to note its own end."""


@dataclass(frozen=True)
class Hit:
    """A fault that was injected, at one node where it concerns one."""

    number: int
    kind: str
    start: float
    end: float
    node: str
    """Its host name; empty where it concerns all or none."""
    excuses: bool

    def meets(self, start: float, end: float) -> bool:
        """Return whether it lasted at any time of a span."""
        return self.start <= end and self.end >= start

    def reaches(self, node: str | None, start: float, end: float) -> bool:
        """Return whether it may have ended a container of a node that lived at that time.

        Args:
            node: host name; None where it is not known.
            start: of the attempt.
            end: of the attempt, as it was recorded.
        """
        return (not node or not self.node or self.node == node) and self.meets(start - _AFTERMATH, end)


def possible_causes(hits: Iterable[Hit], node: str | None, start: float, end: float) -> set[str]:
    """Return the causes that an attempt may have that did not end by itself.

    Args:
        hits: all faults of the campaign.
        node: where it ran; None where that is not known.
        start: seconds, of the container, or of the submission where there never was one.
        end: seconds, when the end was recorded.
    """
    found = (_CAUSES[hit.kind] for hit in hits if hit.kind in NODE_FAULTS and hit.reaches(node, start, end))
    return set().union(*found)


def true_code(code: int | None, stops: Collection[int]) -> bool:
    """Return whether an exit code may be told of a container that did not end by itself: none is the truth, too.

    Args:
        code: as recorded.
        stops: the codes that the container itself noted.
    """
    return code is None or code in stops or code in _KILLED

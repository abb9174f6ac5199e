"""PURE: the free room of the nodes, while a pass fills it.

The swarm decides where a job runs. Here each job is put on some node that has room, so that no more jobs are admitted
than fit. Within a pass room only shrinks: a node that is too full for a demand stays so, and is not looked at again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from jaas_submit.queues.demand import Demand

if TYPE_CHECKING:
    from jaas_submit.queues.snapshot import Nodes

__all__ = ["EPSILON", "Room"]

EPSILON: Final = 1e-9
"""Sums of fractions of cores may be off by this."""


class Room:
    """What is free on each node.

    Args:
        nodes: the nodes; they are not changed.
        jobs_per_node: most jobs of ours on a node; None for no limit.
    """

    def __init__(self, nodes: Nodes, jobs_per_node: int | None) -> None:
        self.nodes = nodes
        self.cpus = list(nodes.free_cpus)
        self.memory = list(nodes.free_memory)
        self.slots = [jobs_per_node - count for count in nodes.jobs] if jobs_per_node is not None else None
        self.kept: set[int] = set()
        """Nodes that ``find`` leaves out, because they are kept for a job."""
        self._candidates: dict[tuple[str, float, int], deque[int]] = {}
        self._too_large: dict[str, list[tuple[float, int]]] = {}
        self._most: dict[str, tuple[float, float]] = {}
        self._possible: dict[tuple[str, float, int], bool] = {}
        self._members: dict[str, frozenset[int]] = {}
        self._free: tuple[float, float] | None = None

    def forget(self) -> None:
        """Look at all nodes again: after room was given back, or ``kept`` has lost a node."""
        self._candidates.clear()
        self._too_large.clear()
        self._most.clear()

    def is_in_class(self, place: int, name: str) -> bool:
        """Return whether a node is in a class."""
        members = self._members.get(name)
        if members is None:
            members = self._members[name] = frozenset(self.nodes.classes.get(name, ()))
        return place in members

    def is_possible(self, demand: Demand) -> bool:
        """Return whether some node could take such a job with nothing else running."""
        shape = (demand.nodes, demand.cpus, demand.memory)
        known = self._possible.get(shape)
        if known is None:
            cpus, memory = self.nodes.cpus, self.nodes.memory
            known = self._possible[shape] = any(
                cpus[place] + EPSILON >= demand.cpus and memory[place] >= demand.memory
                for place in self.nodes.classes.get(demand.nodes, ())
            )
        return known

    def fits(self, place: int, demand: Demand) -> bool:
        """Return whether a node has room for a job now."""
        return (
            self.cpus[place] + EPSILON >= demand.cpus
            and self.memory[place] >= demand.memory
            and (self.slots is None or self.slots[place] > 0)
        )

    def find(self, demand: Demand) -> int | None:
        """Return a node with room that is not kept; None if there is none. Nodes take turns."""
        if self._is_too_large(demand):
            return None
        shape = (demand.nodes, demand.cpus, demand.memory)
        nodes = self._candidates.get(shape)
        if nodes is None:
            nodes = self._candidates[shape] = deque(self.nodes.classes.get(demand.nodes, ()))
        cpus, memory, slots, kept = self.cpus, self.memory, self.slots, self.kept
        wanted_cpus, wanted_memory = demand.cpus - EPSILON, demand.memory
        while nodes:
            place = nodes[0]
            if (
                cpus[place] >= wanted_cpus
                and memory[place] >= wanted_memory
                and (slots is None or slots[place] > 0)
                and place not in kept
            ):
                nodes.rotate(-1)
                return place
            nodes.popleft()
        self._too_large.setdefault(demand.nodes, []).append((demand.cpus, demand.memory))
        return None

    def _is_too_large(self, demand: Demand) -> bool:
        """Return whether it is known without a look at each node that none has room."""
        for cpus, memory in self._too_large.get(demand.nodes, ()):
            if demand.cpus >= cpus and demand.memory >= memory:
                return True
        most = self._most.get(demand.nodes)
        if most is None:
            places = self.nodes.classes.get(demand.nodes, ())
            most = self._most[demand.nodes] = (
                max(map(self.cpus.__getitem__, places), default=-1.0),
                max(map(self.memory.__getitem__, places), default=-1.0),
            )
        return demand.cpus > most[0] + EPSILON or demand.memory > most[1]

    def put(self, place: int, demand: Demand) -> None:
        """Take the room of a job from a node."""
        self.cpus[place] -= demand.cpus
        self.memory[place] -= demand.memory
        if self.slots is not None:
            self.slots[place] -= 1
        if self._free is not None:
            self._free = self._free[0] - demand.cpus, self._free[1] - demand.memory

    def free(self) -> tuple[float, float]:
        """Return how many cores and bytes are free on all nodes together."""
        if self._free is None:
            self._free = sum(self.cpus), sum(self.memory)
        return self._free

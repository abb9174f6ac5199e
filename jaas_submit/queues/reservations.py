"""PURE: nodes that are kept for jobs that found no room, and which other jobs may fill in meanwhile (backfill).

A job that has found no room for ``Rules.reserve_after`` gets a node: the one where it fits first, as far as the
expected ends of the jobs there tell. Another job may start there only if it will have ended by then, or if both fit. A
node that has been kept for ``Rules.drain_after`` takes no job for its short run time any more, so that run times that
were guessed wrong cannot delay the large job for ever. A reservation stays on its node from one pass to the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaas_submit.queues.demand import Demand
from jaas_submit.queues.room import EPSILON, Room
from jaas_submit.queues.snapshot import Reservation, Running, Snapshot

__all__ = ["Reservations"]


@dataclass(slots=True)
class _Kept:
    job_id: str
    place: int
    since: float
    starts: float
    extra_cpus: float
    """Cores that are left there once the job has found its room."""
    extra_memory: float


@dataclass(frozen=True, slots=True)
class _Chance:
    """When a job will fit on a node, and what is left there then."""

    starts: float
    extra_cpus: float
    extra_memory: float


class Reservations:
    """The reservations of one pass.

    Args:
        snapshot: with the reservations of the last pass.
        room: of this pass.
        now: the time.
    """

    def __init__(self, snapshot: Snapshot, room: Room, now: float) -> None:
        self._snapshot, self._room, self._now = snapshot, room, now
        self._kept: list[_Kept] = []
        self._places = {node: place for place, node in enumerate(snapshot.nodes.ids)} if snapshot.reservations else {}
        self._before = {one.job_id: one for one in snapshot.reservations if one.node in self._places}

    def previous(self, job_id: str) -> int | None:
        """Return the place of the node that the last pass kept for a job; None if it kept none."""
        one = self._before.get(job_id)
        return None if one is None else self._places[one.node]

    def previous_places(self) -> set[int]:
        """Return the places of all nodes that the last pass kept."""
        return {self._places[one.node] for one in self._before.values()}

    def reserve(self, job_id: str, demand: Demand, without_room_since: float) -> None:
        """Keep a node for a job that found no room, if it has waited long enough and not too many are kept.

        Args:
            job_id: the job.
            demand: what it asks for.
            without_room_since: since when it has found no room.
        """
        rules = self._snapshot.rules
        if len(self._kept) >= rules.reservations or self._now - without_room_since < rules.reserve_after:
            return
        before, place = self._before.get(job_id), self.previous(job_id)
        chance = None
        if place is not None and place not in self._room.kept and self._room.is_in_class(place, demand.nodes):
            chance = self._chance(place, demand)
        if chance is None:
            before, place, chance = None, *self._earliest(demand)
        if chance is None or place is None:
            return
        since = self._now if before is None else before.since
        self._kept.append(_Kept(job_id, place, since, chance.starts, chance.extra_cpus, chance.extra_memory))
        self._room.kept.add(place)

    def _earliest(self, demand: Demand) -> tuple[int | None, _Chance | None]:
        best: tuple[int | None, _Chance | None] = None, None
        cpus, memory = self._room.nodes.cpus, self._room.nodes.memory
        for place in self._room.nodes.classes.get(demand.nodes, ()):
            if place in self._room.kept or cpus[place] + EPSILON < demand.cpus or memory[place] < demand.memory:
                continue
            chance = self._chance(place, demand)
            if chance is not None and (best[1] is None or chance.starts < best[1].starts):
                best = place, chance
        return best

    def _chance(self, place: int, demand: Demand) -> _Chance | None:
        """Return when a job fits on a node as the jobs there end; None if it does not even then."""
        room = self._room
        cpus, memory = room.cpus[place] - demand.cpus, room.memory[place] - demand.memory
        slots = math.inf if room.slots is None else room.slots[place] - 1
        if cpus >= -EPSILON and memory >= 0 and slots >= 0:
            return _Chance(self._now, cpus, memory)
        for job in sorted(self._snapshot.running.get(place, ()), key=_end_of):
            cpus, memory, slots = cpus + job.key.demand.cpus, memory + job.key.demand.memory, slots + 1
            if cpus >= -EPSILON and memory >= 0 and slots >= 0:
                return _Chance(max(job.end, self._now), cpus, memory)
        return None

    def find(self, demand: Demand) -> tuple[int | None, str]:
        """Return a kept node that a job may fill in; else for which job the node with room is kept, if one is.

        Args:
            demand: what the job asks for.
        """
        keeper = ""
        for kept in self._kept:
            if not (self._room.is_in_class(kept.place, demand.nodes) and self._room.fits(kept.place, demand)):
                continue
            if demand.cpus <= kept.extra_cpus + EPSILON and demand.memory <= kept.extra_memory:
                kept.extra_cpus -= demand.cpus
                kept.extra_memory -= demand.memory
                return kept.place, ""
            if self._ends_before(kept, demand):
                return kept.place, ""
            keeper = keeper or kept.job_id
        return None, keeper

    def _ends_before(self, kept: _Kept, demand: Demand) -> bool:
        if self._now - kept.since >= self._snapshot.rules.drain_after or math.isinf(kept.starts):
            return False
        return self._now + self._snapshot.run_times.get(demand.kind, math.inf) <= kept.starts

    def place_of(self, job_id: str) -> int | None:
        """Return the place of the node that this pass keeps for a job; None if it keeps none."""
        return next((kept.place for kept in self._kept if kept.job_id == job_id), None)

    def concern(self, demand: Demand, job_id: str) -> bool:
        """Return whether a node of a job's class is kept for another job."""
        return any(kept.job_id != job_id and self._room.is_in_class(kept.place, demand.nodes) for kept in self._kept)

    def avoided(self, place: int | None) -> tuple[str, ...]:
        """Return the ids of the kept nodes that a job must not be put on.

        Args:
            place: the one that it may fill in; None for none.
        """
        ids = self._snapshot.nodes.ids
        return tuple(ids[kept.place] for kept in self._kept if kept.place != place)

    def made(self) -> tuple[Reservation, ...]:
        """Return the reservations, for the next pass."""
        ids = self._snapshot.nodes.ids
        return tuple(Reservation(kept.job_id, ids[kept.place], kept.since, kept.starts) for kept in self._kept)


def _end_of(job: Running) -> float:
    return job.end

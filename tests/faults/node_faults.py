"""Faults of nodes, of their engines, and of the workers' way to their engine."""

from __future__ import annotations

import time
from typing import Any, Final

from tests.faults.fault import Bench, Fault, WorkerFault
from tests.faults.history import now
from tests.faults.lab import NODES
from tests.faults.proxies import RedisProxy

__all__ = ["NODE_FAULTS"]


# -- engines, and the way to them -------------------------------------------------------------------------------------


class CreateReplyLost(WorkerFault):
    """The engine creates a service, but the worker does not get to know it."""

    lane = "engine"
    weight = 2.0
    excuses = False

    def draw(self) -> None:
        super().draw()
        self.parameters["count"] = self.rng.randint(1, 4)

    def inject(self, bench: Bench) -> dict[str, Any]:
        bench.engine_proxies[self.parameters["worker"]].drop_create_replies(self.parameters["count"])
        return {}


class EngineAway(WorkerFault):
    """A worker's engine refuses connections."""

    lane = "engine"

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = self._time(2, 20)

    def inject(self, bench: Bench) -> dict[str, Any]:
        bench.engine_proxies[self.parameters["worker"]].refuse(True)
        return {}

    def heal(self, bench: Bench) -> None:
        bench.engine_proxies[self.parameters["worker"]].refuse(False)


class _NodeFault(Fault):
    lane = "node"

    def draw(self) -> None:
        self.parameters["node"] = self.rng.choice(NODES)


class ShortPartition(_NodeFault):
    """A node is cut off the others, and its agent off Redis; back before they give it up."""

    weight = 0.5

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = 8.0

    def _agent(self, bench: Bench) -> RedisProxy:
        node: int = self.parameters["node"]
        return bench.agent_redis[node - 1]

    def inject(self, bench: Bench) -> dict[str, Any]:
        bench.lab.run("partition", self.parameters["node"])
        self._agent(bench).refuse(True)
        return {}

    def heal(self, bench: Bench) -> None:
        bench.lab.run("heal", self.parameters["node"])
        self._agent(bench).refuse(False)
        bench.lab.wait_whole(60)


class LongPartition(ShortPartition):
    """A node is cut off for longer than the others wait for it, and returns while its jobs run."""

    weight = 2.0

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = self.rng.choice([10.0, 20.0, self._time(20, 45), 60.0])


class EngineKill(_NodeFault):
    """SIGKILL of a node's engine, which is started again later."""

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = self._time(0.5, 20)

    def inject(self, bench: Bench) -> dict[str, Any]:
        bench.lab.run("kill", self.parameters["node"])
        return {}

    def heal(self, bench: Bench) -> None:
        bench.lab.run("start", self.parameters["node"])
        bench.lab.wait_whole(60)


class LeaderKill(EngineKill):
    """SIGKILL of the engine that leads the swarm."""

    def inject(self, bench: Bench) -> dict[str, Any]:
        self.parameters["node"] = bench.lab.leader()
        return {"node": self.parameters["node"], **super().inject(bench)}


class EngineStop(EngineKill):
    """SIGTERM of a node's engine, as from ``systemctl stop``; it is started again later."""

    weight = 1.5

    def inject(self, bench: Bench) -> dict[str, Any]:
        bench.lab.run("stop", self.parameters["node"])
        return {}


class LeaderStop(EngineStop):
    """SIGTERM of the engine that leads the swarm."""

    weight = 1.0

    def inject(self, bench: Bench) -> dict[str, Any]:
        self.parameters["node"] = bench.lab.leader()
        return {"node": self.parameters["node"], **super().inject(bench)}


class RollingStop(Fault):
    """An operator restarts all engines in order, each when the swarm is whole again."""

    lane = "node"

    def draw(self) -> None:
        self.parameters["each"] = self._time(0.2, 10)

    def inject(self, bench: Bench) -> dict[str, Any]:
        hits = []
        for node in NODES:
            began = now()
            bench.lab.run("stop", node)
            time.sleep(self.parameters["each"])
            bench.lab.run("start", node)
            bench.lab.wait_whole(60)
            hits.append([node, began, now()])
        return {"hits": hits}

    def heal(self, bench: Bench) -> None:
        for node in NODES:
            bench.lab.run("start", node)
        bench.lab.wait_whole(60)


class Drain(_NodeFault):
    """An operator drains a node, and takes it back later."""

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = self._time(5, 20)

    def inject(self, bench: Bench) -> dict[str, Any]:
        bench.lab.availability(self.parameters["node"], "drain")
        return {}

    def heal(self, bench: Bench) -> None:
        bench.lab.availability(self.parameters["node"], "active")


NODE_FAULTS: Final[dict[str, type[Fault]]] = {
    "create_lost": CreateReplyLost,
    "engine_away": EngineAway,
    "partition_8": ShortPartition,
    "partition": LongPartition,
    "engine_kill": EngineKill,
    "leader_kill": LeaderKill,
    "engine_stop": EngineStop,
    "leader_stop": LeaderStop,
    "rolling_stop": RollingStop,
    "drain": Drain,
}
"""Those of them that are injected, by name."""

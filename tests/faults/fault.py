"""What all faults share: what they are injected into, and how one is drawn, injected and healed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, ClassVar

from redis import Redis

from tests.faults.lab import Lab
from tests.faults.processes import Worker
from tests.faults.proxies import EngineProxy, RedisProxy
from tests.support.redis_server import OwnRedis

__all__ = ["Bench", "Fault", "WorkerFault"]


@dataclass
class Bench:
    """What faults are injected into."""

    lab: Lab
    redis: OwnRedis
    workers: list[Worker]
    redis_proxies: list[RedisProxy]
    engine_proxies: list[EngineProxy]
    prefix: str = ""
    agents: list[Worker] = field(default_factory=list)
    """`jaas agent`, one for each node."""
    agent_redis: list[RedisProxy] = field(default_factory=list)
    agent_engines: list[EngineProxy] = field(default_factory=list)

    def client(self) -> Redis:
        """Return a connection to Redis past all proxies."""
        return Redis(port=self.redis.port, socket_timeout=5)


@dataclass
class Fault:
    """One fault.

    Args:
        rng: decides on everything that is left to chance.

    ``parameters`` are drawn when it is made: the whole schedule is known before the first one is injected.
    """

    rng: random.Random
    parameters: dict[str, Any] = field(default_factory=dict)

    lane: ClassVar[str] = ""
    weight: ClassVar[float] = 1.0
    excuses: ClassVar[bool] = True
    """Whether jaas may wait while it lasts. A killed worker is no excuse: the others are there."""

    def __post_init__(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Fill ``parameters``; ``seconds`` is for how long it lasts."""

    @property
    def seconds(self) -> float:
        """For how long it lasts, without the time that healing takes."""
        return float(self.parameters.get("seconds", 0.0))

    def inject(self, bench: Bench) -> dict[str, Any]:
        """Let it happen; return what turned out (which node, how many connections, ...)."""
        raise NotImplementedError

    def heal(self, bench: Bench) -> None:
        """Undo it; returns when it is undone."""

    def _time(self, least: float, most: float) -> float:
        return round(self.rng.uniform(least, most), 1)


class WorkerFault(Fault):
    """One that hits one of the workers, or its way to something."""

    lane = "worker"

    def draw(self) -> None:
        self.parameters["worker"] = self.rng.randrange(3)

    def worker(self, bench: Bench) -> Worker:
        number: int = self.parameters["worker"]
        return bench.workers[number % len(bench.workers)]

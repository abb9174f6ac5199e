"""The faults: each a class that draws its parameters from a seeded generator, injects itself, and heals.

Three lanes run beside each other; within a lane one fault follows the other, so that no two of them touch the same
thing. (Two nodes away at once are two thirds of a swarm of three: then nobody can do anything but wait.)
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import kombu
import redis
from redis import Redis

from jaas_worker.messaging.redis_transport import Transport
from jaas_worker.messaging.transport_settings import options as transport_options
from tests.faults.lab import NODES, Lab
from tests.faults.processes import Worker
from tests.faults.proxies import EngineProxy, RedisProxy
from tests.support.redis_server import OwnRedis

__all__ = ["FAULTS", "LANES", "Bench", "Fault", "schedule"]


@dataclass
class Bench:
    """What faults are injected into."""

    lab: Lab
    redis: OwnRedis
    workers: list[Worker]
    redis_proxies: list[RedisProxy]
    engine_proxies: list[EngineProxy]
    prefix: str = ""

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


# -- workers ----------------------------------------------------------------------------------------------------------


class _WorkerFault(Fault):
    lane = "worker"

    def draw(self) -> None:
        self.parameters["worker"] = self.rng.randrange(3)

    def worker(self, bench: Bench) -> Worker:
        number: int = self.parameters["worker"]
        return bench.workers[number % len(bench.workers)]


class WorkerKill(_WorkerFault):
    """SIGKILL; the orchestrator starts it again within seconds."""

    weight = 3.0
    excuses = False

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = self._time(0.2, 8)

    def inject(self, bench: Bench) -> dict[str, Any]:
        self.worker(bench).signal(signal.SIGKILL, ends=True, down_for=self.seconds)
        return {}


class WorkerTerm(WorkerKill):
    """SIGTERM, as in a rolling update; the next one is started when it has ended."""

    weight = 2.0

    def inject(self, bench: Bench) -> dict[str, Any]:
        self.worker(bench).signal(signal.SIGTERM, ends=True, down_for=self.seconds)
        return {}


class WorkerStop(_WorkerFault):
    """SIGSTOP for less or for much more than the lease, then SIGCONT: it comes back with all that it believed."""

    weight = 2.0
    excuses = False

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = self._time(2, 40)

    def inject(self, bench: Bench) -> dict[str, Any]:
        self.worker(bench).signal(signal.SIGSTOP)
        return {}

    def heal(self, bench: Bench) -> None:
        self.worker(bench).signal(signal.SIGCONT)


class ClockSkew(_WorkerFault):
    """A worker restarts with its clock five minutes off, and later with the right one again."""

    def draw(self) -> None:
        super().draw()
        self.parameters |= {"seconds": self._time(15, 40), "offset": self.rng.choice([300.0, -300.0])}

    excuses = False

    def inject(self, bench: Bench) -> dict[str, Any]:
        worker = self.worker(bench)
        worker.clock = self.parameters["offset"]
        worker.signal(signal.SIGTERM, ends=True)
        return {}

    def heal(self, bench: Bench) -> None:
        worker = self.worker(bench)
        worker.clock = 0.0
        worker.signal(signal.SIGTERM, ends=True)


# -- Redis, and the way to it -----------------------------------------------------------------------------------------


class RedisKill(Fault):
    """SIGKILL of Redis, which comes back with what its append-only file holds."""

    lane = "redis"
    weight = 2.0

    def draw(self) -> None:
        self.parameters["seconds"] = self._time(0.2, 12)

    def inject(self, bench: Bench) -> dict[str, Any]:
        bench.redis.kill()
        return {}

    def heal(self, bench: Bench) -> None:
        bench.redis.start()


class ClientKill(Fault):
    """Redis closes all connections."""

    lane = "redis"
    weight = 2.0
    excuses = False

    def inject(self, bench: Bench) -> dict[str, Any]:
        with bench.client() as client:
            killed = [client.execute_command("CLIENT", "KILL", "TYPE", kind) for kind in ("normal", "pubsub")]
        return {"connections": sum(killed)}


class RedisFull(Fault):
    """Redis has reached its maxmemory: it refuses all that would take more."""

    lane = "redis"

    def draw(self) -> None:
        self.parameters["seconds"] = self._time(3, 15)

    def inject(self, bench: Bench) -> dict[str, Any]:
        with bench.client() as client:
            used = int(client.info("memory")["used_memory"])
            client.config_set("maxmemory", used + 8 * 1024)
        return {"used": used}

    def heal(self, bench: Bench) -> None:
        with bench.client() as client:
            client.config_set("maxmemory", 0)


class ShortVisibility(Fault):
    """A client with visibility_timeout=1 gives back whatever is not acknowledged within a second."""

    lane = "redis"
    excuses = False

    def draw(self) -> None:
        self.parameters["seconds"] = self._time(5, 20)
        # A Celery client of somebody else's; one of the workers' own kind.
        self.parameters["keys"] = self.rng.choice(["stock", "workers"])

    def inject(self, bench: Bench) -> dict[str, Any]:
        ours = self.parameters["keys"] == "workers"
        kind: dict[str, Any] = {"transport": Transport} if ours else {}
        options = {**(transport_options(bench.prefix) if ours else {}), "visibility_timeout": 1}
        restored = 0
        deadline = time.monotonic() + self.seconds
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(redis.RedisError, kombu.exceptions.OperationalError, OSError),
                kombu.Connection(bench.redis.url, transport_options=options, **kind) as connection,
            ):
                channel: Any = connection.default_channel
                while time.monotonic() < deadline:
                    before = channel.client.hlen(channel.unacked_key)
                    channel.qos._vrestore_count = 0  # noqa: SLF001 (else kombu restores at every tenth call)
                    channel.qos.restore_visible(num=None, interval=1)
                    restored += max(before - channel.client.hlen(channel.unacked_key), 0)
                    time.sleep(0.3)
        self.parameters["seconds"] = 0.0  # it is over
        return {"restored": restored}


class HalfOpen(_WorkerFault):
    """All of a worker's connections to Redis go dead without a word, for ever; new ones work."""

    lane = "redis"
    weight = 2.0
    excuses = False

    def inject(self, bench: Bench) -> dict[str, Any]:
        return {"connections": bench.redis_proxies[self.parameters["worker"]].silence()}


class Blackhole(_WorkerFault):
    """The packets between a worker and Redis are dropped for a while; TCP repeats them."""

    lane = "redis"

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = self._time(5, 40)

    def _rules(self, bench: Bench, action: str) -> None:
        port = str(bench.redis_proxies[self.parameters["worker"]].port)
        for direction in ("--dport", "--sport"):
            rule = ["-i", "lo", "-p", "tcp", direction, port, "-j", "DROP"]
            subprocess.run(["iptables", "-w", action, "INPUT", *rule], check=True, capture_output=True)

    def inject(self, bench: Bench) -> dict[str, Any]:
        self._rules(bench, "-I")
        return {}

    def heal(self, bench: Bench) -> None:
        self._rules(bench, "-D")


# -- engines, and the way to them -------------------------------------------------------------------------------------


class CreateReplyLost(_WorkerFault):
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


class EngineAway(_WorkerFault):
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
    loses_containers: ClassVar[bool] = True

    def draw(self) -> None:
        self.parameters["node"] = self.rng.choice(NODES)


class ShortPartition(_NodeFault):
    """A node is cut off the others, and back before they give it up."""

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = 8.0

    def inject(self, bench: Bench) -> dict[str, Any]:
        bench.lab.run("partition", self.parameters["node"])
        return {}

    def heal(self, bench: Bench) -> None:
        bench.lab.run("heal", self.parameters["node"])
        bench.lab.wait_whole(60)


class LongPartition(ShortPartition):
    """A node is cut off for so long that the others declare it down."""

    weight = 0.7

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = 60.0


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


FAULTS: Final[dict[str, type[Fault]]] = {
    "worker_kill": WorkerKill,
    "worker_term": WorkerTerm,
    "worker_stop": WorkerStop,
    "clock": ClockSkew,
    "redis_kill": RedisKill,
    "client_kill": ClientKill,
    "redis_full": RedisFull,
    "visibility": ShortVisibility,
    "half_open": HalfOpen,
    "blackhole": Blackhole,
    "create_lost": CreateReplyLost,
    "engine_away": EngineAway,
    "partition_8": ShortPartition,
    "partition_60": LongPartition,
    "engine_kill": EngineKill,
    "leader_kill": LeaderKill,
    "drain": Drain,
}
"""Every kind by its name in ``--faults`` and in the history. Floods of output are jobs (``traffic.py``)."""

LANES: Final[dict[str, tuple[float, float]]] = {
    "worker": (6.0, 22.0),
    "redis": (5.0, 20.0),
    "engine": (5.0, 20.0),
    "node": (10.0, 35.0),
}
"""Seconds of peace, least and most, between two faults of a lane."""


@dataclass(frozen=True)
class Planned:
    """A fault and when it is due, in seconds since the campaign's start."""

    number: int
    at: float
    lane: str
    kind: str
    fault: Fault


def schedule(seed: int, seconds: float, kinds: list[str]) -> list[Planned]:
    """Return the faults of a campaign, by time; the same for the same arguments.

    Args:
        seed: of the generator.
        seconds: how long faults are injected.
        kinds: which faults are allowed.
    """
    plan = []
    for lane, (least, most) in LANES.items():
        rng = random.Random(f"{seed}/{lane}")  # each lane its own: leaving kinds out changes no other lane
        names = [name for name in kinds if FAULTS[name].lane == lane]
        at = rng.uniform(3, most)
        while names and at < seconds:
            kind = rng.choices(names, [FAULTS[name].weight for name in names])[0]
            fault = FAULTS[kind](random.Random(rng.random()))
            plan.append((at, lane, kind, fault))
            at += fault.seconds + rng.uniform(least, most)
    plan.sort(key=lambda item: item[0])
    return [Planned(number, *item) for number, item in enumerate(plan, 1)]

"""The faults: each a class that draws its parameters from a seeded generator, injects itself, and heals.

Some lanes run beside each other; within a lane one fault follows the other, so that no two of them touch the same
thing. (Two nodes away at once are two thirds of a swarm of three: then nobody can do anything but wait.)
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Final

import kombu
import redis

from jaas_worker.messaging.redis_transport import Transport
from jaas_worker.messaging.transport_settings import options as transport_options
from tests.faults.agent_faults import AGENT_FAULTS
from tests.faults.fault import Bench, Fault, WorkerFault
from tests.faults.hostile import Hostile
from tests.faults.node_faults import NODE_FAULTS

__all__ = ["FAULTS", "LANES", "Planned", "schedule"]


# -- workers ----------------------------------------------------------------------------------------------------------


class WorkerKill(WorkerFault):
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


class WorkerStop(WorkerFault):
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


class ClockSkew(WorkerFault):
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
        options = {**(transport_options(bench.prefix, bench.prefix) if ours else {}), "visibility_timeout": 1}
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


class HalfOpen(WorkerFault):
    """All of a worker's connections to Redis go dead without a word, for ever; new ones work."""

    lane = "redis"
    weight = 2.0
    excuses = False

    def inject(self, bench: Bench) -> dict[str, Any]:
        return {"connections": bench.redis_proxies[self.parameters["worker"]].silence()}


class Blackhole(WorkerFault):
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
    **AGENT_FAULTS,
    **NODE_FAULTS,
    "hostile": Hostile,
}
"""Every kind by its name in ``--faults`` and in the history. Floods of output are jobs (``traffic.py``)."""

LANES: Final[dict[str, tuple[float, float]]] = {
    "worker": (6.0, 22.0),
    "agent": (5.0, 18.0),
    "redis": (5.0, 20.0),
    "engine": (5.0, 20.0),
    "node": (6.0, 20.0),
    "hostile": (1.0, 5.0),
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

"""What a worker is made of, put together: ledger, engine, runner, metrics."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from jaas_submit.connection import connect
from jaas_submit.errors import PermanentError
from jaas_submit.ledger import Ledger
from jaas_submit.messaging.permissions import missing_rules, user_of
from jaas_submit.policy.document import Policy
from jaas_submit.policy.published import about_policy
from jaas_submit.signing import Gate, read_verify_keys
from jaas_submit.storage.store import Store
from jaas_worker.admission.container_defaults import ContainerDefaults
from jaas_worker.agent.files.collector import FileCollector
from jaas_worker.agent.outputs import AgentOutputs
from jaas_worker.agent.process import AgentSettings, AgentThread
from jaas_worker.agent.swarm_feeds import RunningService
from jaas_worker.lifecycle.runner import Runner
from jaas_worker.messaging.pool import TaskPool
from jaas_worker.settings import Settings
from jaas_worker.swarm.docker_engine import require_manager
from jaas_worker.swarm.engine import Engine, SwarmInfo
from jaas_worker.swarm.http import known_logins
from jaas_worker.swarm.measured import measured
from jaas_worker.telemetry.ledger_monitor import LedgerMonitor
from jaas_worker.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import redis

__all__ = ["REDIS_TIMEOUT_S", "Parts", "require_permissions"]

REDIS_TIMEOUT_S: Final = 5.0
"""Seconds to wait for an answer of Redis; three of them must fit into a lease (15 seconds by default)."""


@dataclass
class Parts:
    """The parts of the pool; ``app.jaas``."""

    settings: Settings
    engine: Engine
    policy: Policy = field(default_factory=Policy)
    """What jobs may ask for."""
    info: SwarmInfo | None = None
    metrics: Metrics = field(default_factory=Metrics)
    pool: TaskPool | None = None

    def make_runner(self) -> Runner:
        """Return a runner with a name that no other process has.

        Raises:
            NotAManager: the engine is no swarm manager.
            EngineUnavailable: it does not answer.
            PermanentError: Redis' user lacks ACL rules.
            SpecError: JAAS_VERIFY_KEYS is not valid.
        """
        self.info = self.engine.info()
        require_manager(self.info, self.settings.docker_host)
        ledger = Ledger(
            connect(self.settings.redis_url, socket_timeout=REDIS_TIMEOUT_S),
            self.settings.prefix,
            self.settings.record_ttl,
        )
        require_permissions(ledger.client, self.settings)
        keys = read_verify_keys(self.settings.verify_keys) if self.settings.verify_keys else {}
        signatures = Gate(self.settings.prefix, keys, self.settings.require_signature)
        holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        where, secret = self.settings.store_url, ledger.maintenance.secret
        store = Store(where, self.settings.prefix, secret) if where else None
        agent = AgentThread(AgentSettings.of(self.settings), ledger.client, holder, _version())
        calls = agent.calls
        files = FileCollector(calls.transfers, calls.leases, store)
        outputs = AgentOutputs(agent, calls.outputs, calls.leases, holder, files)
        engine = measured(self.engine, self.metrics)
        runner = Runner(
            *(self.settings, ledger, engine, holder, self.metrics, store),
            outputs=outputs,
            policy=self.policy,
            signatures=signatures,
        )
        agent.holds = runner.knows
        agent.running = lambda job_id: (found := runner.running_service(job_id)) and RunningService(*found)
        return runner

    def monitor(self, runner: Runner, queue_length: Callable[[], int]) -> Callable[[], None]:
        """Serve this worker's metrics; return the function that stops it.

        Args:
            runner: the worker's jobs.
            queue_length: how many messages wait in its queue.
        """
        settings = self.settings
        if not settings.metrics_port:
            return lambda: None
        about = {
            name: str(value)
            for name, value in self.about_worker().items()
            if name not in {"host", "pid", "queues", "policy"}
        }
        monitor = LedgerMonitor(
            runner.ledger,
            self.metrics,
            settings.metrics_interval,
            stats=runner.stats,
            queue_length=queue_length,
            about=about,
            limit=settings.max_in_flight,
        )
        monitor.start()
        close = self.metrics.serve(settings.metrics_port, settings.metrics_address)

        def stop() -> None:
            monitor.close()
            close()

        return stop

    def about_worker(self) -> dict[str, Any]:
        """Return what does not change as long as the worker lives."""
        info = self.info
        return {
            "version": _version(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "node": info.node_name if info else "",
            "node_id": info.node_id if info else "",
            "log_driver": info.log_driver if info else "",
            "engine": info.engine_version if info else "",
            "queue": self.settings.queue,
            "queues": self.settings.queues,
            "policy": about_policy(self.policy),
            "containers": ContainerDefaults.of(self.settings).about(),
        }

    def about(self, runner: Runner) -> dict[str, Any]:
        """Return the worker's report about itself for the ledger."""
        ahead = time.time() - runner.ledger.now()
        away = self.pool.watch.away if self.pool else ""
        room = max(self.pool.room(), 0) if self.pool else 0
        most = self.settings.max_in_flight
        own = {"clock_ahead": round(ahead, 1), "engine_unavailable": away, "max_in_flight": most, "room": room}
        return {**self.about_worker(), **own, **runner.stats(), "logins": known_logins()}


def require_permissions(client: redis.Redis, settings: Settings) -> None:
    """Refuse a Redis user that lacks ACL rules; otherwise its commands would fail again and again, without the rule.

    Args:
        client: with the worker's user.
        settings: of the worker.

    Raises:
        PermanentError: the user lacks ACL rules.
        LedgerUnavailable: Redis does not answer.
    """
    missing = missing_rules(client, settings.prefix, [settings.queue])
    if missing:
        user = user_of(client)
        raise PermanentError(
            f"Redis does not allow its user {user} all that a worker does: ACL SETUSER {user} {' '.join(missing)}"
        )


@cache  # installed packages are searched for it
def _version() -> str:
    try:
        return metadata.version("jaas")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "unknown"

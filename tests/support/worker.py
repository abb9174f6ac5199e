"""A real worker process, which a test may kill, freeze and start again; and a listener."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jaas_submit.connection import connect
from jaas_submit.ledger import Ledger
from jaas_submit.model.wire_names import LABEL_PREFIX
from jaas_worker.swarm.docker_engine import Swarm
from tests.support.wait import eventually

__all__ = ["CONNECTION_LOST", "PRIVILEGED", "Installation", "WorkerProcess", "clean_env", "exceptions_in", "listener"]

_ROOT = Path(__file__).parents[2]

PRIVILEGED = _ROOT / "tests" / "support" / "privileged.toml"
"""A policy that lets jobs mount the host's folders."""

_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):$", re.MULTILINE)
_EXCEPTION = re.compile(r"^([\w.]+(?:Error|Exception|Exit|Interrupt|Down|Lost|Failed|Unavailable|Refused)\b.*)$")


CONNECTION_LOST = ("redis.exceptions.", "ConnectionRefusedError", "ConnectionResetError", "BrokenPipeError")
"""Parts of what a worker logs whose Redis goes away, the causes of an exception counted: which of them is chance."""


def clean_env(**more: str) -> dict[str, str]:
    """Return this process' environment without what configures jaas, Celery or Flower, for a program of ours."""
    mine = ("JAAS_", "CELERY", "FLOWER_", "DOCKER_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    return {**kept, "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1", **more}


def exceptions_in(log: str) -> list[str]:
    """Return the last line ("what: why") of each traceback in a log."""
    found = []
    for part in _TRACEBACK.split(log)[1:]:
        lines = (_EXCEPTION.match(line) for line in part.splitlines())
        found.append(next((match[1] for match in lines if match), part.strip()[-200:]))
    return found


class Installation:
    """One installation of jaas: a Redis, a prefix, a queue and a swarm, and the settings that its workers share.

    Args:
        redis_url: broker, results and ledger.
        engine_host: DOCKER_HOST of a swarm manager.
        prefix: of the keys in Redis, and label of the services; the queue is named the same.
        folder: for the workers' logs.
        settings: of all workers, such as ``lease="2s"``.
    """

    def __init__(self, redis_url: str, engine_host: str, prefix: str, folder: Path, **settings: object) -> None:
        self.redis_url = redis_url
        self.engine_host = engine_host
        self.prefix = self.queue = prefix
        self.folder = folder
        self.settings = settings
        self.app = "jaas_worker.app"
        """What Celery loads (``-A``)."""
        self.workers: list[WorkerProcess] = []
        self.ledger = Ledger(connect(redis_url), prefix)
        self.swarm = Swarm(engine_host)

    def worker(self, name: str = "", arguments: Sequence[str] = (), **settings: object) -> WorkerProcess:
        """Return a worker that has not been started yet.

        Args:
            name: for its log; Celery's node name is ``NAME@host``.
            arguments: further options of `celery worker`.
            settings: of this worker alone.
        """
        settings = {**self.settings, **settings}
        worker = WorkerProcess(self, name or f"w{len(self.workers) + 1}", settings, arguments)
        self.workers.append(worker)
        return worker

    def environment(self, **settings: object) -> dict[str, str]:
        """Return the environment of a program that belongs to this installation.

        Args:
            settings: ``lease`` is JAAS_LEASE; a name in capitals, such as DOCKER_CONFIG, is a variable as it is.
        """
        # For people: `exceptions_in` and failing tests' reports read tracebacks as Python prints them.
        wanted = {
            "log_format": "console",
            "prefix": self.prefix,
            "queue": self.queue,
            "redis_url": self.redis_url,
            # Most tests mount a folder of the host to see what a job did; those of the policy say another one.
            **({} if "policy" in settings else {"policy_file": PRIVILEGED}),
            **settings,
        }
        named = {name if name.isupper() else f"JAAS_{name.upper()}": str(value) for name, value in wanted.items()}
        return clean_env(**{"DOCKER_HOST": self.engine_host, **named})

    def services(self) -> list[str]:
        """Return the names of the services that exist now."""
        return sorted(service.name for service in self.swarm.services(f"{LABEL_PREFIX}={self.prefix}"))

    def remove_services(self) -> None:
        """Remove all services of this installation."""
        for service in self.swarm.services(f"{LABEL_PREFIX}={self.prefix}"):
            self.swarm.remove(service.id)

    def close(self) -> None:
        """End the workers and remove what they left in the swarm."""
        for worker in self.workers:
            worker.stop()
        self.remove_services()
        self.ledger.client.close()


class WorkerProcess:
    """`celery -A jaas_worker.app worker` in a process of its own.

    Args:
        home: what it works for.
        name: its name.
        settings: its settings.
        arguments: further options.
    """

    def __init__(
        self, home: Installation, name: str, settings: dict[str, object], arguments: Sequence[str] = ()
    ) -> None:
        self.home = home
        self.name = name
        self.settings = settings
        self.arguments = arguments
        self._log = home.folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0  # in characters: where the log of the present start begins

    def __repr__(self) -> str:
        return f"WorkerProcess({self.name!r}, pid={self._process.pid if self._process else None})"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, f"{self.name} has not been started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process exists and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything that it has written, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def holder(self) -> str:
        """Its name in the ledger; empty when it has no lease there."""
        holders = [str(worker["holder"]) for worker in self.home.ledger.queries.workers()]
        return next((holder for holder in holders if f"-{self.pid}-" in holder), "")

    def launch(self) -> WorkerProcess:
        """Start it (again) without waiting for anything."""
        assert not self.alive
        self._log_start = len(self.log)
        command = [sys.executable, "-m", "celery", "-A", self.home.app, "worker"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--loglevel=INFO", "-n", f"{self.name}@%h", *self.arguments],
                cwd=self.home.folder,
                env=self.home.environment(**self.settings),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def start(self) -> WorkerProcess:
        """Start it (again) and wait until it takes jobs and obeys Celery's remote control."""
        self.launch()
        eventually(self._ready, 120, lambda: f"{self.name} to be ready; its log:\n{self.log}")
        return self

    def _ready(self) -> bool:
        assert self.alive, f"{self.name} ended at its start:\n{self.log}"
        return f"{self.name}@" in self.log and " ready." in self.log[self._log_start :] and self.holder != ""

    def kill(self) -> None:
        """End it with SIGKILL: it cannot say good-bye to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        eventually(lambda: not self.alive, 60, lambda: f"{self.name} to end; its log:\n{self.log}")

    def freeze(self) -> None:
        """Suspend it, as a paused virtual machine would be."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> int:
        """End it with SIGTERM, and with SIGKILL when it does not obey; return its exit code."""
        if self._process is None:
            return 0
        if self.alive:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.wait()


@contextlib.contextmanager
def listener(home: Installation, host: str, **settings: object) -> Iterator[Callable[[], str]]:
    """Run `jaas agent` on an engine; yield what returns its log, as soon as it has found the engine.

    Args:
        home: what it belongs to.
        host: DOCKER_HOST of the engine.
        settings: see ``Installation.environment``.
    """
    file = home.folder / f"listener-{uuid.uuid4().hex[:8]}.log"
    with file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jaas_submit.cli.main", "agent"],
            cwd=home.folder,
            env=home.environment(DOCKER_HOST=host, **settings),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "following the containers" in file.read_text(), 60, file.read_text)
        yield file.read_text
    finally:
        process.terminate()
        process.wait(30)

"""Workers and agents of a campaign, each kept alive as an orchestrator would: one that ends is started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.faults.history import History

__all__ = ["AGENT_READY", "JAAS_AGENT", "JAAS_WORKER", "NAIVE_WORKER", "READY", "Worker"]

REPO = Path(__file__).resolve().parents[2]

JAAS_WORKER = "from jaas_worker.app import worker_main; worker_main({arguments!r})"
NAIVE_WORKER = "from tests.faults.baseline import worker_main; worker_main({arguments!r})"

JAAS_AGENT = "import sys; from jaas_submit.cli.main import main; sys.argv[1:] = ['agent']; main()"

READY = " ready."
"""What Celery logs of a worker that is up."""

AGENT_READY = "following the containers on"
"""What an agent logs that has its node's lease."""

_RESTART_PAUSE = 1.0
"""Seconds between the end of a worker that nobody killed and its restart."""


class Worker:
    """One worker, or agent.

    Args:
        name: in the history, and the first part of its Celery node name.
        program: JAAS_WORKER, NAIVE_WORKER or JAAS_AGENT.
        env: its environment, on top of ours.
        folder: for its log.
        history: is told of starts and ends.
        ready: what it logs when it is up.
    """

    def __init__(
        self, name: str, program: str, env: dict[str, str], folder: Path, history: History, ready: str = READY
    ) -> None:
        self.name = name
        self.ready = ready
        self.clock = 0.0
        """Seconds by which its clock is ahead, from its next start on."""
        self._program = program.format(arguments=["--loglevel=INFO", f"--hostname={name}@lab"])
        self._env = env
        self.log = folder / f"{name}.log"
        self._history = history
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._expected = False
        self._hold_until = 0.0
        self._closed = False
        self._logged = 0
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{name}", daemon=True)

    def start(self) -> None:
        """Start it, and keep it alive from now on."""
        self._spawn()
        self._watcher.start()

    def _spawn(self) -> None:
        env = {**os.environ, **self._env, "PYTHONPATH": str(REPO), "PYTHONUNBUFFERED": "1"}
        clock = f"from tests.faults.clock import shift; shift({self.clock!r}); " if self.clock else ""
        with self.log.open("ab") as log:
            self._logged = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-c", clock + self._program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,  # a prefork worker is killed with its children, as a container would be
            )
        self._process = process
        self._history.add("worker", name=self.name, what="start", pid=process.pid, clock=self.clock)

    def _watch(self) -> None:
        while not self._closed:
            with self._lock:
                process = self._process
                if process is not None and process.poll() is not None:
                    self._process = None
                    log = self.log.read_bytes()[self._logged :].decode(errors="replace").rstrip()
                    self._history.add(
                        "worker",
                        name=self.name,
                        what="end",
                        pid=process.pid,
                        code=process.returncode,
                        expected=self._expected,
                        ready=self.ready in log,
                        said=log.rpartition("\n")[2][:300],
                    )
                    if not self._expected:
                        self._hold_until = time.monotonic() + _RESTART_PAUSE
                    self._expected = False
                if self._process is None and time.monotonic() >= self._hold_until and not self._closed:
                    self._spawn()
            time.sleep(0.05)

    def signal(self, number: int, *, ends: bool = False, down_for: float = 0.0) -> None:
        """Send a signal to the worker and its children.

        Args:
            number: the signal.
            ends: the worker is expected to end of it.
            down_for: seconds before it is started again.
        """
        with self._lock:
            if self._process is None:
                return
            if ends:
                self._expected = True
                self._hold_until = time.monotonic() + down_for
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGTERM:
                    self._process.send_signal(number)  # Celery's main process tells its children itself
                else:
                    os.killpg(self._process.pid, number)

    def wait_restarted(self, timeout: float, old: int | None) -> bool:
        """Wait until another process than ``old`` runs; False when the time is over."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.pid not in {None, old}:
                return True
            time.sleep(0.1)
        return False

    @property
    def pid(self) -> int | None:
        """Its process id; None while it is down."""
        process = self._process
        return process.pid if process is not None else None

    def close(self) -> None:
        """End it for good."""
        self._closed = True
        if self._watcher.is_alive():
            self._watcher.join(5)
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)
        self._history.add("worker", name=self.name, what="end", pid=process.pid, code=process.returncode, expected=True)

"""`jaas agent` in a process of its own, which a test may kill and start again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from jaas_submit.output import AgentLeases
from tests.support.wait import eventually
from tests.support.worker import Installation

__all__ = ["AgentProcess"]


class AgentProcess:
    """An agent of one node.

    Args:
        home: what it belongs to.
        host: DOCKER_HOST of the node's engine.
        network: path of the node's network namespace, where it reaches Redis and from which it is cut off with the
            node; empty for this process' own.
        settings: see ``Installation.environment``.
    """

    def __init__(self, home: Installation, host: str, network: str = "", **settings: object) -> None:
        self.home = home
        self.host = host
        self._network = [f"--net={network}"] if network else []
        self._settings = settings
        self._log = home.folder / f"agent-{Path(host).parent.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "the agent has not been started"
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that it has written, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def peak_memory(self) -> int:
        """The most memory that it has ever used, in bytes."""
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def launch(self) -> AgentProcess:
        """Start it (again) without waiting for anything."""
        enter = ["nsenter", *self._network] if self._network else []
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*enter, sys.executable, "-m", "jaas_submit.cli.main", "agent"],
                cwd=self.home.folder,
                env=self.home.environment(DOCKER_HOST=self.host, **self._settings),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def start(self, node_id: str) -> AgentProcess:
        """Start it (again) and wait until it has the node's lease.

        Args:
            node_id: the swarm's id of the node.
        """
        self.launch()
        leases = AgentLeases(self.home.ledger.client, self.home.prefix)

        def has_it() -> bool:
            lease = leases.get(node_id)
            return lease is not None and f"-{self.pid}-" in lease.holder

        eventually(has_it, 60, lambda: f"the agent to have the node's lease; its log:\n{self.log}")
        return self

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it with SIGTERM."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

"""What agents found of containers that have exited, for the worker that holds the job."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from jaas_submit.errors import EngineUnavailable
from jaas_submit.model.files.listing import OutputFiles
from jaas_submit.output import READING, FileRequest, WholeOutput, WholeOutputs
from jaas_submit.output.leases import AgentLease, AgentLeases
from jaas_worker.agent.files.collector import FileCollector
from jaas_worker.swarm.engine import ContainerRef

__all__ = ["AgentOutputs", "OwnAgent"]

_WAIT_S: Final = 0.2
"""Seconds to wait for the output of a container whose node has an agent: the swarm may report its exit first."""

_PAUSE_S: Final = 0.02

_LEASES_KEPT_S: Final = 5.0


class OwnAgent(Protocol):
    """The agent in this process; ``AgentThread`` says what each method does."""

    def start(self) -> None: ...
    def close(self) -> None: ...
    def output_of(self, container: ContainerRef, node_id: str, timeout: float) -> WholeOutput | None: ...


class AgentOutputs:
    """The outputs that agents found, and the agent in this process.

    Args:
        agent: of this node.
        outputs: of the other nodes' agents.
        leases: of all agents.
        holder: this process, in the leases.
        files: collects the files of ended containers.
    """

    def __init__(
        self, agent: OwnAgent, outputs: WholeOutputs, leases: AgentLeases, holder: str, files: FileCollector
    ) -> None:
        self._agent = agent
        self._outputs = outputs
        self._leases = leases
        self._holder = holder
        self._files = files
        self._stored: set[tuple[str, int]] = set()
        """What has to be deleted from Redis when it is in the ledger."""
        self._agents: dict[str, tuple[float, AgentLease | None]] = {}

    def start(self) -> None:
        """Start the agent."""
        self._agent.start()

    def close(self) -> None:
        """Stop the agent, and what waits for others."""
        self._files.close()
        self._agent.close()

    def collect(self, wanted: FileRequest, until: float, still_ours: Callable[[], bool]) -> OutputFiles | None:
        """Return an attempt's files, when they are in the store; see ``FileCollector.collect``."""
        return self._files.collect(wanted, until, still_ours)

    def collect_output(self, wanted: FileRequest, until: float, still_ours: Callable[[], bool]) -> str | None:
        """Store the beginning of what a container printed; see ``FileCollector.collect_output``."""
        if self._lease(wanted.node_id) is None:
            return "no agent follows the containers of its node"
        return self._files.collect_output(wanted, until, still_ours)

    def find(self, job_id: str, attempt: int, container_id: str, node_id: str, timeout: float) -> WholeOutput | None:
        """Return what an agent found of a container that has exited; None if none has found anything.

        Args:
            job_id: the job's id.
            attempt: which attempt.
            container_id: its container.
            node_id: the swarm's id of its node.
            timeout: seconds to wait for the agent in this process; 0 does not ask it.

        Raises:
            EngineUnavailable: the agent is still reading.
            LedgerUnavailable: Redis does not answer.
        """
        container = ContainerRef(container_id, job_id, attempt)
        own = self._agent.output_of(container, node_id, timeout) if timeout else None
        if own is not None:
            return own
        until = time.monotonic() + (_WAIT_S if self.expected(node_id) else 0.0)
        while True:
            found = self._outputs.get(job_id, attempt)
            if found is not None and found.container_id == container_id:
                if found.status == READING:
                    if self.expected(node_id):
                        raise EngineUnavailable("reading output: the agent of its node has not read all of it yet")
                    return None
                self._stored.add((job_id, attempt))
                return found
            if time.monotonic() >= until:
                return None
            time.sleep(_PAUSE_S)

    def expected(self, node_id: str) -> bool:
        """Return whether the agent of another process follows a node's containers.

        Args:
            node_id: the swarm's id of the node.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        lease = self._lease(node_id)
        return lease is not None and lease.holder != self._holder

    def log_driver(self, node_id: str) -> str:
        """Return the log driver of a node's engine; empty if no agent has told it.

        Args:
            node_id: the swarm's id of the node.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        lease = self._lease(node_id)
        return lease.log_driver if lease else ""

    def _lease(self, node_id: str) -> AgentLease | None:
        until, lease = self._agents.get(node_id, (0.0, None))
        if time.monotonic() >= until:
            lease = self._leases.get(node_id)
            self._agents[node_id] = (time.monotonic() + _LEASES_KEPT_S, lease)
        return lease

    def drop(self, job_id: str, attempt: int) -> None:
        """Delete what an agent found: it is in the ledger now.

        Args:
            job_id: the job's id.
            attempt: which attempt.

        Raises:
            LedgerUnavailable: Redis does not answer; Redis deletes it later.
        """
        if (job_id, attempt) in self._stored:
            self._outputs.delete(job_id, attempt)
            self._stored.discard((job_id, attempt))

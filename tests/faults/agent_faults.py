"""Faults of the agents that follow the nodes' containers: nothing but output and its speed may depend on them."""

from __future__ import annotations

import signal
from typing import Any, Final

from tests.faults.fault import Bench, Fault
from tests.faults.processes import Worker

__all__ = ["AGENT_FAULTS"]


class _AgentFault(Fault):
    lane = "agent"
    excuses = False

    def draw(self) -> None:
        self.parameters["agent"] = self.rng.randrange(3)

    def agent(self, bench: Bench) -> Worker:
        number: int = self.parameters["agent"]
        return bench.agents[number]


class AgentKill(_AgentFault):
    """SIGKILL in the middle of what it reads; it is started again."""

    weight = 3.0

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = self._time(0.2, 20)

    def inject(self, bench: Bench) -> dict[str, Any]:
        self.agent(bench).signal(signal.SIGKILL, ends=True, down_for=self.seconds)
        return {}


class AgentTerm(AgentKill):
    """SIGTERM, as in a rolling update."""

    weight = 1.0

    def inject(self, bench: Bench) -> dict[str, Any]:
        self.agent(bench).signal(signal.SIGTERM, ends=True, down_for=self.seconds)
        return {}


class AgentStop(_AgentFault):
    """SIGSTOP for less or for more than its lease, then SIGCONT: another process may follow the node by then."""

    weight = 2.0

    def draw(self) -> None:
        super().draw()
        self.parameters["seconds"] = self._time(5, 40)

    def inject(self, bench: Bench) -> dict[str, Any]:
        self.agent(bench).signal(signal.SIGSTOP)
        return {}

    def heal(self, bench: Bench) -> None:
        self.agent(bench).signal(signal.SIGCONT)


class AgentCut(_AgentFault):
    """It reaches Redis, its engine, or both no more."""

    weight = 2.0

    def draw(self) -> None:
        super().draw()
        self.parameters |= {"seconds": self._time(2, 40), "from": self.rng.choice(["redis", "engine", "both"])}

    def _refuse(self, bench: Bench, yes: bool) -> None:
        number, what = self.parameters["agent"], self.parameters["from"]
        if what != "engine":
            bench.agent_redis[number].refuse(yes)
        if what != "redis":
            bench.agent_engines[number].refuse(yes)

    def inject(self, bench: Bench) -> dict[str, Any]:
        self._refuse(bench, True)
        return {}

    def heal(self, bench: Bench) -> None:
        self._refuse(bench, False)


class AgentSilence(_AgentFault):
    """All of its connections to Redis go dead without a word, for ever; new ones work."""

    def inject(self, bench: Bench) -> dict[str, Any]:
        return {"connections": bench.agent_redis[self.parameters["agent"]].silence()}


AGENT_FAULTS: Final[dict[str, type[Fault]]] = {
    "agent_kill": AgentKill,
    "agent_term": AgentTerm,
    "agent_stop": AgentStop,
    "agent_cut": AgentCut,
    "agent_silent": AgentSilence,
}
"""By name."""

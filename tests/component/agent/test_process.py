"""An agent on a thread of its own: a real Redis, and the engine in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from jaas_submit.ledger import Ledger
from jaas_worker.agent import process
from jaas_worker.agent.node_engine import NodeEvent
from jaas_worker.agent.process import AgentSettings, AgentThread
from jaas_worker.settings import Settings
from tests.support.fake_node import FakeNode
from tests.support.wait import eventually


class _Broken(FakeNode):
    """Its first stream of events holds something that nobody has thought of."""

    async def events(self, label: str) -> AsyncGenerator[NodeEvent | None, None]:
        if not self.calls["events"]:
            self._called("events")
            raise RuntimeError("unexpected (test)")
        async for event in super().events(label):
            yield event


def test_an_agent_that_has_failed_starts_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    node = _Broken()
    monkeypatch.setattr(process, "DockerNode", lambda *_: node)
    settings = AgentSettings.of(Settings(redis_url="redis://unused", prefix=ledger.prefix))
    thread = AgentThread(settings, ledger.client, "holder", again=0.02)
    thread.start()
    try:
        eventually(lambda: node.calls["containers"], what="the agent to follow the node")
    finally:
        thread.close()

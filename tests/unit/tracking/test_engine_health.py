"""A worker detects that its engine is unhealthy, and that it has recovered."""

from __future__ import annotations

import logging

import pytest

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_worker.tracking.engine_health import EngineHealth
from tests.support.fake_swarm import FakeSwarm


@pytest.mark.parametrize(
    "error", [EngineUnavailable("the swarm does not have a leader"), EngineRefused("this node is not a swarm manager")]
)
def test_each_change_is_told_once_and_logged_once(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    engine, told = FakeSwarm(), list[bool]()
    watch = EngineHealth(engine, 1.0, told.append)
    caplog.set_level(logging.INFO)

    watch.look()
    assert (watch.away, told) == ("", [])

    engine.fail("down_nodes", times=2, error=error)
    watch.look()
    watch.look()
    assert (watch.away, told) == (str(error), [True])

    watch.look()
    watch.look()
    assert (watch.away, told) == ("", [True, False])
    actions = [getattr(record, "action", None) for record in caplog.records]
    assert actions == ["engine.unavailable", "engine.available"]

"""What an agent forwards, and which outages it survives: a real ledger, and the engine in memory."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jaas_submit.errors import EngineUnavailable, LedgerUnavailable
from jaas_submit.ledger import Ledger
from jaas_submit.ledger.ownership import Ownership
from jaas_submit.model.job_spec import JobSpec
from jaas_worker.agent.agent import Agent
from jaas_worker.swarm.engine import EngineEvent, SwarmInfo
from tests.support.fake_swarm import FakeSwarm
from tests.support.wait import eventually

PATIENCE = 30.0
HOLDER = "somebody"


def end(**changes: Any) -> EngineEvent:
    """Return what an engine says of a container of job "j" that has just ended."""
    event = EngineEvent("die", "s", "t", "j", "c", 3, datetime.now(UTC).isoformat())
    return event._replace(**changes)


@pytest.fixture
def engine() -> Iterator[FakeSwarm]:
    made = FakeSwarm()
    yield made
    made.close()


@pytest.fixture
def tell(ledger: Ledger, engine: FakeSwarm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[EngineEvent], None]]:
    """Return a function that has an agent receive an event. A worker holds job "j"."""
    ledger.submission.create("j", JobSpec(image="a"), "q")
    ledger.maintenance.renew_lease(HOLDER, 60, {})
    ledger.ownership.claim("j", HOLDER)
    listener = Agent(ledger, engine, retry_pause=0.01, stale_after=600.0)

    def listen() -> None:
        with contextlib.suppress(SystemExit):
            listener.run()

    thread = threading.Thread(target=listen)
    thread.start()

    def hear(event: EngineEvent) -> None:
        eventually(lambda: engine.listeners, PATIENCE, "the listener to follow events")
        for one in engine.listeners:
            one.put(event)

    yield hear

    def over() -> SwarmInfo:
        raise SystemExit

    monkeypatch.setattr(engine, "info", over)
    eventually(lambda: engine.listeners, PATIENCE, "the listener to follow events")
    engine.listeners[0].put(None)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def heard(ledger: Ledger, tell: Callable[[EngineEvent], None], *events: EngineEvent) -> list[str]:
    """Return the container ids of the events that the holder receives. A last event marks the end."""
    with ledger.ownership.exits_for(HOLDER) as told:
        for event in (*events, end(container_id="last")):
            tell(event)
        found: list[str] = []
        while "last" not in found:
            text = told.next(PATIENCE)
            assert text is not None, found
            found.append(EngineEvent(**json.loads(text)).container_id)
    return found[:-1]


LONG_AGO = (datetime.now(UTC) - timedelta(hours=1)).isoformat()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, True),
        ({"exit_code": 0}, True),
        ({"kind": "start", "exit_code": None}, False),
        ({"job_id": ""}, False),
        ({"job_id": "unknown"}, False),
        ({"exit_code": None}, False),
        ({"at": ""}, False),
        ({"at": LONG_AGO}, False),  # the swarm has told
    ],
)
def test_the_holder_is_told_of_ends_of_jobs(
    changes: dict[str, object], told: bool, ledger: Ledger, tell: Callable[[EngineEvent], None]
) -> None:
    assert heard(ledger, tell, end(container_id="one", **changes)) == (["one"] if told else [])


def test_an_engine_that_was_away_is_listened_to_again(
    ledger: Ledger, engine: FakeSwarm, tell: Callable[[EngineEvent], None], caplog: pytest.LogCaptureFixture
) -> None:
    eventually(lambda: engine.listeners, PATIENCE, "the listener to follow events")
    with caplog.at_level(logging.INFO):
        assert heard(ledger, tell) == []
        (before,) = engine.listeners
        engine.fail("info", times=3, error=EngineUnavailable("no answer (test)"))
        before.put(None)
        eventually(lambda: [one for one in engine.listeners if one is not before], PATIENCE, "it to listen anew")
        assert heard(ledger, tell) == []
    assert actions(caplog) == ["engine.unavailable", "agent.forwarding"], "an outage is told once"


def test_an_engine_without_events_is_told_of_once(
    ledger: Ledger, engine: FakeSwarm, tell: Callable[[EngineEvent], None], caplog: pytest.LogCaptureFixture
) -> None:
    eventually(lambda: engine.listeners, PATIENCE, "the listener to follow events")
    (before,) = engine.listeners
    engine.fail("events", times=5, error=EngineUnavailable("no such path (test)"))
    with caplog.at_level(logging.INFO):
        before.put(None)
        eventually(lambda: [one for one in engine.listeners if one is not before], PATIENCE, "it to listen anew")
    assert actions(caplog) == ["engine.unavailable"]


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what an agent has logged."""
    return [getattr(record, "action", "") for record in caplog.records if record.name == "jaas_worker.agent.agent"]


def test_a_redis_that_is_away_ends_nothing_and_is_told_of_once(
    ledger: Ledger,
    engine: FakeSwarm,
    tell: Callable[[EngineEvent], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    really, asked, failed = Ownership.forward_exit, [], threading.Event()

    def refuse(*_: object) -> bool:
        asked.append(1)
        if len(asked) == 2:
            monkeypatch.setattr("jaas_submit.ledger.ownership.Ownership.forward_exit", really)
            failed.set()
        raise LedgerUnavailable("no answer (test)")

    monkeypatch.setattr("jaas_submit.ledger.ownership.Ownership.forward_exit", refuse)
    eventually(lambda: engine.listeners, PATIENCE, "the listener to follow events")
    with caplog.at_level(logging.INFO):
        tell(end())
        tell(end())
        assert failed.wait(PATIENCE)
        assert heard(ledger, tell) == []
        eventually(
            lambda: actions(caplog) == ["redis.unavailable", "agent.forwarding"], PATIENCE, lambda: actions(caplog)
        )

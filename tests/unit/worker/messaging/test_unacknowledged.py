"""Messages whose acknowledgement Redis refuses. tests/faults/test_transport.py has the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis.exceptions

from jaas_worker.messaging.unacknowledged import QoS

WRONG = redis.exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


def refused(*_: Any, **__: Any) -> Any:
    raise WRONG


@pytest.mark.parametrize(
    "settle",
    [lambda qos: qos.ack("tag"), lambda qos: qos.reject("tag"), lambda qos: qos.reject("tag", requeue=True)],
    ids=["ack", "reject", "requeue"],
)
def test_a_message_that_redis_does_not_settle_is_left_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, settle: Callable[[QoS], None]
) -> None:
    left: list[str] = []
    qos = QoS.__new__(QoS)
    qos.in_ledger = set()
    qos.channel = SimpleNamespace(ResponseError=redis.exceptions.ResponseError)
    monkeypatch.setattr(qos, "leave", left.append, raising=False)
    monkeypatch.setattr(qos, "_remove_from_indices", lambda _: SimpleNamespace(execute=refused), raising=False)
    monkeypatch.setattr(qos, "restore_by_tag", refused, raising=False)

    with caplog.at_level(logging.WARNING):
        settle(qos)

    assert left == ["tag"]
    assert "stays noted as unacknowledged: WRONGTYPE" in caplog.text

"""A message that is refused is recorded as a failed job, whatever else fails, and the worker continues."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jaas_submit.errors import LedgerUnavailable
from jaas_worker.messaging import consumer
from jaas_worker.messaging.message_checks import DEFECT
from jaas_worker.telemetry.log_actions import Action


class Refusing:
    """A consumer as far as refusing goes, and a message for it.

    Args:
        errors: what recording raises, call by call; None where it works.
        told: what Celery's backend raises.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *errors: Exception | None, told: Exception | None = None
    ) -> None:
        self.calls: list[tuple[str, str]] = []
        self.errors = list(errors)
        self.left: list[str] = []
        self.in_ledger: set[str] = set()
        self.acknowledged = 0
        monkeypatch.setattr(consumer, "record_refusal", self.record)
        made = consumer.Consumer.__new__(consumer.Consumer)
        made.app = SimpleNamespace(
            backend=SimpleNamespace(mark_as_failure=lambda *_: self.told(told)),
            jaas=SimpleNamespace(settings=SimpleNamespace(queue="jobs")),
        )
        made.event_dispatcher = None
        made.connection_errors = (OSError,)
        self.made = made

    @staticmethod
    def told(error: Exception | None) -> None:
        if error:
            raise error

    def record(self, _app: object, task_id: str, _queue: str, reason: str, *, has_record: bool = False) -> bool:
        assert has_record is bool(self.in_ledger)
        self.calls.append((task_id, reason))
        reason.encode()
        if error := self.errors.pop(0):
            raise error
        return True

    def refuse(self, reason: str) -> None:
        message: Any = SimpleNamespace(
            headers={"id": "t1", DEFECT: "bad"},
            delivery_info={"routing_key": "jobs"},
            delivery_tag="tag",
            channel=SimpleNamespace(qos=SimpleNamespace(leave=self.left.append, in_ledger=self.in_ledger)),
            ack_log_error=self.acknowledge,
        )
        self.made.on_invalid_task(None, message, ValueError(reason))

    def acknowledge(self, *_: object) -> None:
        self.acknowledged += 1


def test_half_a_character_in_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Refusing(monkeypatch, None)

    refusing.refuse("task \ud800" + "x" * 10_000)

    assert refusing.calls[0][1].startswith("the message is not valid: task \\ud800xx")
    assert (len(refusing.calls[0][1]) < 500, refusing.acknowledged) == (True, 1)


def test_a_message_that_has_a_record_already_is_refused_under_that(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Refusing(monkeypatch, None)
    refusing.in_ledger.add("tag")

    refusing.refuse("Celery cannot handle it")

    assert (refusing.calls[0][0], refusing.acknowledged) == ("t1", 1)


def test_what_cannot_be_recorded_under_its_id_is_recorded_under_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusing = Refusing(monkeypatch, TypeError("whatever"), None)

    refusing.refuse("bad")

    assert refusing.calls == [("t1", "the message is not valid: bad"), ("", "a message could not be read")]
    assert (refusing.acknowledged, refusing.left) == (1, [])
    assert {record.__dict__.get("action") for record in caplog.records} == {Action.JOB_REFUSED}


@pytest.mark.parametrize("first", [[], [ValueError("whatever")]])
def test_without_redis_it_comes_again(monkeypatch: pytest.MonkeyPatch, first: list[Exception]) -> None:
    refusing = Refusing(monkeypatch, *first, LedgerUnavailable("away"))

    refusing.refuse("bad")

    assert (refusing.acknowledged, refusing.left) == (0, ["tag"])


def test_a_backend_that_does_not_take_it_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusing = Refusing(monkeypatch, None, told=RuntimeError("full"))

    refusing.refuse("bad")

    assert refusing.acknowledged == 1
    assert "could not be reported to Celery" in caplog.text

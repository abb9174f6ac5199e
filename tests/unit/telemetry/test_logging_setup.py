"""The worker's log: one JSON object a line, the job on each line about one, and no secret in any."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

import jaas_worker
from jaas_worker.telemetry.log_actions import Action, about, action
from jaas_worker.telemetry.logging_setup import formatter, mask


class Log:
    """A logger with our formatter, and what it wrote."""

    def __init__(self, kind: Literal["json", "console"]) -> None:
        self._stream = io.StringIO()
        self._handler = logging.StreamHandler(self._stream)
        self._handler.setFormatter(formatter(kind))
        self.logger = logging.getLogger(f"test.{kind}")
        self.logger.propagate = False
        self.logger.setLevel(logging.DEBUG)
        self.logger.handlers[:] = [self._handler]

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def line(self) -> dict[str, Any]:
        (line,) = self.text.splitlines()
        fields: dict[str, Any] = json.loads(line)
        return fields


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log("json")
    yield made
    made.logger.handlers.clear()


@pytest.fixture
def console() -> Iterator[Log]:
    made = Log("console")
    yield made
    made.logger.handlers.clear()


JOB = SimpleNamespace(job_id="j-1", attempt=2)


def test_a_line_is_one_json_object_with_stable_keys(log: Log) -> None:
    log.logger.warning("it %s", "broke", extra=action(Action.STEP_REPEATED, service="s"))
    line = log.line
    assert list(line)[:4] == ["timestamp", "level", "event", "action"]
    assert line | {"timestamp": ""} == {
        "timestamp": "",
        "level": "warning",
        "event": "it broke",
        "action": "step.repeated",
        "service": "s",
        "logger": "test.json",
    }


def test_a_line_about_a_job_has_its_id_and_attempt(log: Log) -> None:
    with about(JOB):
        log.logger.info("x")
    assert (log.line["job_id"], log.line["attempt"]) == ("j-1", 2)


def test_what_comes_after_the_job_is_not_about_it(log: Log) -> None:
    with pytest.raises(ZeroDivisionError), about(JOB):
        raise ZeroDivisionError
    log.logger.info("x")
    assert "job_id" not in log.line


def test_the_attempt_is_the_one_of_that_moment(log: Log) -> None:
    job = SimpleNamespace(job_id="j-1", attempt=1)
    with about(job):
        job.attempt = 7
        log.logger.info("x")
    assert log.line["attempt"] == 7


def test_an_id_given_with_the_line_wins(log: Log) -> None:
    with about(JOB):
        log.logger.info("x", extra=action(Action.JOB_REFUSED, job_id="other"))
    assert log.line["job_id"] == "other"


@pytest.mark.parametrize(
    ("message", "job_id"),
    [
        ("Task jaas.run[3f3b8f8e-0f0c-4c53-9d9c-2f3f8e0f0c4c] received", "3f3b8f8e-0f0c-4c53-9d9c-2f3f8e0f0c4c"),
        ("Discarding revoked task: jaas.run[abc]", "abc"),
        ("Task their.task[abc] received", None),
        ("nothing", None),
    ],
)
def test_celerys_own_lines_about_a_job_have_its_id(log: Log, message: str, job_id: str | None) -> None:
    log.logger.info("%s", message)
    assert log.line.get("job_id") == job_id
    assert log.line.get("attempt") == (None if job_id is None else 0)


def test_a_line_about_a_service_that_nobody_holds_says_which_attempt_it_is(log: Log) -> None:
    log.logger.info("x", extra=action(Action.SERVICE_REMOVED, job_id="j-1", service="jaas-j-1-12"))
    assert (log.line["job_id"], log.line["attempt"]) == ("j-1", 12)


def test_celerys_data_is_left_out(log: Log) -> None:
    log.logger.info("Task %(name)s received", {"name": "x"}, extra={"data": {"args": "secret"}})
    assert log.line["event"] == "Task x received"
    assert "secret" not in log.text


URLS = [
    ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
    ("redis://user:p/w:x@host/0 and rediss://u:pw@h", "redis://user:***@host/0 and rediss://u:***@h"),
    ("redis://host:6379/0", "redis://host:6379/0"),
    ("redis://user@host/0", "redis://user@host/0"),
    ("mail me@there", "mail me@there"),
    ("rediss://h/0?ssl_password=pw&ssl_certfile=c", "rediss://h/0?ssl_password=***&ssl_certfile=c"),
    ("s3://b/x?client_secret=pw and more", "s3://b/x?client_secret=*** and more"),
]


@pytest.mark.parametrize(("text", "masked"), URLS)
def test_passwords_in_urls_are_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("a://b:c@d@e://f:g", "a://b:***@d@e://f:g"),
        ("x a://b:c@d,a://b:c@d y", "x a://b:***@d,a://b:***@d y"),
        ("a://b:c d@e", "a://b:c d@e"),
    ],
)
def test_masking_ends_at_the_next_at_sign(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize("kind", ["json", "console"])
def test_a_traceback_has_no_password(kind: Literal["json", "console"]) -> None:
    log = Log(kind)
    try:
        int("redis://:sesame@host")
    except ValueError:
        log.logger.exception("no: redis://:sesame@host")
    assert "sesame" not in log.text
    assert "Traceback" in log.text


def test_a_traceback_is_one_field_of_one_line(log: Log) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.logger.exception("no")
    assert log.line["exception"].endswith("ZeroDivisionError: division by zero")


def test_for_people_a_traceback_looks_as_python_prints_it(console: Log) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        console.logger.exception("no", extra=action(Action.STEP_FAILED))
    assert "\nTraceback (most recent call last):\n" in console.text
    assert "action=step.failed" in console.text


def test_what_json_does_not_know_becomes_text(log: Log) -> None:
    log.logger.info("x", extra={"thing": Path("/a"), "umlaut": "ä"})
    assert log.line["thing"] == "/a"
    assert '"ä"' in log.text


def test_each_line_of_ours_that_matters_has_an_action() -> None:
    """Whoever writes a new warning must say which action it is."""
    missing = []
    for path in Path(jaas_worker.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=level)) if level != "debug":
                    if not any(keyword.arg == "extra" for keyword in node.keywords):
                        missing.append(f"{path.name}:{node.lineno}")
    assert not missing


def test_each_action_is_used() -> None:
    text = "".join(path.read_text() for path in Path(jaas_worker.__file__).parent.rglob("*.py"))
    assert [name for name in Action.__members__ if f"Action.{name}" not in text] == []

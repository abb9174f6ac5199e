"""The worker's settings: from the environment, checked at the start, and no password shown."""

from __future__ import annotations

import ast
import inspect
import os
from itertools import pairwise
from pathlib import Path

import pytest

from jaas_submit.connection.url import default_url
from jaas_submit.errors import SpecError
from jaas_worker.settings import Settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("JAAS_", "DOCKER_", "CELERY_")):
            monkeypatch.delenv(name)


def test_the_defaults_are_valid() -> None:
    settings = Settings()
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.docker_host == "unix:///var/run/docker.sock"
    assert (settings.prefix, settings.queue) == ("jaas", "jaas")


# Variables; the setting; its value.
GOOD: list[tuple[dict[str, str], str, object]] = [
    ({"JAAS_MAX_IN_FLIGHT": "5"}, "max_in_flight", 5),
    ({"JAAS_POLL_INTERVAL": "50ms"}, "poll_interval", 0.05),
    ({"JAAS_LEASE": "1m30s"}, "lease", 90),
    ({"JAAS_LOG_LIMIT": "2M"}, "log_limit", 2 * 1024**2),
    ({"JAAS_RESULT_LOG_LIMIT": "0"}, "result_log_limit", 0),
    ({"JAAS_TAKE_DEFAULT_QUEUE": "false"}, "take_default_queue", False),
    ({"JAAS_REDIS_URL": "redis://h:1/2"}, "redis_url", "redis://h:1/2"),
    ({"CELERY_BROKER_URL": "redis://h:1/3"}, "redis_url", "redis://h:1/3"),
    ({"CELERY_BROKER_URL": "redis://h:1/3", "JAAS_REDIS_URL": "redis://h:1/2"}, "redis_url", "redis://h:1/2"),
    ({"DOCKER_HOST": "tcp://h:2375"}, "docker_host", "tcp://h:2375"),
    ({"DOCKER_HOST": "tcp://h:2375", "JAAS_DOCKER_HOST": "tcp://i:2375"}, "docker_host", "tcp://i:2375"),
    ({"JAAS_CAPABILITIES": "CHOWN"}, "capabilities", ("CHOWN",)),
    ({"JAAS_INIT": "true"}, "init", True),
    ({"JAAS_NO_NEW_PRIVILEGES": "false"}, "no_new_privileges", False),
    ({"JAAS_NO_SUCH_SETTING": "1"}, "queue", "jaas"),
]


@pytest.mark.parametrize(("variables", "name", "value"), GOOD)
def test_a_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str, value: object
) -> None:
    for variable, text in variables.items():
        monkeypatch.setenv(variable, text)
    assert getattr(Settings(), name) == value


BAD: list[tuple[str, str]] = [
    ("JAAS_MAX_IN_FLIGHT", "0"),
    ("JAAS_MAX_IN_FLIGHT", "many"),
    ("JAAS_MAX_STARTING", "-1"),
    ("JAAS_LEASE", "0"),
    ("JAAS_LEASE", "soon"),
    ("JAAS_POLL_INTERVAL", "0"),
    ("JAAS_LOG_LIMIT", "10"),
    ("JAAS_LOG_LIMIT", "1 lot"),
    ("JAAS_PREFIX", ""),
    ("JAAS_PREFIX", "a b"),
    ("JAAS_PREFIX", "a:b"),
    ("JAAS_QUEUE", "a,b"),
    ("JAAS_TAKE_DEFAULT_QUEUE", "perhaps"),
    ("JAAS_RECORD_TTL", "1s"),
]


@pytest.mark.parametrize(("variable", "text"), BAD)
def test_a_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(SpecError) as caught:
        Settings()
    assert str(caught.value).startswith(f"{variable}: ")
    assert caught.value.field == variable.removeprefix("JAAS_").lower()


def test_the_url_may_be_kept_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://:hunter2@h:1/0\n")
    monkeypatch.setenv("JAAS_REDIS_URL_FILE", str(tmp_path / "url"))
    assert Settings().redis_url == "redis://:hunter2@h:1/0"
    monkeypatch.setenv("JAAS_REDIS_URL", "redis://other:1/0")
    assert Settings().redis_url == default_url() == "redis://:hunter2@h:1/0", "producers and workers take the same"
    assert Settings(redis_url="redis://given:1/0").redis_url == "redis://given:1/0"
    monkeypatch.setenv("JAAS_REDIS_URL_FILE", str(tmp_path / "no-such-file"))
    with pytest.raises(SpecError, match=r"JAAS_REDIS_URL_FILE: .*no-such-file"):
        Settings()


def test_passwords_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAAS_REDIS_URL", "redis://:hunter2@h:1/0")
    monkeypatch.setenv("DOCKER_HOST", "tcp://user:hunter2@h:2375")
    assert "hunter2" not in f"{Settings()!r} {Settings()}"
    monkeypatch.setenv("JAAS_LEASE", "hunter2")
    with pytest.raises(SpecError) as caught:
        Settings()
    assert "hunter2" not in str(caught.value)


def test_every_setting_is_documented() -> None:
    # The reason for a default stands below it, in the source: read by people and by the docs.
    body = ast.parse(inspect.getsource(Settings)).body[0].body  # type: ignore[attr-defined] # it is a class
    silent = [
        node.target.id
        for node, after in pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]
    assert silent == []


@pytest.mark.parametrize("text", ["maybe", "2", ""])
def test_a_truth_value_that_is_none_is_refused_in_words(text: str) -> None:
    with pytest.raises(SpecError) as refused:
        Settings(redis_url="redis://redis", traces=text)
    assert str(refused.value) == "JAAS_TRACES: must be true or false"

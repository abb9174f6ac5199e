"""The settings of an agent, and what it does without."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jaas_submit.errors import SpecError
from jaas_worker.agent.process import AgentSettings, read_apart
from jaas_worker.settings import Settings


def test_they_are_those_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAAS_REDIS_URL", "redis://:hunter2@r:1/0")
    monkeypatch.setenv("JAAS_PREFIX", "other")
    monkeypatch.setenv("JAAS_LOG_LIMIT", "2M")
    found = read_apart()
    assert found == AgentSettings.of(Settings())
    assert (found.redis_url, found.prefix, found.log_limit) == ("redis://:hunter2@r:1/0", "other", 2 * 2**20)
    assert "hunter2" not in repr(found)


def test_a_setting_that_is_not_valid_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAAS_LOG_LIMIT", "plenty")
    with pytest.raises(SpecError, match="JAAS_LOG_LIMIT") as refused:
        read_apart()
    with pytest.raises(SpecError) as direct:
        Settings()
    assert (str(refused.value), refused.value.field) == (str(direct.value), direct.value.field)


def test_an_agent_alone_loads_no_package_that_it_can_do_without() -> None:
    """Each of these would add some 5 to 10 MB to a process on every node."""
    heavy = "celery", "docker", "kombu", "pydantic", "requests", "rich"
    text = f"import sys, jaas_worker.agent.process; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", text], text=True) == "[]\n"

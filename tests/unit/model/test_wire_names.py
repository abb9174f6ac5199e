"""Job ids and service names."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.model.wire_names import job_id_of, service_name

SERVICE_NAME = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")
"""What swarmkit accepts (manager/controlapi/common.go), with at most 63 characters."""

ODD = [
    "",
    "A",
    "a b",
    "a/b",
    "a_b",
    "a.b",
    "-a",
    "a-",
    "ä",
    "a\n",
    "a" * 53,
    "x" * 1000,
    "1:2",
    "\x00",
    "😀",
    "a" * 51 + "-",
]


@pytest.mark.parametrize("task_id", ["a", "0", "a-b", "a" * 52, str(uuid.UUID(int=1)), uuid.UUID(int=1).hex])
def test_a_plain_task_id_is_the_job_id(task_id: str) -> None:
    assert job_id_of(task_id) == task_id


@pytest.mark.parametrize("task_id", ODD, ids=repr)
def test_an_odd_task_id_becomes_a_uuid_that_is_always_the_same(task_id: str) -> None:
    job_id = job_id_of(task_id)
    assert str(uuid.UUID(job_id)) == job_id
    assert job_id_of(task_id) == job_id


def test_odd_task_ids_do_not_collide() -> None:
    assert len({job_id_of(task_id) for task_id in ODD}) == len(ODD)


@given(st.text(), st.integers(1, 99_999))
def test_any_task_id_gives_a_service_name_that_the_swarm_accepts(task_id: str, attempt: int) -> None:
    name = service_name(job_id_of(task_id), attempt)
    assert SERVICE_NAME.fullmatch(name)
    assert len(name) <= 63


def test_attempts_have_names_of_their_own() -> None:
    assert service_name("j", 1) == "jaas-j-1"
    assert service_name("j", 12) == "jaas-j-12"

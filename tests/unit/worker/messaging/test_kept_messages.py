"""The message of a job that the ledger gave to this worker, even if the record's own copy of it is unusable."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import JobRecord
from jaas_submit.model.states import JobState
from jaas_worker.messaging.kept_messages import TAKEN_OVER, follow_up_of, foreign_job, message_for, message_to_json
from jaas_worker.messaging.message_checks import DEFECT

AT = datetime(2026, 11, 23, tzinfo=UTC)
RECORD = JobRecord(
    id="i", task_id="i", state=JobState.QUEUED, queue="q", spec=JobSpec(image="a"), created_at=AT, updated_at=AT
)
HEADERS = {"id": "i", "task": "jaas.run", "group": "g"}
BODY = json.dumps([[], {"spec": {"image": "a"}}, {"callbacks": None}])


def kept(**changed: Any) -> str:
    return json.dumps({**json.loads(message_to_json(HEADERS, BODY, {"correlation_id": "i"})), **changed})


def test_a_good_one_is_the_very_same() -> None:
    message = message_for(RECORD, kept())

    assert message.headers["group"] == "g"
    assert message.headers[TAKEN_OVER]
    assert message.payload == json.loads(BODY)
    assert DEFECT not in message.headers


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        kept(body="é"),
        kept(body=base64.b64encode(b"[" * 100_000).decode()),
        kept(body=base64.b64encode(b"\xff").decode()),
        kept(body=base64.b64encode(b"[1]").decode()),
        kept(headers=[]),
        kept(headers={**HEADERS, "id": ["i"]}),
        kept(headers={**HEADERS, "id": "another's"}),
        kept(headers={**HEADERS, "task": "other"}),
        kept(headers={**HEADERS, "retries": "x"}),
        kept(properties={"content_type": "x"}),
        kept(properties={"content_type": "application/x-python-serialize"}),
        kept(properties={"content_encoding": 1}),
    ],
)
def test_a_damaged_one_is_made_from_the_record_and_says_so(text: str) -> None:
    message = message_for(RECORD, text)

    assert (message.headers["id"], message.headers["task"]) == ("i", "jaas.run")
    assert message.headers[DEFECT].startswith("the message in its record is damaged: ")
    assert len(message.headers[DEFECT]) < 200
    assert message.payload


@pytest.mark.parametrize("text", ["", kept(headers={**HEADERS, "id": "another's"})])
def test_a_record_with_another_job_s_task_id_ends_as_a_job_of_its_own(text: str) -> None:
    message = message_for(RECORD.model_copy(update={"task_id": "another's"}), text)

    assert message.headers["id"] == "i"  # not the other job's, which would be claimed in its place
    assert message.headers[DEFECT] == "its record has the task id of another job"


# -- the job of a foreign producer's message --------------------------------------------------------------------------


def sent(headers: dict[str, Any], payload: Any, **properties: Any) -> Any:
    return SimpleNamespace(headers=headers, body=json.dumps(payload), properties=properties)


PAYLOAD = [[], {"spec": {"image": "a"}}, {"callbacks": [{"task": "t"}]}]
NOON = datetime(2030, 1, 31, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (None, None),
        ("2030-01-31T12:00:00+00:00", NOON),
        ("2030-01-31T12:00:00Z", NOON),
        ("2030-01-31T13:00:00+01:00", NOON),
        ("2030-01-31T12:00:00", NOON),  # without a time zone it is UTC, as in Celery
    ],
)
def test_times_of_a_message(text: str | None, time: float | None) -> None:
    job = foreign_job(sent({**HEADERS, "eta": text, "expires": text}, PAYLOAD), PAYLOAD, "q")
    assert (job.not_before, job.expires_at) == (time, time)


@pytest.mark.parametrize(
    ("priority", "kept_priority"),
    [(0, 0), (9, 9), (255, 255), (256, None), (-1, None), ("high", None), (None, None), (10**9, None), (1.5, None)],
)
def test_the_priority_of_a_message_is_kept(priority: Any, kept_priority: int | None) -> None:
    assert foreign_job(sent(HEADERS, PAYLOAD, priority=priority), PAYLOAD, "q").celery_priority == kept_priority


def test_a_message_of_version_1_is_kept_as_one_of_version_2() -> None:
    fields = {"id": "i", "task": "jaas.run", "args": [], "kwargs": {"spec": {"image": "a"}}, "taskset": "g"}
    payload = {**fields, "callbacks": [{"task": "t"}], "eta": "2030-01-31T12:00:00+00:00", "retries": 0}
    job = foreign_job(sent({}, payload), payload, "q")
    assert (job.job_id, job.spec, job.not_before) == ("i", JobSpec(image="a"), NOON)

    message = message_for(RECORD, job.message)

    assert DEFECT not in message.headers
    assert message.headers["group"] == "g"
    assert message.payload[1] == {"spec": {"image": "a"}}
    assert json.loads(follow_up_of(job.message)) == ["g", {"callbacks": [{"task": "t"}]}]


def test_a_job_without_a_valid_description_waits_for_nothing() -> None:
    payload = [[], {"spec": {"image": ""}}, {}]
    time = "2030-01-31T12:00:00+00:00"
    job = foreign_job(sent({**HEADERS, "eta": time, "expires": time}, payload), payload, "q")
    assert (job.spec, job.not_before, job.expires_at) == (None, None, None)
    assert job.message

"""The message of a job that the ledger gave to this worker, even if the record's own copy of it is unusable."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import JobRecord
from jaas_submit.model.states import JobState
from jaas_worker.messaging.kept_messages import TAKEN_OVER, message_for, message_to_json
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

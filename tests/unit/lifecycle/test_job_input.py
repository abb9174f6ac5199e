"""A job's input: mounted, placed in a config, or named by a URL, and gathered from the outputs of others."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from jaas_submit import JobRecord, JobSpec, JobState
from jaas_submit.errors import EngineRefused
from jaas_submit.ledger import Ledger
from jaas_submit.model.fields import Gather
from jaas_submit.model.ids import batch_job_id
from jaas_submit.storage.store import Store
from jaas_worker.lifecycle.job_input import CONFIG_LIMIT, NOTHING, input_file

BATCH = "00000000-0000-0000-0000-000000000001"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/store", "p", lambda: "s")


def ledger_with(outputs: list[Any]) -> Ledger:
    records = {
        batch_job_id(BATCH, index): JobRecord(
            id=batch_job_id(BATCH, index),
            state=JobState.SUCCEEDED,
            queue="q",
            created_at=NOON,
            updated_at=NOON,
            index=index,
            output=output,
        )
        for index, output in enumerate(outputs)
    }
    made: Ledger = mock.create_autospec(Ledger, queries=mock.Mock())

    def gathered(batch_id: str, first: int, count: int) -> list[JobRecord]:
        ids = [batch_job_id(batch_id, index) for index in range(first, first + count)]
        return [records[one] for one in ids if one in records]

    mock.patch.object(made.queries, "gathered", gathered).start()
    return made


def gather(count: int, first: int = 0) -> JobSpec:
    return JobSpec(image="a", gather=Gather(batch=BATCH, first=first, count=count))


def test_an_input_by_reference_is_mounted_from_a_file_system(store: Store, tmp_path: Path) -> None:
    reference = store.write("j", "input.json", [b"1"])
    placed = input_file(JobSpec(image="a", input=reference), ledger_with([]).queries, store, "j", 1)
    assert placed == ("/run/jaas/input.json", b"", str(tmp_path / "store/p/j/input.json"))
    foreign = {"$ref": "file:///etc/passwd", "bytes": 1}
    placed = input_file(JobSpec(image="a", input=foreign), ledger_with([]).queries, store, "j", 1)
    assert placed == ("/run/jaas/input.json", json.dumps(foreign).encode(), "")


def test_an_input_by_reference_is_a_url_elsewhere() -> None:
    store = Store("memory://bucket/jaas", "p", lambda: "s")
    reference = store.write("j", "input.json", [b"1"])
    assert reference["$ref"] == "memory://bucket/jaas/p/j/input.json"
    placed = input_file(JobSpec(image="a", input=reference), ledger_with([]).queries, store, "j", 1)
    assert placed == (reference["$ref"], b"", "")
    assert store.read(reference) == b"1"
    assert store.remove(["j"]) == 1


def test_outputs_by_reference_are_resolved_for_a_reduce(store: Store) -> None:
    large = store.write("m", "output-1.json", [b'"large"'])
    placed = input_file(gather(2), ledger_with([large, "small"]).queries, store, "r", 1)
    assert placed is not None
    assert [json.loads(line)["output"] for line in placed.data.splitlines()] == ["large", "small"]


def test_what_is_too_large_for_the_swarm_goes_through_the_store(store: Store) -> None:
    outputs = ["x" * (CONFIG_LIMIT // 4)] * 5
    with pytest.raises(EngineRefused, match="set JAAS_STORE_URL, or lower fan_in"):
        input_file(gather(5), ledger_with(outputs).queries, None, "r", 1)
    placed = input_file(gather(5), ledger_with(outputs).queries, store, "r", 1)
    assert placed is not None
    assert (placed.path, placed.data) == ("/run/jaas/input.jsonl", b"")
    assert placed.source.endswith("/store/p/r/input-1.jsonl")
    lines = Path(placed.source).read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1, 2, 3, 4]


def test_outputs_that_have_expired_are_not_passed_over() -> None:
    with pytest.raises(EngineRefused, match="1 of the 3 records of the jobs before it have expired"):
        input_file(gather(3), ledger_with([1, 2]).queries, None, "r", 1)


def test_nothing_to_read() -> None:
    assert input_file(gather(0), ledger_with([]).queries, None, "r", 1) == (NOTHING, b"", "")
    assert input_file(JobSpec(image="a"), ledger_with([]).queries, None, "r", 1) is None

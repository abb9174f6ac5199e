"""Values by reference: a folder, and a store that is no file system."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from jaas_submit import Client, JobRecord, JobSpec, JobState, SpecError
from jaas_submit.errors import EngineRefused, JaasError, StoreUnavailable
from jaas_submit.ledger import Ledger
from jaas_submit.ledger.maintenance import Maintenance
from jaas_submit.model.fields import Gather
from jaas_submit.model.ids import batch_job_id
from jaas_submit.storage.store import INLINE_LIMIT, Store, is_reference
from jaas_worker.lifecycle.job_input import CONFIG_LIMIT, NOTHING, input_file

BATCH = "00000000-0000-0000-0000-000000000001"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/store", "p", lambda: "s")


def test_a_value_comes_back_and_goes_with_its_job(store: Store, tmp_path: Path) -> None:
    reference = store.write("j", "output-1.json", [b'{"a":', b" 1}"])
    assert reference == {"$ref": f"file://{tmp_path}/store/p/j/output-1.json", "bytes": 8, "sig": reference["sig"]}
    assert json.loads(json.dumps(reference)) == reference
    assert is_reference(reference)
    assert store.read(reference) == b'{"a": 1}'
    assert (tmp_path / "store/p/j/output-1.json").read_bytes() == b'{"a": 1}'
    store.write("other", "output-1.json", [b"1"])
    assert store.remove(["j", "never was"]) == 1
    with pytest.raises(JaasError, match="it is not there"):
        store.read(reference)
    assert [path.name for path in (tmp_path / "store/p").iterdir()] == ["other"]


def test_writing_again_replaces(store: Store) -> None:
    store.write("j", "x", [b"a long one"])
    reference = store.write("j", "x", [b"short"])
    assert (reference["bytes"], store.read(reference)) == (5, b"short")


@pytest.mark.parametrize(
    ("value", "kept"),
    [("x" * 10, False), ("x" * (INLINE_LIMIT - 2), False), ("x" * (INLINE_LIMIT - 1), True), ([0] * 30_000, True)],
)
def test_only_large_values_are_kept_there(store: Store, value: Any, kept: bool) -> None:
    stands_for = store.keep("j", "input.json", value)
    assert store.holds(stands_for) == kept
    assert (json.loads(store.read(stands_for)) if kept else stands_for) == value


@pytest.mark.parametrize(
    "url", ["", "/srv/jaas", "file://", "file:///", "file://host/srv", "file:///srv/../etc", "nope://x/y"]
)
def test_a_url_that_names_no_folder_is_refused(url: str) -> None:
    with pytest.raises(SpecError, match="JAAS_STORE_URL"):
        Store(url, "p", lambda: "s")


def test_only_references_into_the_own_store_are_followed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers print what they like: a reference must not make a worker or a producer read any other file."""
    secret = tmp_path / "secret"
    secret.write_text("1")
    base = f"file://{tmp_path}/store"
    for url in (
        f"file://{secret}",
        f"{base}/p/../../secret",
        f"{base}/p/./../../secret",
        f"{base}/other/j/output-1.json",
        f"{base}2/p/j",
        "http://169.254.169.254/p/j",
    ):
        assert not store.holds({"$ref": url, "bytes": 1, "sig": store._signature(url, 1)}), url
    good = store.write("j", "x", [b"1"])
    assert store.holds(good)
    for value in (None, "text", [good], {**good, "more": 1}, {"$ref": good["$ref"]}, {"$ref": 1, "bytes": 1}):
        assert not store.holds(value), value
    monkeypatch.setattr(Maintenance, "secret", lambda _: "s")
    with Client("redis://unused", prefix="p", store=base) as client:
        assert client.fetch(good) == 1
        false = {"$ref": f"file://{secret}", "bytes": 1, "sig": good["sig"]}
        assert client.fetch(false) == false
        assert client.fetch("plain") == "plain"
    with Client("redis://unused", prefix="p", store="") as client:
        assert client.fetch(good) == good


def test_only_references_that_jaas_has_made_are_followed(store: Store, tmp_path: Path) -> None:
    """Another job's file lies in the same store, and its URL is no secret."""
    good = store.write("other", "output-1.json", [b"1"])
    url, size = good["$ref"], good["bytes"]
    bare = {"$ref": url, "bytes": size}
    for forged in (
        bare,
        {**bare, "sig": ""},
        {**bare, "sig": "0" * 64},
        {**bare, "sig": "\u00fc"},
        {**bare, "sig": None},
        {**good, "bytes": size + 1},
        {**good, "bytes": 10**5000},
        {**good, "bytes": str(size)},
        {**good, "$ref": url.replace("other", "third")},
        {**good, "$ref": url + "\ud800"},
        {**good, "sig": Store(store.url, "p", lambda: "another").write("other", "output-1.json", [b"1"])["sig"]},
    ):
        assert not store.holds(forged), forged
        placed = (
            input_file(JobSpec(image="a", input=forged), ledger_with([]).queries, store, "j", 1)
            if forged == bare
            else None
        )
        assert placed is None or placed.data == json.dumps(bare).encode()
    assert Store(store.url, "p", lambda: "s").holds(good)


@pytest.mark.parametrize("job_id", ["", ".", "..", "../..", "/", "a/b", "{outside}", "\ud800"])
def test_what_is_no_job_s_id_removes_nothing(store: Store, tmp_path: Path, job_id: str) -> None:
    """The index of jobs may hold anything that somebody has written there."""
    (tmp_path / "outside").mkdir()
    store.write("j", "x", [b"1"])
    job_id = job_id.format(outside=tmp_path / "outside")
    assert store.remove([job_id, "j"]) == 1
    assert (tmp_path / "outside").exists()
    assert (tmp_path / "store/p").exists()
    with pytest.raises(SpecError, match="is no job id"):
        store.write(job_id, "x", [b"1"])


def deep() -> Any:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [[float("nan")], ["\ud800"], [10**5000], [{1, 2}], deep()], ids=["NaN", "surrogate", "huge", "set", "deep"]
)
def test_a_value_that_is_no_json_is_refused(store: Store, value: Any) -> None:
    with pytest.raises(SpecError, match="input: cannot be written as JSON"):
        store.keep("j", "input.json", value)


def test_a_store_that_does_not_answer_is_a_temporary_error(store: Store) -> None:
    with mock.patch.object(store._fs, "open", side_effect=OSError("no route to host")), pytest.raises(StoreUnavailable):
        store.write("j", "x", [b"1"])


# -- what a worker makes of it ---------------------------------------------------------------------------------------


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
    mock.patch.object(made.queries, "find", lambda ids: [records[i] for i in ids if i in records]).start()
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
    with pytest.raises(EngineRefused, match="1 of the 3 records to be gathered have expired"):
        input_file(gather(3), ledger_with([1, 2]).queries, None, "r", 1)


def test_nothing_to_read() -> None:
    assert input_file(gather(0), ledger_with([]).queries, None, "r", 1) == (NOTHING, b"", "")
    assert input_file(JobSpec(image="a"), ledger_with([]).queries, None, "r", 1) is None

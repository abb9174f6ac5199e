"""The pure parts of batches: ids and the shape of a tree of reduces. What they do is in tests/integration."""

from __future__ import annotations

import sys
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit import BatchRecord, JobState
from jaas_submit.client.batch import shown
from jaas_submit.client.maps.reduces import reduce_sizes
from jaas_submit.model.ids import batch_id_of, batch_job_id
from jaas_submit.model.wire_names import job_id_of


@pytest.mark.parametrize(
    ("count", "fan_in", "sizes"),
    [
        (0, 2, [1]),
        (1, 256, [1]),
        (256, 256, [1]),
        (257, 256, [2, 1]),
        (64, 4, [16, 4, 1]),
        (65, 4, [17, 5, 2, 1]),
        (100_000, 256, [391, 2, 1]),
    ],
)
def test_the_shape_of_a_tree_of_reduces(count: int, fan_in: int, sizes: list[int]) -> None:
    assert reduce_sizes(count, fan_in) == sizes


@given(count=st.integers(0, 100_000), fan_in=st.integers(2, 1000))
def test_every_output_is_read_by_one_reduce_and_one_is_left(count: int, fan_in: int) -> None:
    sizes = reduce_sizes(count, fan_in)
    assert sizes[-1] == 1
    for below, size in zip([count, *sizes], sizes, strict=False):
        assert (size - 1) * fan_in < max(below, 1) <= size * fan_in


def test_the_ids_of_a_batch_follow_from_its_key() -> None:
    # They may never change: a producer of another version goes on with a batch by its key.
    assert batch_id_of("payroll-2026-11", "jaas") == "ad95a78d-935b-5917-9570-c023802f2e5d"
    assert batch_job_id("ad95a78d-935b-5917-9570-c023802f2e5d", 0) == "a74f741d-bba9-5b5d-b861-8c38dc8b169f"
    assert batch_id_of("payroll-2026-11", "other") != batch_id_of("payroll-2026-11", "jaas")
    assert batch_id_of("payroll-2026-12", "jaas") != batch_id_of("payroll-2026-11", "jaas")


def test_a_batch_without_a_key_is_new_each_time() -> None:
    assert batch_id_of(None, "jaas") != batch_id_of(None, "jaas")
    assert batch_id_of("", "jaas") != batch_id_of("", "jaas")


@given(st.uuids(), st.integers(0, 100_000), st.integers(0, 100_000))
def test_the_id_of_a_job_follows_from_its_index(batch: uuid.UUID, one: int, other: int) -> None:
    assert (batch_job_id(str(batch), one) == batch_job_id(str(batch), other)) == (one == other)
    # It must be a valid job id: it becomes a part of the service's name, and Celery's task id.
    assert job_id_of(batch_job_id(str(batch), one)) == batch_job_id(str(batch), one)


def test_without_rich_progress_is_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    begun = BatchRecord(id="b", created_at=datetime.now(UTC), total=2, counts={JobState.SUCCEEDED: 1})
    over = begun.model_copy(update={"state": JobState.SUCCEEDED, "counts": {JobState.SUCCEEDED: 2}})
    with shown(True) as show:
        for status in (begun, begun, over):
            show(status)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [begun.sentence(), over.sentence()], "a line now and then, and the last one"

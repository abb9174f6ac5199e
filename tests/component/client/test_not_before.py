"""Jobs that are submitted for later, with both clients, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from jaas_submit import Client, JobSpec, JobState, SpecError
from jaas_submit.ledger import Ledger
from tests.support.twins import TWINS, client_of

SPEC = JobSpec(image="a", command=["{item}"])


@pytest.fixture(params=TWINS)
def client(request: pytest.FixtureRequest, redis_url: str, prefix: str) -> Iterator[Client]:
    with client_of(request.param, redis_url, queue=prefix, prefix=prefix) as made:
        yield made


@pytest.mark.parametrize("seconds", [False, True])
def test_a_job_for_later_waits_and_says_until_when(client: Client, ledger: Ledger, seconds: bool) -> None:
    time = datetime.now(UTC) + timedelta(hours=5)

    handle = client.submit(SPEC, not_before=5 * 3600 if seconds else time)

    record = ledger.queries.get(handle.id)
    assert record.state is JobState.WAITING
    assert record.not_before is not None
    assert abs(record.not_before - time) < timedelta(minutes=5)
    told = client.explain(handle.id)
    assert told.limit == "not_before"
    assert f"{record.not_before:%Y-%m-%d %H:%M:%S} UTC" in str(told)
    assert [one.id for one in client.active()] == [handle.id]
    assert ledger.queries.queue_length([client.queue]) == 0
    assert handle.cancel() is JobState.WAITING
    assert handle.state is JobState.CANCELLED


@pytest.mark.parametrize("not_before", [0, datetime(2020, 1, 1, tzinfo=UTC), "2020-01-01T00:00:00Z"])
def test_a_time_that_has_passed_is_no_reason_to_wait(client: Client, ledger: Ledger, not_before: float) -> None:
    handle = client.submit(SPEC, not_before=not_before)

    assert handle.state is JobState.QUEUED
    assert ledger.queries.queue_length([client.queue]) == 1


def test_with_its_key_a_job_for_later_is_the_same_one(client: Client) -> None:
    first = client.submit(SPEC, key="k", not_before=3600)
    assert client.submit(SPEC, key="k").id == first.id
    assert first.state is JobState.WAITING


def test_a_batch_for_later(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, ["x", "y"], not_before="1h")
    assert batch.status.counts == {JobState.WAITING: 2}
    assert all(record.not_before for record in ledger.queries.find([batch.job(index).id for index in range(2)]))


def test_a_bad_time_is_refused_before_anything_is_written(client: Client, ledger: Ledger) -> None:
    naive = datetime.now()
    with pytest.raises(SpecError, match="not_before: has no time zone"):
        client.submit(SPEC, not_before=naive)
    with pytest.raises(SpecError, match="not_before: must not be negative"):
        client.map(SPEC, ["x"], not_before=-1)
    assert (client.active(), client.batches()) == ([], [])

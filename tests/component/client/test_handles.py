"""Handles and batches as Python values, and waiting for several jobs, with both clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from jaas_submit import Cause, Client, JobFailed, JobSpec, JobState, SpecError, UnknownJob, WaitTimeout
from tests.support.stage import HOLDER, Stage, ended
from tests.support.twins import TWINS, client_of

SPEC = JobSpec(image="alpine")


@pytest.fixture(params=TWINS)
def client(request: pytest.FixtureRequest, redis_url: str, prefix: str) -> Iterator[Client]:
    with client_of(request.param, redis_url, prefix=prefix, queue=prefix) as made:
        yield made


def end(stage: Stage, job_id: str, code: int = 0) -> None:
    stage.launch(job_id)
    assert stage.ledger.ownership.finish(job_id, HOLDER, [ended(Cause.EXIT, code)])


def test_done(stage: Stage, client: Client) -> None:
    handle = client.submit(SPEC)
    assert not handle.done()
    end(stage, handle.id)
    assert handle.done()
    assert JobState.SUCCEEDED.is_terminal
    assert not JobState.RUNNING.is_terminal


def test_jobs_are_yielded_as_they_end(stage: Stage, client: Client) -> None:
    handles = [client.submit(SPEC) for _ in range(3)]
    end(stage, handles[2].id)
    found = iter(client.as_completed([*handles[:2], handles[2].id, handles[2]], 30))
    assert next(found).id == handles[2].id
    end(stage, handles[0].id)
    assert next(found).id == handles[0].id
    later = threading.Timer(0.2, end, (stage, handles[1].id, 4))
    later.start()
    assert next(found).id == handles[1].id
    later.join()
    assert list(found) == []


def test_results_come_in_order(stage: Stage, client: Client) -> None:
    handles = client.submit_many([SPEC, SPEC])
    end(stage, handles[1].id, code=4)
    end(stage, handles[0].id)
    assert [result.exit_code for result in client.gather(handles, check=False)] == [0, 4]
    assert client.gather([]) == []
    with pytest.raises(JobFailed):
        client.gather(handles, timedelta(seconds=5))


def test_what_cannot_be_waited_for(client: Client) -> None:
    handle = client.submit(SPEC)
    with pytest.raises(WaitTimeout, match=r"1 of 1 jobs have not ended after 0\.1 s"):
        list(client.as_completed([handle], timedelta(seconds=0.1)))
    with pytest.raises(UnknownJob, match="no job nope is known"):
        client.gather(["nope"])
    for wrong in ("an id", [5]):
        with pytest.raises(SpecError, match="jobs: give"):
            client.gather(wrong)  # type: ignore[arg-type] # that is the point


def test_what_is_not_known_is_told_where_its_handle_is_made(client: Client) -> None:
    for make in (client.handle, client.batch):
        with pytest.raises(UnknownJob, match="nope is known"):
            make("nope")
        with pytest.raises(UnknownJob, match="nope is known"):
            make("nope", lazy=True).cancel()


def test_handles_are_equal_if_they_are_of_one_job(redis_url: str, prefix: str) -> None:
    with Client(redis_url, prefix=prefix) as client:
        one, same, other = (client.handle(name, lazy=True) for name in ("a", "a", "b"))
        assert (one == same, one != other, len({one, same, other})) == (True, True, 2)
        assert client.batch("a", lazy=True) == client.batch("a", lazy=True)
        assert client.batch("a", lazy=True) != one


def test_a_batch_is_a_sequence_of_its_jobs(stage: Stage, redis_url: str) -> None:
    with Client(redis_url, prefix=stage.ledger.prefix, queue=stage.ledger.prefix) as client:
        batch = client.map(SPEC.changed({"command": ["{item}"]}), ["a", "b", "c"])
        assert len(batch) == 3
        assert [handle.record().index for handle in batch] == [0, 1, 2]
        assert (batch[-1], batch[0]) == (batch.job(2), batch.job(0))
        for index in (3, -4):
            with pytest.raises(IndexError, match="has 3 jobs, and none with index"):
                batch[index]
        assert client.batch("nope", lazy=True), "true without asking Redis"


def test_notebooks_show_tables(stage: Stage, redis_url: str) -> None:
    with Client(redis_url, prefix=stage.ledger.prefix, queue=stage.ledger.prefix) as client:
        handle = client.submit({"image": "alpine", "command": ["echo", "<b>"]})
        assert "<td style='text-align:left'>QUEUED</td>" in handle._repr_html_()
        assert "echo &#x27;&lt;b&gt;&#x27;" in handle._repr_html_()
        batch = client.map(SPEC.changed({"command": ["{item}"]}), ["a"], name="crawl")
        assert ">crawl</td>" in batch._repr_html_()
        assert ">0 of 1</td>" in batch._repr_html_()
        assert "no job nope is known" in client.handle("nope", lazy=True)._repr_html_()
        assert "nope" in client.batch("nope", lazy=True)._repr_html_()
    away = Client("redis://127.0.0.1:1").handle("a", lazy=True)
    assert "Redis does not answer" in away._repr_html_()

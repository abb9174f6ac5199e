"""Records of a newer version, on a real ledger: an older one lists them, waits for their end, and changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jaas_submit import Client, JobSpec, JobState
from jaas_submit.errors import JobFailed, WaitTimeout
from jaas_submit.ledger import ClaimAction
from jaas_submit.model.causes import Cause
from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.model.result import JobResult
from jaas_submit.model.retry_policy import RetryRule
from jaas_submit.model.states import TERMINAL, is_known, read_as
from tests.support.stage import HOLDER, Stage

ATTEMPT = {
    "number": 1,
    "state": "PAUSED",
    "cause": "quota",
    "reason": "the team has used up its share",
    "exit_code": 9,
    "node": "node1",
    "log_status": "streamed",
    "invented_later": [1],
}


def paused(stage: Stage, **fields: Any) -> str:
    """Do what a newer worker does: leave a job in a state that this version does not know."""
    job_id, ledger = stage.add(), stage.ledger
    redis, prefix = ledger.client, ledger.prefix
    row: dict[Any, Any] = {"state": "PAUSED", "attempts": json.dumps([ATTEMPT]), "invented_later": "kept", **fields}
    redis.zrem(f"{prefix}:state:QUEUED", job_id)
    redis.zadd(f"{prefix}:state:PAUSED", {job_id: ledger.now()})
    redis.zadd(f"{prefix}:unowned", {job_id: ledger.now()})
    redis.hset(f"{prefix}:job:{job_id}", mapping=row)
    return job_id


def client_of(stage: Stage) -> Client:
    url = stage.environ["JAAS_REDIS_URL"]
    return Client(url, queue=stage.ledger.prefix, prefix=stage.ledger.prefix)


def test_a_word_that_is_not_known_is_kept_and_equals_none_that_is() -> None:
    state = read_as(JobState, "PAUSED")
    assert (str(state), state.value, state.lower()) == ("PAUSED", "PAUSED", "paused")
    assert state == read_as(JobState, "PAUSED") == "PAUSED"
    assert state not in TERMINAL
    assert state not in list(JobState)
    assert not is_known(state)
    assert is_known(read_as(JobState, "QUEUED"))
    assert read_as(Cause, "oom") is Cause.OOM


def test_what_users_write_is_checked_all_the_same() -> None:
    with pytest.raises(ValueError, match="causes"):
        RetryRule(action="retry", causes=("quota",))


def test_it_is_listed_shown_and_explained(stage: Stage) -> None:
    job_id = paused(stage)
    ordinary = stage.add()
    assert stage.jaas("list", "-q").stdout.split() == [ordinary, job_id]
    assert "PAUSED" in stage.jaas("list").stdout
    (row,) = [json.loads(line) for line in stage.jaas("list", "--json").stdout.splitlines() if job_id in line]
    assert (row["state"], row["attempts"][0]["cause"]) == ("PAUSED", "quota")
    assert "attempt 1:" in stage.jaas("status", job_id).stdout
    told = stage.jaas("explain", job_id).stdout
    assert "PAUSED for" in told
    assert "a state that only a newer version of jaas knows" in told
    assert "a cause that only a newer version of jaas knows (cause quota; the team has used up" in told


def test_it_is_counted_in_its_batch(stage: Stage) -> None:
    ledger = stage.ledger
    ledger.batches.create("b", max_parallel=0)
    ledger.client.hset(f"{ledger.prefix}:batch:b", mapping={"n:PAUSED": 2, "n:FAILED": 1, "state": "HALTED"})
    batch = ledger.batches.get("b")
    assert batch.counts == {"PAUSED": 2, JobState.FAILED: 1}
    assert (batch.done, batch.ended) == (True, 1)
    assert "halted" in batch.sentence()


def test_no_worker_takes_it_and_nothing_in_its_record_changes(stage: Stage) -> None:
    ledger, job_id = stage.ledger, paused(stage)
    key = f"{ledger.prefix}:job:{job_id}"
    before = ledger.client.hgetall(key)
    ordinary = stage.add()
    ledger.client.zadd(f"{ledger.prefix}:unowned", {ordinary: 0})
    assert ledger.maintenance.unowned(pause=60) == []
    assert ledger.maintenance.ready(pause=60) == [ordinary]
    assert ledger.ownership.claim(job_id, HOLDER).action is ClaimAction.NEWER
    assert not ledger.ownership.move(job_id, HOLDER, JobState.RUNNING)
    assert ledger.client.hgetall(key) == before
    assert job_id not in ledger.ownership.held_by(HOLDER)
    assert ledger.client.zscore(f"{ledger.prefix}:unowned", job_id), "a newer worker must still find it"
    assert ledger.queries.counts_and_ages()[JobState.QUEUED][0] == 1


def test_it_is_cancelled_by_whoever_knows_its_state(stage: Stage) -> None:
    ledger, job_id = stage.ledger, paused(stage)
    with ledger.ownership.cancellations() as notices:
        assert ledger.submission.cancel(job_id, "enough") == ("PAUSED", False)
        assert notices.next(5) == job_id
    assert (ledger.queries.get(job_id).state, ledger.queries.get(job_id).cancel) == ("PAUSED", "enough")


def test_who_waits_for_it_hears_of_its_end(stage: Stage) -> None:
    job_id = paused(stage)
    with client_of(stage) as client:
        with pytest.raises(WaitTimeout, match="is PAUSED after"):
            client.wait(job_id, 0.01)
        stage.ledger.client.hset(f"{stage.ledger.prefix}:job:{job_id}", "reported", 1)
        with pytest.raises(JobFailed, match="ended as PAUSED, which only a newer version of jaas knows") as raised:
            client.wait(job_id, 5)
        assert raised.value.result is not None
        assert raised.value.result.exit_code == 9
        assert [record.id for record in client.history()] == [job_id]
        assert stage.ledger.ownership.claim(job_id, HOLDER).action is ClaimAction.DONE
        assert client.cancel(job_id) == "PAUSED"
        assert stage.ledger.queries.get(job_id).cancel == "", "it had ended"


def test_what_comes_after_it_waits_for_its_end(stage: Stage) -> None:
    job_id = paused(stage)
    with client_of(stage) as client:
        assert client.submit(JobSpec(image="alpine"), after=[job_id], on="finish").state is JobState.WAITING
        stage.ledger.client.hset(f"{stage.ledger.prefix}:job:{job_id}", "reported", 1)
        assert client.submit(JobSpec(image="alpine"), after=[job_id], on="finish").state is JobState.QUEUED
        assert client.submit(JobSpec(image="alpine"), after=[job_id]).state is JobState.SKIPPED


def test_a_result_and_output_of_a_newer_worker_can_be_read(stage: Stage) -> None:
    job_id = paused(stage, reported="1")
    with client_of(stage) as client:
        wire = client.result(job_id).to_wire()
    assert JobResult.model_validate({**wire, "invented_later": 1}).to_wire() == wire
    packed = Logs(status=read_as(LogStatus, "streamed"), reason="so far").pack()
    assert Logs.unpack(packed).status == "streamed"

"""`jaas rm`: forgetting jobs that have ended."""

from __future__ import annotations

import pytest

from jaas_submit import Client, JobNotEnded, JobSpec, UnknownJob
from jaas_submit.batch_model.new_job import NewJob
from tests.support.stage import HOLDER, Stage, ended


def over(stage: Stage) -> str:
    """Return the id of a job that has ended and that Celery knows the result of."""
    job_id = stage.add(end=ended())
    stage.ledger.ownership.mark_reported(job_id, HOLDER)
    return job_id


def test_a_job_that_has_ended_is_forgotten_with_its_output(stage: Stage) -> None:
    job_id, other = over(stage), over(stage)
    result = stage.jaas("rm", job_id)
    assert (result.exit_code, result.stdout) == (0, f"{job_id}\n")
    assert stage.jaas("status", job_id).exit_code == 125
    assert stage.jaas("list", "-q").stdout.split() == [other]
    names = [key.decode() for key in stage.ledger.client.scan_iter(f"{stage.ledger.prefix}:*{job_id}*")]
    assert names == []
    stage.ledger.maintenance.sweep()
    assert stage.ledger.queries.ids() == [other], "the index forgets it, too"


def test_what_is_still_needed_is_kept(stage: Stage, redis_url: str) -> None:
    waits, unreported = stage.add(), stage.add(end=ended())
    result = stage.jaas("rm", waits, unreported, "nope")
    assert result.exit_code == 125
    assert result.stderr.splitlines() == [
        f"jaas: job {waits} is QUEUED; `jaas cancel {waits}` ends it first",
        f"jaas: job {unreported} has ended, but no worker has reported it to Celery yet; try again later",
        "jaas: no job nope is known; its record may have expired",
    ]
    assert stage.ledger.queries.get(waits)
    with Client(redis_url, prefix=stage.ledger.prefix) as client:
        with pytest.raises(JobNotEnded):
            client.forget(waits)
        with pytest.raises(UnknownJob):
            client.forget("nope")


def test_a_job_of_a_batch_that_goes_on_is_kept(stage: Stage) -> None:
    stage.ledger.batches.create("b", name="", max_parallel=0, min_success=1.0)
    jobs = [NewJob(f"b-{n}", JobSpec(image="a"), stage.ledger.prefix, batch="b", index=n) for n in range(2)]
    stage.ledger.submission.create_many(jobs)
    stage.launch("b-0")
    stage.ledger.ownership.finish("b-0", HOLDER, [ended()])
    stage.ledger.ownership.mark_reported("b-0", HOLDER)
    result = stage.jaas("rm", "b-0")
    assert (result.exit_code, "belongs to batch b, which has not ended" in result.stderr) == (125, True)


def test_force_passes_over_what_is_not_known(stage: Stage) -> None:
    assert stage.jaas("rm", "--force", "nope", over(stage)).exit_code == 0

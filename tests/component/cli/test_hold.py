"""`jaas hold` and `jaas release`."""

from __future__ import annotations

import json

from jaas_submit import Client, JobSpec
from tests.support.stage import Stage


def test_a_job_is_held_explained_and_released(stage: Stage) -> None:
    stage.ledger.submission.create("job-1", JobSpec(image="alpine"), stage.ledger.prefix)
    assert stage.jaas("hold", "job-1", "--why", "no data yet").stdout == "job-1: held\n"
    told = json.loads(stage.jaas("explain", "--json", "job-1").stdout)
    assert told["reason"] == "held"
    (said,) = (one for one in told["sentences"] if one.startswith("It is not started: "))
    assert said.startswith("It is not started: it is held; `jaas release` lets it go (done by ")
    done = [json.loads(line) for line in stage.jaas("audit", "--json", "job-1").stdout.splitlines()]
    assert [(one["what"], one["detail"]) for one in done] == [("submit", ""), ("hold", "no data yet")]
    assert json.loads(stage.jaas("release", "--json", "job-1").stdout) == {"id": "job-1", "held": False}
    assert json.loads(stage.jaas("explain", "--json", "job-1").stdout)["reason"] is None


def test_a_batch_is_held_and_released(stage: Stage, redis_url: str) -> None:
    with Client(redis_url, prefix=stage.ledger.prefix, queue=stage.ledger.prefix) as client:
        batch = client.map(JobSpec(image="alpine"), ["a", "b"])
        assert stage.jaas("hold", "--batch", batch.id[:8]).stdout == f"batch {batch.id}: held\n"
        assert client.explain(batch[1].id).reason == "held"
        batch.release()
        assert client.explain(batch[1].id).reason is None


def test_mistakes_are_one_sentence(stage: Stage) -> None:
    stage.ledger.submission.create("job-1", JobSpec(image="alpine"), stage.ledger.prefix)
    stage.launch("job-1")
    for words, code, said in (
        ([], 2, "give ids, or --batch"),
        (["job-1"], 125, "job job-1 is RUNNING: only a job that waits can be held or released"),
        (["nope-nope"], 125, "no job nope-nope is known"),
        (["--batch", "nope-nope"], 125, "no batch nope-nope is known"),
    ):
        result = stage.jaas("hold", *words)
        assert result.exit_code == code, result.output
        assert said in result.stderr
        assert len(result.stderr.splitlines()) == 1

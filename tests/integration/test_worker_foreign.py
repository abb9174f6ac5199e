"""Jobs from a Celery app with no code of ours: plain JSON in, plain JSON out, and all of Celery's canvas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import jsonschema
import pytest
from celery import chain, chord, group
from celery.canvas import Signature
from celery.exceptions import ChordError

from jaas_submit import Client, JobSpec, JobState, job
from jaas_submit.batch_model.schema import result_schema
from tests.support.jobs import LONG, celery_result, ended
from tests.support.theirs import TheirWorker, run_their_code
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation

EXCEPTIONS_ALLOWED = (
    "ChordError",  # Celery's worker shows where it noticed that a part of a chord has failed
    "not supported between instances of 'str' and 'int'",  # a callback with a nonsensical countdown
    "JobFailed: job ",  # the failure during whose handling that was met
)

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]


@pytest.fixture(scope="module")
def theirs(jaas: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TheirWorker]:
    """Their own worker, on a queue of its own."""
    worker = TheirWorker(jaas.redis_url, tmp_path_factory.mktemp("theirs"), "theirs")
    yield worker
    worker.stop()


@pytest.fixture
def run_job(foreign: celery.Celery, jaas: Installation) -> Any:
    """Make a signature of `jaas.run` in the way in which a foreign app does."""

    def make(spec: JobSpec) -> Signature[Any]:
        return foreign.signature("jaas.run", kwargs={"spec": spec.to_wire()}, queue=jaas.queue)

    return make


def their_task(foreign: celery.Celery, name: str) -> Signature[Any]:
    return foreign.signature(f"theirs.{name}", queue="theirs")


# -- one job --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True], ids=["without a queue", "with the jobs' queue"])
def test_a_job_sent_by_name(
    foreign: celery.Celery, jaas: Installation, client: Client, witness: Witness, named: bool
) -> None:
    # Written as a foreigner writes it, not by to_wire().
    note = {"source": str(witness.folder), "target": "/witness"}
    command = ["sh", "-c", 'echo "$JAAS_JOB_ID 1 $HOSTNAME" >> /witness/starts; echo "$GREETING"; echo oh >&2']
    spec = {"image": "jaas-test:latest", "command": command, "env": {"GREETING": "hello"}, "mounts": [note]}
    options: dict[str, Any] = {"queue": jaas.queue} if named else {}
    sent = foreign.send_task("jaas.run", kwargs={"spec": spec}, **options)
    told = sent.get(timeout=LONG)
    jsonschema.validate(told, result_schema())
    assert told["version"] == 1
    assert told["job_id"] == sent.id
    assert (told["state"], told["cause"], told["exit_code"], told["reason"]) == ("SUCCEEDED", "exit", 0, "")
    captured = {name: told["logs"][name] for name in ("stdout", "stderr", "status", "reason")}
    assert captured == {"stdout": "hello\n", "stderr": "oh\n", "status": "complete", "reason": ""}
    assert told["node"] == told["attempts"][0]["node"] != ""
    assert told["queued_at"] <= told["started_at"] <= told["finished_at"]
    assert told["duration"] >= 0
    assert len(told["attempts"]) == 1
    assert told["attempts"][0]["service"] == f"jaas-{sent.id}-1"
    assert len(witness.starts(sent.id)) == 1
    record = client.ledger.queries.get(sent.id)
    assert (record.state, record.spec) == (JobState.SUCCEEDED, JobSpec.parse(spec))
    assert json.loads(client.result(sent.id).model_dump_json()) == told


def test_what_is_stored_is_plain_json(jaas: Installation, run_job: Any, witness: Witness) -> None:
    sent = run_job(witness.spec("echo hello")).delay()
    sent.get(timeout=LONG)
    stored = json.loads(jaas.ledger.client.get(f"celery-task-meta-{sent.id}") or "")
    assert stored["status"] == "SUCCESS"
    assert stored["result"]["logs"]["stdout"] == "hello\n"


def test_a_job_that_fails_is_failure_with_exit_code_and_reason_for_those_without_our_code(
    jaas: Installation, run_job: Any, client: Client, witness: Witness, tmp_path: Path
) -> None:
    sent = run_job(witness.spec("exit 4")).delay()
    result = ended(client_when_known(client, sent.id), sent.id)
    code = (
        f"result = app.AsyncResult({sent.id!r})\n"
        "try:\n    result.get(timeout=60)\n"
        "except Exception as error:\n    print(result.state, type(error).__name__, error, sep='|')\n"
    )
    said = run_their_code(jaas.redis_url, tmp_path, code).strip()
    assert said == f"FAILURE|JobFailed|{result.sentence()}"
    assert "exit code 4" in said
    assert "non-zero exit (4)" in said


def client_when_known(client: Client, job_id: str) -> Client:
    """Wait until a worker has written the record of a foreign job."""
    eventually(lambda: client.ledger.queries.find([job_id]), LONG, f"a record of job {job_id}")
    return client


def test_with_check_false_a_job_that_fails_is_success_with_its_object(run_job: Any, witness: Witness) -> None:
    told = run_job(witness.spec("echo so; exit 4", check=False)).delay().get(timeout=LONG)
    assert (told["state"], told["exit_code"], told["logs"]["stdout"]) == ("FAILED", 4, "so\n")


def test_a_countdown_is_kept(run_job: Any, client: Client, witness: Witness) -> None:
    sent = run_job(witness.spec()).apply_async(countdown=1)
    told = sent.get(timeout=LONG)
    first = client.ledger.queries.get(sent.id).attempts[0]
    assert told["state"] == "SUCCEEDED"
    assert first.started_at is not None
    assert len(witness.starts()) == 1


def test_callbacks_of_a_job_are_called(
    foreign: celery.Celery, theirs: TheirWorker, run_job: Any, witness: Witness
) -> None:
    good = run_job(witness.spec()).apply_async(link=their_task(foreign, "exit_code"))
    bad = run_job(witness.spec("exit 3")).apply_async(link_error=their_task(foreign, "failed"))
    assert good.get(timeout=LONG)["exit_code"] == 0
    assert good.children[0].get(timeout=LONG) == 0
    bad.get(timeout=LONG, propagate=False)
    eventually(lambda: "theirs.failed" in theirs.log, LONG, "the errback to be called")


@pytest.mark.parametrize("code", [0, 4])
def test_what_follows_a_job_and_cannot_be_called_does_not_keep_its_result_back(
    foreign: celery.Celery, run_job: Any, client: Client, witness: Witness, code: int
) -> None:
    wrong: Any = their_task(foreign, "exit_code")
    wrong.set(countdown="soon")
    sent = run_job(witness.spec(f"exit {code}")).apply_async(link=wrong, link_error=wrong)
    result = ended(client_when_known(client, sent.id), sent.id)
    assert result.exit_code == code
    told = celery_result(sent.id, app=foreign)
    assert told.state == ("FAILURE" if code else "SUCCESS")
    if code:
        assert str(told.result) == result.sentence()
    else:
        assert told.result["job_id"] == sent.id
    assert len(witness.starts()) == 1


# -- canvas ---------------------------------------------------------------------------------------------------------


def test_a_chain_of_jobs_and_a_task_of_theirs(
    foreign: celery.Celery, theirs: TheirWorker, run_job: Any, witness: Witness
) -> None:
    steps = chain(
        run_job(witness.spec("echo 1 >> /witness/order")),
        run_job(witness.spec("echo 2 >> /witness/order; exit 0")),
        their_task(foreign, "exit_code"),
    )
    assert steps.apply_async().get(timeout=LONG) == 0
    assert (witness.folder / "order").read_text() == "1\n2\n"
    assert len(witness.starts()) == 2


def test_a_job_that_fails_ends_its_chain(run_job: Any, client: Client, witness: Witness) -> None:
    sent: Any = chain(run_job(witness.spec("exit 4")), run_job(witness.spec("echo never"))).apply_async()
    assert sent.parent is not None
    ended(client_when_known(client, sent.parent.id), sent.parent.id)
    assert celery_result(sent.parent.id, app=client.app).state == "FAILURE"
    assert client.ledger.queries.find([sent.id]) == []
    assert len(witness.starts()) == 1


def test_a_group_of_jobs(run_job: Any, witness: Witness) -> None:
    sent = group(run_job(witness.spec(f"echo {n}")) for n in range(4)).apply_async()
    assert [told["logs"]["stdout"] for told in sent.get(timeout=LONG)] == ["0\n", "1\n", "2\n", "3\n"]
    assert len(witness.starts()) == 4


def test_a_chord_of_five_jobs_and_a_callback_of_theirs(
    foreign: celery.Celery, theirs: TheirWorker, run_job: Any, witness: Witness
) -> None:
    header = [run_job(witness.spec(f"echo {n}")) for n in range(5)]
    sent = chord(header)(their_task(foreign, "outputs"))
    assert sorted(sent.get(timeout=LONG)) == ["0\n", "1\n", "2\n", "3\n", "4\n"]
    assert len(witness.starts()) == 5


def test_a_chord_of_five_jobs_whose_callback_is_a_job(run_job: Any, witness: Witness) -> None:
    header = [run_job(witness.spec(f"touch /witness/part-{n}")) for n in range(5)]
    sent = chord(header)(run_job(witness.spec("ls /witness | grep -c part-")))
    assert sent.get(timeout=LONG)["logs"]["stdout"] == "5\n"
    assert len(witness.starts()) == 6


def test_a_chord_with_groups_among_its_parts(run_job: Any, witness: Witness) -> None:
    def says(n: int) -> Any:
        return run_job(witness.spec(f"echo {n}", output="json"))

    sent = chord([says(0), chain(says(5), group(says(1), says(2)))])(run_job(witness.spec('cat "$JAAS_INPUT"')))
    rows = [json.loads(line) for line in sent.get(timeout=LONG)["logs"]["stdout"].splitlines()]
    assert [(row["index"], row["output"]) for row in rows] == [(0, 0), (1, [1, 2])]
    assert len(witness.starts()) == 5


def test_a_chord_with_a_job_that_fails_says_which(
    foreign: celery.Celery, theirs: TheirWorker, run_job: Any, witness: Witness
) -> None:
    header = [run_job(witness.spec(f"exit {n}")) for n in (0, 4, 0)]
    sent = chord(header)(their_task(foreign, "outputs"))
    with pytest.raises(ChordError, match="failed with exit code 4"):
        sent.get(timeout=LONG, follow_parents=False)
    eventually(lambda: len(witness.starts()) == 3, LONG, "all jobs to have been started")


def test_a_chord_whose_jobs_may_fail_goes_on_with_check_false(
    foreign: celery.Celery, theirs: TheirWorker, run_job: Any, witness: Witness
) -> None:
    header = [run_job(witness.spec(f"echo {n}; exit {n}", check=False)) for n in (0, 4, 0)]
    assert sorted(chord(header)(their_task(foreign, "outputs")).get(timeout=LONG)) == ["0\n", "0\n", "4\n"]


def test_a_chord_with_a_cancelled_job_does_not_hang(
    foreign: celery.Celery, theirs: TheirWorker, run_job: Any, client: Client, witness: Witness
) -> None:
    held = run_job(witness.spec(witness.held()))
    held.set(task_id="to-be-cancelled")
    sent = chord([run_job(witness.spec()), held])(their_task(foreign, "outputs"))
    eventually(lambda: witness.starts("to-be-cancelled"), LONG)
    client.cancel("to-be-cancelled")
    with pytest.raises(ChordError, match="to-be-cancelled"):
        sent.get(timeout=LONG, follow_parents=False)
    assert ended(client, "to-be-cancelled").state is JobState.CANCELLED


@pytest.mark.usefixtures("foreign_is_current")
def test_our_own_signature_does_the_same(jaas: Installation, witness: Witness) -> None:
    sent = group(job(witness.spec(f"echo {n}"), queue=jaas.queue) for n in range(2)).apply_async()
    assert [told["logs"]["stdout"] for told in sent.get(timeout=LONG)] == ["0\n", "1\n"]

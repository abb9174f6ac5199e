"""What follows a job in the canvas of somebody's app, whose own worker consumes Celery's default queue."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import chain, chord
from celery.canvas import Signature, xmap, xstarmap

from jaas_submit import Client, JobSpec, JobState
from tests.support.jobs import LONG
from tests.support.theirs import TheirWorker
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE, Witness
from tests.support.worker import Installation, WorkerProcess, clean_env

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "theirs", "no_service_left")]

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


def printed(url: str) -> tuple[str, str]:
    """Return the module and the program that docs/library.md prints for chain, group and chord, for this Redis."""
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("## Chain, group, chord") :]
    module, program, *_ = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return (module.replace("redis://127.0.0.1:6379/0", url), program.replace('"alpine"', f'"{TEST_IMAGE}"'))


@pytest.fixture(scope="module")
def worker(jaas: Installation) -> WorkerProcess:
    """Ours, on the queue that is the default in what is printed."""
    jaas.queue = "jaas"
    return jaas.worker().start()


@pytest.fixture(scope="module")
def theirs(jaas: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TheirWorker]:
    """Their own worker, which consumes what Celery's workers consume by default."""
    module, _ = printed(jaas.redis_url)
    worker = TheirWorker(jaas.redis_url, tmp_path_factory.mktemp("theirs"), "celery", shop=module)
    yield worker
    worker.stop()


@pytest.fixture
def run_job(foreign: celery.Celery) -> Any:
    """Make a signature of `jaas.run` in the way in which a foreign app does."""

    def make(spec: JobSpec) -> Signature[Any]:
        return foreign.signature("jaas.run", kwargs={"spec": spec.to_wire()}, queue="jaas")

    return make


def test_the_printed_example_works_as_printed(jaas: Installation, theirs: TheirWorker, tmp_path: Path) -> None:
    _, program = printed(jaas.redis_url)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=theirs.folder,
        env=clean_env(PYTHONPATH=f"{theirs.folder}:{PAGE.parents[1]}"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "10\ntwo\n\n"), done.stderr


def test_the_next_step_of_a_chain_and_the_body_of_a_chord_reach_the_worker_of_their_app(
    foreign: celery.Celery, run_job: Any, witness: Witness
) -> None:
    step = chain(run_job(witness.spec()), foreign.signature("theirs.exit_code"))
    body = chord([run_job(witness.spec("echo 1"))])(foreign.signature("theirs.outputs"))
    assert step.apply_async().get(timeout=LONG) == 0
    assert body.get(timeout=LONG) == ["1\n"]


def test_callbacks_and_errbacks_run(
    foreign: celery.Celery, theirs: TheirWorker, run_job: Any, witness: Witness
) -> None:
    good = run_job(witness.spec()).apply_async(link=foreign.signature("theirs.exit_code"))
    bad = run_job(witness.spec("exit 3")).apply_async(link_error=foreign.signature("theirs.failed"))
    assert good.get(timeout=LONG)["exit_code"] == 0
    assert good.children[0].get(timeout=LONG) == 0
    bad.get(timeout=LONG, propagate=False)
    eventually(lambda: "theirs.failed" in theirs.log, LONG, "the errback to be called")


def test_a_queue_that_the_signature_names_is_kept(foreign: celery.Celery, jaas: Installation, run_job: Any) -> None:
    spec = JobSpec(image=TEST_IMAGE, command=["true"])
    step = foreign.signature("theirs.exit_code").set(queue="elsewhere")
    chain(run_job(spec), step).apply_async()
    eventually(
        lambda: jaas.ledger.queries.queue_length(["elsewhere"]) == 1, LONG, "the step in the queue that it names"
    )


def test_a_job_that_follows_a_job_goes_to_the_workers_of_jaas(foreign: celery.Celery, run_job: Any) -> None:
    spec = JobSpec(image=TEST_IMAGE, command=["true"])
    unnamed = foreign.signature("jaas.run", kwargs={"spec": spec.to_wire()})
    assert chain(run_job(spec), unnamed).apply_async().get(timeout=LONG)["state"] == "SUCCEEDED"


# -- a task id that was used before ---------------------------------------------------------------------------------


def test_what_hangs_on_a_second_message_with_a_task_id_gets_the_result_of_the_first(
    foreign: celery.Celery, run_job: Any, witness: Witness
) -> None:
    part = run_job(witness.spec("echo 1")).set(task_id="used-twice")
    assert part.apply_async().get(timeout=LONG)["logs"]["stdout"] == "1\n"
    step = chain(part.clone(), foreign.signature("theirs.exit_code")).apply_async()
    assert step.get(timeout=LONG) == 0
    assert chord([part.clone()])(foreign.signature("theirs.outputs")).get(timeout=LONG) == ["1\n"]
    assert len(witness.starts()) == 1


# -- priorities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"sep": ":"}], ids=["kombu's separator", "the one of Celery's advice"])
def test_jobs_of_producers_with_ten_priorities_are_all_taken(jaas: Installation, more: dict[str, str]) -> None:
    app = celery.Celery("theirs", broker=jaas.redis_url, backend=jaas.redis_url, set_as_current=False)
    app.conf.broker_transport_options = {"priority_steps": list(range(10)), "queue_order_strategy": "priority", **more}
    spec = {"image": TEST_IMAGE, "command": ["true"]}
    sent = [app.send_task("jaas.run", kwargs={"spec": spec}, queue="jaas", priority=n) for n in range(10)]
    assert [one.get(timeout=LONG)["state"] for one in sent] == ["SUCCEEDED"] * 10
    app.close()


def test_the_priority_of_what_follows_a_job_is_one_that_its_worker_reads(
    foreign: celery.Celery, run_job: Any, witness: Witness
) -> None:
    step = foreign.signature("theirs.exit_code").set(priority=4)
    assert chain(run_job(witness.spec()), step).apply_async().get(timeout=LONG) == 0


# -- what a job cannot be in a canvas -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [xmap, xstarmap])  # a task's chunks() are the latter
def test_a_job_that_is_to_be_called_as_a_function_is_refused_with_a_sentence(
    foreign: celery.Celery, client: Client, worker: WorkerProcess, kind: Any
) -> None:
    before = len(worker.log)
    one: Any = kind(foreign.signature("jaas.run"), [({"image": TEST_IMAGE},)], app=foreign)
    sent = one.apply_async(queue="jaas")
    with pytest.raises(Exception, match=r"which a job cannot be; send a group of jaas\.run"):
        sent.get(timeout=LONG)
    assert client.ledger.queries.get(sent.id).state is JobState.FAILED
    assert "Traceback" not in worker.log[before:]


@pytest.mark.parametrize("name", ["celery.map", "celery.starmap", "celery.chunks"])
def test_so_is_one_that_is_named_by_position(foreign: celery.Celery, client: Client, name: str) -> None:
    sent = foreign.send_task(name, args=[foreign.signature("jaas.run"), [[{"image": TEST_IMAGE}]], 1], queue="jaas")
    with pytest.raises(Exception, match=r"which a job cannot be; send a group of jaas\.run"):
        sent.get(timeout=LONG)
    assert client.ledger.queries.get(sent.id).state is JobState.FAILED


def test_a_task_id_may_be_a_uuid_object(foreign: celery.Celery, client: Client) -> None:
    task_id: Any = uuid.uuid4()
    spec = {"image": TEST_IMAGE, "command": ["echo", "hi"]}
    sent = foreign.send_task("jaas.run", kwargs={"spec": spec}, queue="jaas", task_id=task_id)
    assert sent.get(timeout=LONG)["logs"]["stdout"] == "hi\n"
    assert client.ledger.queries.get(str(task_id)).state is JobState.SUCCEEDED


def test_a_job_whose_result_nobody_wants_leaves_none(foreign: celery.Celery, client: Client, run_job: Any) -> None:
    spec = JobSpec(image=TEST_IMAGE, command=["true"])
    sent = run_job(spec).apply_async(ignore_result=True)
    eventually(lambda: [one.reported for one in client.ledger.queries.find([sent.id])] == [True], LONG, "the job's end")
    assert client.ledger.client.get(f"celery-task-meta-{sent.id}") is None


# -- remote control -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("pool_grow", {"n": 2}, "has no pool of processes; JAAS_MAX_IN_FLIGHT"),
        ("pool_shrink", {"n": 1}, "has no pool of processes; JAAS_MAX_IN_FLIGHT"),
        ("pool_restart", {}, "has no pool of processes; JAAS_MAX_IN_FLIGHT"),
        ("autoscale", {"max": 10, "min": 1}, "has no pool of processes; JAAS_MAX_IN_FLIGHT"),
        ("shutdown", {}, "is stopped by a signal"),
        ("add_consumer", {"queue": "theirs"}, "JAAS_QUEUE"),
        ("cancel_consumer", {"queue": "jaas"}, "JAAS_QUEUE"),
        ("rate_limit", {"task_name": "jaas.run", "rate_limit": "1/h"}, "JAAS_MAX_IN_FLIGHT"),
        ("memdump", {"samples": 10}, "shows nothing of its memory"),
        ("memsample", {}, "shows nothing of its memory"),
        ("objgraph", {"num": 200, "type": "Request"}, "shows nothing of its memory"),
        ("election", {"id": "1", "topic": "t"}, "elect nobody"),
        ("time_limit", {"task_name": "jaas.run", "hard": 5}, "set run_timeout in the job's description"),
    ],
)
def test_remote_control_that_cannot_work_is_answered_with_a_sentence(
    foreign: celery.Celery, worker: WorkerProcess, command: str, arguments: dict[str, Any], says: str
) -> None:
    before = len(worker.log)
    control: Any = foreign.control  # a matcher is a name
    answers = control.broadcast(command, arguments=arguments, reply=True, timeout=5, pattern="w1@*", matcher="glob")
    ((answer,),) = (one.values() for one in answers)
    assert says in answer["error"]
    assert "Traceback" not in worker.log[before:]


def test_a_worker_without_remote_control_answers_nobody_and_runs_jobs(
    jaas: Installation, foreign: celery.Celery, worker: WorkerProcess, run_job: Any
) -> None:
    worker.stop()
    silent = jaas.worker("silent", remote_control=False).start()
    try:
        result = run_job(JobSpec(image=TEST_IMAGE, command=["true"])).apply_async()
        assert result.get(timeout=LONG)["state"] == "SUCCEEDED"
        named = [name for answer in foreign.control.ping(timeout=2) or () for name in answer]
        assert not any(name.startswith("silent@") for name in named)
    finally:
        silent.stop()
        worker.start()


def test_a_worker_asks_no_other_for_anything(worker: WorkerProcess) -> None:
    assert "mingle" not in worker.log
    assert "gossip" not in worker.log

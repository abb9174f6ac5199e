"""Batches on a real swarm: inputs into containers, outputs out of them, reduces over them."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from celery import chain, chord, group

from jaas_submit import Batch, BatchFailed, Cause, Client, JobFailed, JobSpec, JobState, Speculation, job
from jaas_submit.model.job_spec import MAX_SPEC_BYTES
from jaas_submit.model.wire_names import LABEL_PREFIX, service_name
from jaas_worker.swarm.docker_engine import Swarm
from tests.support.jobs import LONG, celery_result, containers_of, shell, until
from tests.support.twins import TWINS, client_of
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation, WorkerProcess

pytestmark = [
    pytest.mark.engine,
    pytest.mark.redis,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("worker", "no_service_left"),
]

WORKER = {"lease": "4s", "reconcile_interval": "200ms", "republish_after": "2s"}

SUM = 'awk -F \'"output": \' \'{ sub(/}$/, "", $2); sum += $2 } END { print sum + 0 }\' "$JAAS_INPUT"'
"""Adds up the outputs that a reduce job reads; that of a job that failed is null, which awk takes for 0."""


@pytest.fixture(autouse=True)
def no_config_left(jaas: Installation) -> Iterator[None]:
    """Inputs go with the services."""
    yield
    label = f"{LABEL_PREFIX}={jaas.prefix}"
    eventually(lambda: not jaas.swarm.configs(label), 15, lambda: f"configs left: {jaas.swarm.configs(label)}")


def outputs(batch: Batch) -> list[Any]:
    return [result.check().output for result in batch.results(ordered=True, timeout=LONG)]


# -- inputs and outputs ----------------------------------------------------------------------------------------------

ITEMS: list[Any] = [
    {"name": "plain", "n": 1},
    {"name": "quotes \" and ' and {{.Service.Name}} $HOME", "n": 2},
    {"name": "ä€😀 \u2028", "n": [3, None]},
]


def test_inputs_as_arguments_environment_and_file_come_out_as_they_went_in(client: Client) -> None:
    names = client.map(
        JobSpec(
            image="jaas-test",
            entrypoint=["sh", "-c", 'printf "%s|%s|%s|%s" "$1" "$NAME" "$JAAS_INDEX" "$2"', "-"],
            command=["{item.name}", "{item.n}"],
            env={"NAME": "{item.name}"},
            output="text",
        ),
        ITEMS,
    )
    files = client.map(shell('cat "$JAAS_INPUT"', output="json"), ITEMS)
    assert outputs(names) == [
        f"{item['name']}|{item['name']}|{index}|{item['n'] if index < 2 else '[3, null]'}"
        for index, item in enumerate(ITEMS)
    ]
    assert outputs(files) == ITEMS
    assert files.status.state is JobState.SUCCEEDED


def test_an_input_is_a_file_that_everybody_in_the_container_can_read(client: Client) -> None:
    spec = shell('id -u; echo "$JAAS_INPUT"; cat "$JAAS_INPUT"', user="65534", input={"a": 1}, output="text")
    result = client.submit(spec).wait(LONG)
    assert result.output == '65534\n/run/jaas/input.json\n{"a": 1}'


def test_a_large_input(client: Client) -> None:
    """Just below the limit of a description; what is larger goes by reference."""
    text = "x" * (MAX_SPEC_BYTES - 1000)
    result = client.submit(shell('sha256sum < "$JAAS_INPUT"', input=text, output="text")).wait(LONG)
    assert result.output.split()[0] == hashlib.sha256(json.dumps(text).encode()).hexdigest()


def test_how_much_the_swarm_takes(jaas: Installation, swarm: Swarm) -> None:
    """A config has less than 1,000 KiB, and it must not be empty: docs/batches.md says so."""
    labels = {LABEL_PREFIX: jaas.prefix}
    most = 1000 * 1024 - 1
    swarm.create_config(f"{jaas.prefix}-most", labels, b"x" * most)
    assert swarm.remove_config(f"{jaas.prefix}-most", labels)
    for size in (0, most + 1):
        with pytest.raises(Exception, match="larger than 0 and less than"):
            swarm.create_config(f"{jaas.prefix}-{size}", labels, b"x" * size)


@pytest.mark.parametrize(
    ("script", "output", "reason"),
    [
        ("echo hello", "json", "the last line of its standard output is not JSON"),
        ("head -c 70000 /dev/zero | tr '\\0' x", "text", "its output has 70,002 bytes, more than the 65,536 allowed"),
    ],
)
def test_a_job_that_does_not_return_what_it_declares_fails(
    client: Client, script: str, output: str, reason: str
) -> None:
    handle = client.submit(shell(script, output=output))
    with pytest.raises(JobFailed, match=reason) as caught:
        handle.wait(LONG)
    assert caught.value.result is not None
    assert (caught.value.result.cause, caught.value.result.exit_code) == (Cause.OUTPUT, 0)


# -- map, reduce, retry ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TWINS)
def test_a_tree_of_reduces_adds_up(jaas: Installation, kind: str) -> None:
    square = shell("echo $(( $1 * $1 ))".replace("$1", "{item}"), output="json")
    with client_of(kind, jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix) as client:
        made = client.map_reduce(square, range(1, 8), shell(SUM, output="json"), fan_in=3, max_parallel=4)
        assert [level.status.size for level in made.levels] == [3, 1]
        assert made.wait(LONG).output == sum(n * n for n in range(1, 8))
        assert outputs(made.levels[0]) == [1 + 4 + 9, 16 + 25 + 36, 49]


def test_a_quorum_lets_the_reduce_see_what_failed(client: Client) -> None:
    maps = shell("[ {item} != 2 ] || exit 4; echo {item}", output="json")
    made = client.map_reduce(maps, range(4), shell('cat "$JAAS_INPUT"', output="text"), min_success=0.75)
    lines = [json.loads(line) for line in made.wait(LONG).output.splitlines()]
    assert lines == [
        {"index": 0, "state": "SUCCEEDED", "output": 0},
        {"index": 1, "state": "SUCCEEDED", "output": 1},
        {"index": 2, "state": "FAILED", "output": None},
        {"index": 3, "state": "SUCCEEDED", "output": 3},
    ]
    assert [record.index for record in made.maps.failed] == [2]


def test_too_few_good_maps_and_no_reduce_runs(client: Client, witness: Witness) -> None:
    made = client.map_reduce(shell("exit {item}", output="none"), [0, 0, 5], witness.spec(), min_success=0.9)
    # Which of the two depends on whether the failed job ends last.
    why = "(2 of 3 jobs succeeded, 3 needed|stopped by min_success: 1 of 3 jobs did not succeed, 3 must)"
    with pytest.raises(BatchFailed, match=f"{why}.*1 x exit code 5"):
        made.wait(LONG)
    assert made.final.wait(LONG, check=False).state is JobState.SKIPPED
    assert witness.starts() == []
    # Celery is told, too.
    told = celery_result(made.final.id, app=client.app)
    eventually(lambda: told.state == "REVOKED", 20, lambda: f"Celery says {told.state}")


def test_a_reduce_over_nothing_reads_nothing(client: Client) -> None:
    made = client.map_reduce(shell("echo {item}"), [], shell(f'{SUM}; wc -c < "$JAAS_INPUT"', output="text"))
    assert made.wait(LONG).output.split() == ["0", "0"]


def test_retrying_what_failed(client: Client, witness: Witness) -> None:
    flaky = witness.spec("[ {item} != 1 ] || [ -e /witness/mended ] || exit 3; echo {item}", output="json")
    batch = client.map(flaky, range(3))
    with pytest.raises(BatchFailed, match="1 x exit code 3"):
        batch.wait(LONG)
    witness.open("mended")
    again = batch.retry_failed()
    assert again.wait(LONG).state is JobState.SUCCEEDED
    assert outputs(again) == [1]
    assert len(witness.starts()) == 4


def test_max_parallel_in_the_swarm(client: Client, witness: Witness) -> None:
    held = witness.spec(f"{witness.held('{item}')}; echo {{item}}", output="json")
    batch = client.map(held, range(5), max_parallel=2)
    for number in range(5):
        active = min(2, 5 - number)
        eventually(lambda: len(witness.starts()) == number + active, LONG, "the next container")  # noqa: B023
        counts = batch.status.counts
        assert counts.get(JobState.WAITING, 0) == 5 - number - active
        witness.open(str(number))
        client.handle(batch.job(number).id).wait(LONG)
    assert outputs(batch) == [0, 1, 2, 3, 4]


def test_cancelling_a_batch_stops_its_containers_and_starts_no_more(client: Client, witness: Witness) -> None:
    batch = client.map(witness.spec(witness.held()), range(4), max_parallel=2)
    for index in range(2):
        until(client, batch.job(index).id, JobState.RUNNING)
    assert batch.cancel("enough") == 4
    assert batch.wait(LONG, check=False).state is JobState.CANCELLED
    assert batch.status.counts == {JobState.CANCELLED: 4}
    assert len(witness.starts()) == 2


def test_the_first_good_result_of_a_job_and_its_copy_wins(
    client: Client, witness: Witness, worker: WorkerProcess, docker_api: docker.APIClient
) -> None:
    """Two maps hang. Of one the copy is faster, of the other the job itself; the worker is killed meanwhile."""
    hangs = f"[ {{item}} -lt 2 ] || {{ {witness.held('$JAAS_JOB_ID')}; }}; echo {{item}}"
    made = client.map_reduce(
        witness.spec(hangs, output="json", idempotent=True),
        range(4),
        witness.spec(SUM, output="json"),
        speculate=Speculation(factor=1.1, after=0.5, least=0.5, most=0.5),
    )
    slow, slower = made.maps.job(2), made.maps.job(3)
    copies = eventually(
        lambda: [ids for ids in [[one.record().copied_by for one in (slow, slower)]] if all(ids)],
        LONG,
        lambda: f"copies: {made.maps.status}",
    )[0]
    for copy_id in copies:
        until(client, copy_id, JobState.RUNNING)
    assert made.maps.status.copies == 2
    worker.kill()
    worker.start()
    witness.open(copies[0])
    witness.open(slower.id)
    assert made.wait(LONG).output == 0 + 1 + 2 + 3

    won, lost = client.handle(copies[0]), client.handle(copies[1])
    record = slow.record()
    assert [(a.number, a.state, a.cause) for a in record.attempts] == [
        (1, JobState.CANCELLED, Cause.CANCELLED),
        (2, JobState.SUCCEEDED, Cause.EXIT),
    ]
    assert record.attempts[1].service == service_name(won.id, 1)
    assert (slow.result().output, slow.result().stdout) == (2, "2\n")
    assert [(a.number, a.state) for a in slower.record().attempts] == [(1, JobState.SUCCEEDED)]
    assert lost.wait(LONG, check=False).state is JobState.CANCELLED
    assert made.maps.status.counts == {JobState.SUCCEEDED: 4}
    eventually(lambda: not containers_of(docker_api, slow.id), 20, "the container that hangs to be gone")
    told = celery_result(slow.id, app=client.app).get(timeout=LONG)
    assert (told["state"], told["output"], told["logs"]["stdout"]) == ("SUCCEEDED", 2, "2\n")
    started = Counter(line.split()[0] for line in witness.starts())
    jobs = [one.id for batch in (made.maps, *made.levels) for one in batch.records()]
    assert started == Counter([*jobs, *copies]), "each was started once, the reduce too"


def test_dependencies_between_jobs(client: Client, witness: Witness) -> None:
    first = client.submit(witness.spec(f"{witness.held()}; exit 7"))
    on_success = client.submit(witness.spec(), after=[first])
    on_failure = client.submit(witness.spec("echo tidied", output="text"), after=[first], on="failure")
    last = client.submit(witness.spec(), after=[on_success, on_failure], on="finish")
    until(client, first.id, JobState.RUNNING)
    assert [handle.state for handle in (on_success, on_failure, last)] == [JobState.WAITING] * 3
    witness.open()
    last.wait(LONG)
    assert on_success.record().state is JobState.SKIPPED
    assert on_failure.result().output == "tidied\n"
    assert [line.split()[0] for line in witness.starts()] == [first.id, on_failure.id, last.id]


# -- Celery's canvas -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("foreign_is_current")
def test_a_chain_passes_the_output_on(client: Client) -> None:
    first = job(shell("echo '{\"n\": 20}'", output="json"), queue=client.queue)
    second = job(shell('cat "$JAAS_INPUT"; echo', output="json"), queue=client.queue)
    result = chain(first, second).apply_async().get(timeout=LONG)
    assert result["output"] == {"n": 20}
    # As plain JSON, so that a task of one's own can read it.
    assert json.loads(json.dumps(result))["state"] == "SUCCEEDED"


@pytest.mark.usefixtures("foreign_is_current")
def test_a_reduce_reads_the_same_after_a_chord_as_after_maps(client: Client) -> None:
    maps = shell("[ {item} != 2 ] || exit 4; echo {item}", output="json", check=False)
    reduce = shell('echo "$JAAS_INPUT"; cat "$JAAS_INPUT"', output="text")
    after_maps = client.map_reduce(maps, range(4), reduce, min_success=0.5).wait(LONG).output
    texts = ("echo 0", "echo 1", "exit 4", "echo 3")
    parts = [job(shell(text, output="json", check=False), queue=client.queue) for text in texts]
    after_chord = chord(parts, job(reduce, queue=client.queue)).apply_async().get(timeout=LONG)["output"]
    assert after_chord == after_maps
    path, *lines = after_maps.splitlines()
    assert path == "/run/jaas/input.jsonl"
    assert [json.loads(line)["output"] for line in lines] == [0, 1, None, 3]


@pytest.mark.usefixtures("foreign_is_current")
def test_the_results_of_a_group(client: Client) -> None:
    parts = [job(shell(f"echo {n}", output="json"), queue=client.queue) for n in (1, 2, 3)]
    results = group(parts).apply_async().get(timeout=LONG)
    assert [result["output"] for result in results] == [1, 2, 3]


# -- from a shell ----------------------------------------------------------------------------------------------------

JAAS = [sys.executable, "-m", "jaas_submit.cli.main"]


def test_map_and_reduce_from_a_shell(jaas: Installation) -> None:
    done = subprocess.run(
        [
            *(*JAAS, "map", "--inputs", "-", "--format", "jsonl", "--min-success", "0.5", "--output", "json"),
            *("--reduce-image", "jaas-test", "--reduce-command", f"sh -c {shlex.quote(SUM)}", "jaas-test"),
            *("--", "sh", "-c", "exit_code={item.code}; echo {item.n}; exit $exit_code"),
        ],
        input="".join(json.dumps({"n": n, "code": int(n == 2)}) + "\n" for n in (1, 2, 3)),
        env=jaas.environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *maps, final = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted((one["index"], one["state"], one["output"]) for one in maps) == [
        (0, "SUCCEEDED", 1),
        (1, "FAILED", None),
        (2, "SUCCEEDED", 3),
    ]
    assert final["output"] == 4
    assert "failed with exit code 1" in done.stderr


def test_ctrl_c_leaves_a_batch_that_another_process_follows(
    jaas: Installation, client: Client, witness: Witness
) -> None:
    mount = f"{witness.folder}=/witness"
    command = ["--", "sh", "-c", f"{witness.spec().command[2]}; {witness.held()}; echo {{item}}"]  # type: ignore[index] # it is there
    first = subprocess.Popen(
        [*JAAS, "map", "--inputs", "-", "-m", mount, "--output", "json", "jaas-test", *command],
        env=jaas.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert first.stdin is not None
    first.stdin.write("1\n2\n")
    first.stdin.close()
    first.stdin = None
    eventually(lambda: len(witness.starts()) == 2, LONG, "both containers")
    eventually(lambda: client.batches()[0].total == 2, LONG, "all inputs to be submitted")
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=30)
    assert (first.returncode, out) == (130, "")
    (batch_id,) = re.findall(r"`jaas batch watch (\S+)`", err)
    second = subprocess.Popen(
        [*JAAS, "batch", "watch", batch_id], env=jaas.environment(), stderr=subprocess.PIPE, text=True
    )
    witness.open()
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert err.splitlines()[-1] == "jaas: 2 of 2 ended, 2 succeeded"
    done = subprocess.run(
        [*JAAS, "batch", "results", batch_id], env=jaas.environment(), stdout=subprocess.PIPE, check=True
    )
    assert [json.loads(line)["output"] for line in done.stdout.splitlines()] == [1, 2]


# -- crashes ---------------------------------------------------------------------------------------------------------


def test_a_worker_killed_five_times_during_a_map_reduce(
    client: Client, witness: Witness, jaas: Installation, worker: WorkerProcess
) -> None:
    """Each map and each reduce is started once, and the sum is right."""
    maps = witness.spec("echo {item}", output="json")
    made = client.map_reduce(maps, range(12), witness.spec(SUM, output="json"), fan_in=4, max_parallel=3)
    try:
        for ended in (1, 4, 8, 12, 14):
            # Ends of maps, of which there are 12, and then of reduces.
            eventually(
                lambda: sum(batch.status.ended for batch in (made.maps, *made.levels)) >= ended,  # noqa: B023
                LONG,
                lambda: f"{ended} ends: {made.maps.status.sentence()}",  # noqa: B023
            )
            worker.kill()
            worker.start()
        assert made.wait(LONG).output == sum(range(12))
    finally:
        if not worker.alive:
            worker.start()
    assert [level.status.size for level in made.levels] == [3, 1]
    started = [line.split()[0] for line in witness.starts()]
    jobs = [record.id for batch in (made.maps, *made.levels) for record in batch.records()]
    assert sorted(started) == sorted(jobs)
    # A worker that died between an outcome and the removal of its service leaves that to the next sweep.
    jaas.remove_services()
    for name, labels in jaas.swarm.configs(f"{LABEL_PREFIX}={jaas.prefix}").items():
        jaas.swarm.remove_config(name, labels)

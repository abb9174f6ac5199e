"""Each cause of a bad end, produced for real: what is recorded, which attempts follow, and how `explain` puts it.

The jobs of the first table are submitted together, before the first test looks at its own.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import docker
import pytest

from jaas_submit import Cause, Client, JobHandle, JobState
from jaas_submit.model.fields import Resources
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.retry_policy import Backoff, RetryPolicy, RetryRule
from jaas_submit.model.service_options.mounts import Mount
from jaas_submit.placement.placement import placement
from jaas_worker.swarm.docker_engine import Swarm
from jaas_worker.swarm.service_spec import service_request
from tests.support.jobs import LONG, celery_result, containers_of, docker_cli, ended, label_node, until
from tests.support.slow_registry import SlowRegistry
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker")]

WORKER = {"remove_delay": "0.1"}
AT_ONCE = Backoff(kind="constant", delay=0, jitter="none")
TWICE = RetryPolicy(max_attempts=2, backoff=AT_ONCE)
EAGER = RetryPolicy(max_attempts=9, max_cluster_retries=9, rules=[RetryRule(action="ignore")], backoff=AT_ONCE)
"""A policy that tries everything again that can be tried again."""

NOTE_LIMIT = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null >> /witness/limits"


class Case(NamedTuple):
    """A way to end badly, of the job's own fault."""

    cause: Cause
    fields: dict[str, Any]
    then: str = "true"
    exit_code: int | None = None
    reason: str = ""
    advice: str = ""
    starts: int = 0
    """Containers of both attempts that came to run their first line."""


CASES = {
    "exit code": Case(Cause.EXIT, {}, "exit 4", 4, "non-zero exit (4)", starts=2),
    "image missing": Case(
        Cause.IMAGE, {"image": "jaas-no-such-image:1"}, reason="No such image", advice="check the name"
    ),
    "command not found": Case(
        Cause.LAUNCH, {"command": ["no-such-program"]}, "", 127, "executable file not found", "check command"
    ),
    "bad mount": Case(
        Cause.LAUNCH,
        {"mounts": [Mount(source="/no/such/folder", target="/data")]},
        reason="/no/such/folder",
        advice="mounts",
    ),
    "unknown network": Case(Cause.LAUNCH, {"networks": ["no-such-network"]}, reason="no-such-network not found"),
    "unknown user": Case(Cause.LAUNCH, {"user": "nobody-here"}, "", 128, "nobody-here"),  # 128 is Docker's own
    "unknown secret": Case(Cause.LAUNCH, {"secrets": ["no-such-secret"]}, reason="docker secret create"),
    "run time-out of a process that ignores SIGTERM": Case(
        Cause.RUN_TIMEOUT,
        {"run_timeout": 1, "stop_grace": 1},
        "trap '' TERM; while :; do sleep 0.1; done",
        137,
        "ran longer than run_timeout (1 s)",
        "raise run_timeout",
        2,
    ),
    "memory that no node has": Case(
        Cause.UNSCHEDULABLE,
        {"reservations": Resources(memory="100T"), "pending_timeout": 8},
        reason="no suitable node (insufficient resources on 1 node",
        advice="change constraints or reservations",
    ),
    "cores that no node has": Case(
        Cause.UNSCHEDULABLE,
        {"reservations": Resources(cpus=4000), "pending_timeout": 8},
        reason="no suitable node (insufficient resources on 1 node",
    ),
    "a constraint that no node meets": Case(
        Cause.UNSCHEDULABLE,
        {"constraints": ["node.labels.t-none==x"], "pending_timeout": 8},
        reason="no suitable node (scheduling constraints not satisfied on 1 node",
    ),
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Witness:
    return Witness(tmp_path_factory.mktemp("witness"))


@pytest.fixture(scope="module")
def submitted(client: Client, jaas: Installation, watched: Witness) -> Iterator[dict[str, JobHandle]]:
    handles = {
        name: client.submit(watched.spec(case.then, **{"retry": TWICE, **case.fields})) for name, case in CASES.items()
    }
    patient = RetryPolicy(max_attempts=5, backoff=Backoff(kind="constant", delay=600, jitter="none"))
    slow = EAGER.model_copy(update={"backoff": Backoff(kind="constant", delay=3, jitter="none")})
    handles |= {
        "deadline": client.submit(watched.spec(watched.held(), deadline=45, retry=EAGER)),
        "deadline before the next attempt": client.submit(watched.spec("exit 5", deadline=300, retry=patient)),
        "deadline across attempts": client.submit(watched.spec("exit 5", deadline=50, retry=slow)),
    }
    yield handles
    eventually(lambda: not jaas.services(), LONG, lambda: f"services are still there: {jaas.services()}")


# -- a slow preparation (the other jobs run meanwhile) -----------------------------------------------------------------


def test_pending_timeout_ends_a_preparation_that_takes_too_long(
    client: Client, submitted: dict[str, JobHandle]
) -> None:
    with SlowRegistry() as registry:
        handle = client.submit(JobSpec(image=registry.image, pending_timeout=20))
        assert registry.asked_for_a_layer.wait(LONG), "the engine never began to pull"
        eventually(lambda: "preparing" in handle.record().detail, LONG, lambda: str(handle.record()))
        told = client.explain(handle.id).sentences
        assert told[0].startswith("Its service exists; no container has run for ")
        assert re.fullmatch(r"Node \S+ pulls its image or makes its container, for .* now\.", told[1])
        assert told[2].startswith("Its pending_timeout (20 seconds) ")
        result = ended(client, handle.id)
    assert (result.state, result.cause, result.exit_code) == (JobState.FAILED, Cause.PENDING_TIMEOUT, None)
    assert result.reason.startswith("no running container within pending_timeout (20 s): preparing on ")
    assert "have the image on the nodes before" in str(client.explain(handle.id))


# -- the job's own faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_recorded_and_takes_one_of_two_attempts_each_time(
    client: Client, submitted: dict[str, JobHandle], watched: Witness, docker_api: docker.APIClient, name: str
) -> None:
    case, handle = CASES[name], submitted[name]
    result = ended(client, handle.id)
    assert result.state is JobState.FAILED
    assert [(a.number, a.cause, a.exit_code) for a in result.attempts] == [
        (1, case.cause, case.exit_code),
        (2, case.cause, case.exit_code),
    ], result.sentence()
    assert all(case.reason in a.reason for a in result.attempts)
    assert [a.decision for a in result.attempts] == [
        f"no retry rule matched; {used} of 2 attempts used (max_attempts)" for used in (1, 2)
    ]
    starts = [line.split()[:2] for line in watched.starts(handle.id)]
    assert starts == [[handle.id, str(number)] for number in range(1, case.starts + 1)]
    assert not containers_of(docker_api, handle.id)
    told = celery_result(handle.id, app=client.app)
    assert (told.state, str(told.result)) == ("FAILURE", result.sentence())
    explained = client.explain(handle.id)
    assert f"(cause {case.cause}" in explained.sentences[0]
    assert case.reason in explained.sentences[0]
    assert "It is not tried again: no retry rule matched; 2 of 2 attempts used (max_attempts)." in explained.sentences
    assert explained.sentences[-1].startswith("Attempt 1 ended")
    assert f"(cause {case.cause}; {result.attempts[0].reason})" in explained.sentences[-1]
    assert ("No container was seen to start." in explained.sentences) == (result.attempts[0].container_id is None)
    assert case.advice in str(explained)


def test_a_job_that_runs_out_of_memory_gets_more_until_it_has_enough(client: Client, witness: Witness) -> None:
    policy = RetryPolicy(max_attempts=4, memory_factor=4, memory_cap="256M", backoff=AT_ONCE)
    then = f"{NOTE_LIMIT}; dd if=/dev/zero of=/dev/null bs=64M count=1"
    handle = client.submit(witness.spec(then, limits=Resources(memory="16M"), retry=policy))
    result = ended(client, handle.id)
    *before, last = result.attempts
    assert (last.exit_code, last.cause) == (0, Cause.EXIT), result.sentence()
    assert [(a.cause, a.exit_code) for a in before] == [(Cause.OOM, 137)] * 2
    limits = [int(line) // 2**20 for line in (witness.folder / "limits").read_text().split()]
    assert limits == [16, 64, 256]
    assert [int(line.split()[1]) for line in witness.starts()] == list(range(1, len(result.attempts) + 1))
    told = str(client.explain(handle.id))
    for attempt in before:  # the engine does not always tell
        if attempt.oom_killed:
            assert attempt.reason == "task: non-zero exit (137): out of memory, says the engine"
        else:
            assert attempt.reason == "task: non-zero exit (137): SIGKILL under a memory limit"
        words = "the kernel killed it for its memory" if attempt.oom_killed else "most likely for its memory, though no"
        assert f"Attempt {attempt.number} ended on {attempt.node} with exit code 137: " in told
        assert words in told


# -- the cluster's faults ---------------------------------------------------------------------------------------------


def _forbid_the_node(host: str, service: str) -> None:
    # What draining its node does to a task, too; this touches one service only.
    words = ("service", "update", "--detach", "--no-resolve-image", "--constraint-add", "node.labels.t-none==x")
    docker_cli(host, *words, service)


def _remove(host: str, service: str) -> None:
    docker_cli(host, "service", "rm", service)


MEDDLERS = [
    pytest.param(_forbid_the_node, Cause.PREEMPTED, id="node forbidden"),
    pytest.param(_remove, Cause.REMOVED_OUTSIDE, id="service removed"),
]


@pytest.mark.parametrize(("meddle", "cause"), MEDDLERS)
def test_faults_of_the_cluster_are_retried_from_max_cluster_retries(
    jaas: Installation,
    client: Client,
    witness: Witness,
    docker_api: docker.APIClient,
    meddle: Callable[[str, str], None],
    cause: Cause,
) -> None:
    account = RetryPolicy(max_cluster_retries=1, backoff=AT_ONCE)
    handle = client.submit(witness.spec(witness.held(), retry=account))
    until(client, handle.id, JobState.RUNNING)
    meddle(jaas.engine_host, f"jaas-{handle.id}-1")
    eventually(lambda: len(witness.starts()) == 2, LONG)
    # A container whose service was removed is stopped by its node, some time later.
    eventually(lambda: len(containers_of(docker_api, handle.id)) == 1, LONG)
    witness.open()
    result = ended(client, handle.id)
    assert [(a.number, a.cause) for a in result.attempts] == [(1, cause), (2, Cause.EXIT)]
    assert (result.state, result.exit_code) == (JobState.SUCCEEDED, 0)
    assert result.attempts[0].decision == "no retry rule matched; 0 of 1 further attempt used (max_cluster_retries)"
    assert [line.split()[1] for line in witness.starts()] == ["1", "2"]
    told = client.explain(handle.id).sentences
    assert told[0].startswith("It succeeded on ")
    assert [f"cause {cause}" in sentence for sentence in told[1:]] == [True]


def test_without_an_account_the_clusters_fault_ends_the_job(
    jaas: Installation, client: Client, witness: Witness
) -> None:
    handle = client.submit(witness.spec(witness.held(), retry=RetryPolicy(max_attempts=5, backoff=AT_ONCE)))
    until(client, handle.id, JobState.RUNNING)
    _forbid_the_node(jaas.engine_host, f"jaas-{handle.id}-1")
    result = ended(client, handle.id)
    assert [a.cause for a in result.attempts] == [Cause.PREEMPTED]
    assert result.attempts[0].decision == "no retry rule matched; 0 of 0 further attempts used (max_cluster_retries)"
    assert "What may help: raise retry.max_cluster_retries." in client.explain(handle.id).sentences
    assert len(witness.starts()) == 1


SLOW_TO_STOP = """
if [ "$JAAS_ATTEMPT" = 2 ]; then [ -e /witness/stopped ]; exit; fi
trap 'sleep 2; touch /witness/stopped; exit 143' TERM
touch /witness/ready
while :; do sleep 0.05; done
"""


@pytest.fixture
def node_label(docker_api: docker.APIClient) -> Iterator[str]:
    """A label that the node has at first."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    label_node(docker_api, name, "yes")
    yield name
    label_node(docker_api, name, None)


def test_a_node_that_loses_a_label_has_stopped_the_container_when_the_next_attempt_starts(
    client: Client, witness: Witness, docker_api: docker.APIClient, node_label: str
) -> None:
    account = RetryPolicy(max_cluster_retries=1, backoff=AT_ONCE)
    handle = client.submit(witness.spec(SLOW_TO_STOP, constraints=[f"node.labels.{node_label}==yes"], retry=account))
    eventually((witness.folder / "ready").exists, LONG)
    until(client, handle.id, JobState.RUNNING)
    label_node(docker_api, node_label, None)
    eventually(lambda: handle.record().attempts, LONG, lambda: str(handle.record()))
    label_node(docker_api, node_label, "yes")
    result = ended(client, handle.id)
    assert [(a.cause, a.exit_code) for a in result.attempts] == [(Cause.PREEMPTED, None), (Cause.EXIT, 0)]
    assert result.attempts[0].reason == "assigned node no longer meets constraints"


# -- what no policy tries again ---------------------------------------------------------------------------------------


def test_the_deadline_ends_a_running_job_for_good(
    client: Client, submitted: dict[str, JobHandle], watched: Witness, docker_api: docker.APIClient
) -> None:
    result = ended(client, submitted["deadline"].id)
    assert [(a.cause, a.exit_code) for a in result.attempts] == [(Cause.DEADLINE, 143)]
    assert result.reason == "not ended within deadline (45 s)"
    assert result.attempts[0].decision == "never retried after cause deadline"
    assert (
        client.explain(result.job_id)
        .sentences[0]
        .endswith(": its deadline came (cause deadline, exit code 143; not ended within deadline (45 s)).")
    )
    assert len(watched.starts(result.job_id)) == 1
    assert not containers_of(docker_api, result.job_id)


def test_no_attempt_is_waited_for_that_would_come_after_the_deadline(
    client: Client, submitted: dict[str, JobHandle], watched: Witness
) -> None:
    result = ended(client, submitted["deadline before the next attempt"].id)
    assert [(a.cause, a.exit_code) for a in result.attempts] == [(Cause.EXIT, 5)]
    assert result.attempts[0].decision.endswith("; but the deadline comes before the next attempt")
    assert len(watched.starts(result.job_id)) == 1


def test_the_deadline_holds_across_attempts(client: Client, submitted: dict[str, JobHandle], watched: Witness) -> None:
    """Each attempt is short; together they are too long."""
    result = ended(client, submitted["deadline across attempts"].id)
    assert result.state is JobState.FAILED
    assert len(result.attempts) > 1
    assert {a.cause for a in result.attempts[:-1]} == {Cause.EXIT}
    # The last one was stopped in its middle, or the next one would have come too late.
    last = result.attempts[-1]
    assert last.cause is Cause.DEADLINE or last.decision.endswith("but the deadline comes before the next attempt")
    ran = [a.number for a in result.attempts if a.number]
    assert [int(line.split()[1]) for line in watched.starts(result.job_id)] in (ran, ran[:-1])


def test_a_description_that_is_not_valid_is_refused_for_good(client: Client, witness: Witness) -> None:
    spec = {**witness.spec(retry=EAGER).to_wire(), "colour": "red"}
    job_id = str(uuid.uuid4())
    client.app.send_task("jaas.run", kwargs={"spec": spec}, task_id=job_id, queue=client.queue)
    eventually(lambda: client.ledger.queries.find([job_id]), LONG)
    result = ended(client, job_id)
    assert (result.state, result.cause) == (JobState.FAILED, Cause.REFUSED)
    assert [a.number for a in result.attempts] == [0]
    assert "colour: is no field of a job description" in client.explain(job_id).sentences[0]
    assert witness.starts() == []


def test_a_cancelled_job_is_not_tried_again(client: Client, witness: Witness) -> None:
    handle = client.submit(witness.spec(witness.held(), retry=EAGER))
    until(client, handle.id, JobState.RUNNING)
    eventually(lambda: witness.starts(handle.id), LONG)
    handle.cancel("wrong input")
    result = ended(client, handle.id)
    assert [(a.cause, a.exit_code) for a in result.attempts] == [(Cause.CANCELLED, 143)]
    assert "somebody cancelled it (cause cancelled, exit code 143; wrong input)" in str(client.explain(handle.id))
    assert len(witness.starts()) == 1


# -- which nodes would take it ----------------------------------------------------------------------------------------


def test_a_job_that_waits_for_a_node_is_told_what_each_of_them_lacks(
    client: Client, witness: Witness, docker_api: docker.APIClient
) -> None:
    name = docker_api.info()["Name"]
    needs = Resources(memory="100T", cpus=4000)
    spec = witness.spec(constraints=["node.labels.t-none==x"], reservations=needs)
    (before,) = client.placement(spec)
    assert (before.hostname, before.fits, len(before.reasons)) == (name, False, 3)
    (without,) = client.placement(witness.spec())
    assert (without.fits, without.reasons) == (True, ())
    handle = client.submit(spec)
    eventually(lambda: handle.record().detail.startswith("no suitable node"), LONG)
    told = client.explain(handle.id)
    assert told.state is JobState.PENDING
    assert "What the swarm says: no suitable node (" in told.sentences[1]
    assert told.sentences[2].endswith(
        "it fits on none of them: insufficient memory on 1 node, insufficient cores on 1 node, "
        "constraint not met on 1 node."
    )
    assert (
        f"  {name}: constraint node.labels.t-none==x is not met (it has none); 100.0 TiB of memory" in told.sentences[3]
    )
    assert told.sentences[-1] == "It waits without a limit: it has neither pending_timeout nor deadline."
    assert [fit.reasons for fit in told.nodes] == [before.reasons]
    handle.cancel()
    assert ended(client, handle.id).state is JobState.CANCELLED
    assert witness.starts() == []


# Written with this node's own values: {host}, {id}, {ip}, {label}, which has the value "Red.1" here.
CONSTRAINTS = [
    "node.id=={id}",
    "node.id!={id}",
    "node.hostname=={host}",
    "node.hostname=={HOST}",
    "node.hostname!={HOST}",
    "node.hostname=={host}*",
    "node.hostname==*",
    "node.hostname!=*",
    "node.role==Manager",
    "node.role!=manager",
    "node.platform.os==LINUX",
    "node.platform.arch==x86_64",
    "node.platform.arch==amd64",
    "node.labels.{label}==red.1",
    "node.labels.{label} == Red.1 ",
    "node.labels.{label}!=RED.1",
    "node.labels.{label}==redx1",
    "node.labels.{LABEL}==Red.1",
    "node.labels.none-of-us==x",
    "node.labels.none-of-us!=x",
    "engine.labels.none-of-us==x",
    "engine.labels.none-of-us!=x",
    "node.ip=={ip}",
    "node.ip!={ip}",
    "node.ip=={ip}/8",
    "node.ip!={ip}/8",
    "node.ip==192.0.2.0/24",
    "node.ip!=192.0.2.0/24",
    "node.ip!=nowhere",
]


@pytest.fixture
def label(docker_api: docker.APIClient) -> Iterator[str]:
    """A label of the node with the value "Red.1"."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    label_node(docker_api, name, "Red.1")
    yield name
    label_node(docker_api, name, None)


def test_what_we_say_of_a_node_is_what_the_swarm_does(swarm: Swarm, prefix: str, label: str) -> None:
    """A table of constraints and reservations, each put to the real scheduler. No container is started for it."""
    (node,) = swarm.cluster().nodes
    values = {"id": node.id, "host": node.hostname, "HOST": node.hostname.swapcase(), "ip": node.address}
    values |= {"label": label, "LABEL": label.upper()}
    image = "jaas-no-such-image:1"  # a task that finds a node ends at once
    specs = [JobSpec(image=image, constraints=[text.format(**values)]) for text in CONSTRAINTS]
    specs += [
        JobSpec(image=image, reservations=Resources(**needs))
        for needs in ({"cpus": 0.001}, {"memory": "6M"}, {"cpus": node.cpus + 1}, {"memory": node.memory + 1})
    ]
    created = [
        swarm.create(service_request(spec, f"{prefix}-{number}", 1, {"jaas.prefix": prefix}, {}))
        for number, spec in enumerate(specs)
    ]

    def verdict(service_id: str) -> str:
        (task,) = swarm.tasks_of(service_id) or (None,)
        if task is None:
            return ""
        return "fits" if task.node_id else "does not" if task.error.startswith("no suitable node") else ""

    for spec, service in zip(specs, created, strict=True):
        assert service is not None
        swarm_says = eventually(lambda: verdict(service.id), 30)  # noqa: B023 (asked within the round)
        (ours,) = placement(spec, swarm.cluster())
        assert ("fits" if ours.fits else "does not") == swarm_says, (spec.constraints, spec.reservations, ours.reasons)
    assert {verdict(service.id) for service in created if service} == {"fits", "does not"}

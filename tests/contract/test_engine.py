"""What jaas relies on in an engine, pinned on a real swarm and on the one in memory alike."""

from __future__ import annotations

import contextlib
import re
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import docker
import pytest

from benchmarks.simulator import Model, SimulatedSwarm
from jaas_submit.errors import AnswerTooLong, EngineNotFound, EngineRefused, EngineUnavailable
from jaas_submit.model.causes import Cause
from jaas_submit.model.fields import Constraint
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import LogStatus
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import LABEL_ATTEMPT, LABEL_JOB, LABEL_PREFIX, LABEL_SPEC_HASH
from jaas_worker.decisions.task_outcome import StopRequest, attempt_task, outcome_of, waiting_reason
from jaas_worker.decisions.times import parse_time
from jaas_worker.swarm.container_logs import collect
from jaas_worker.swarm.create_or_adopt import create_or_adopt
from jaas_worker.swarm.docker_engine import Swarm, require_manager
from jaas_worker.swarm.engine import Engine, EngineEvent, NodeChange, ServiceView, TaskView
from jaas_worker.swarm.log_driver import LogDriver
from jaas_worker.swarm.service_spec import service_request
from tests.support.engine_http import serving
from tests.support.fake_swarm import FakeSwarm
from tests.support.programs import (
    ALL_BYTES,
    COUNT,
    DEAF,
    EXIT_4,
    LONG_LINE,
    NO_SUCH_IMAGE,
    NO_SUCH_PROGRAM,
    SPEAK,
    TRUE,
    WAIT,
    Program,
)
from tests.support.socket_proxy import behind_proxy
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE

NOWHERE = ("node.labels.jaas-test==nowhere",)

SPEAK_UP, SLEEP = Program("echo simulated"), Program("exec sleep 3600", exit_code=None)
"""What the simulated engine of the benchmarks can run."""

REAL = pytest.param("swarm", marks=pytest.mark.engine)
PROXIED = pytest.param("proxied", marks=pytest.mark.engine)
"""The real one behind `jaas socket-proxy`."""
ENGINES = ["fake", "http", REAL, PROXIED]

simulated_too = pytest.mark.parametrize("bench", [*ENGINES, "simulated"], indirect=True)
"""For tests that the simulated engine of the benchmarks passes as well: its containers only sleep, or end well."""

simulated_and_real = pytest.mark.parametrize("bench", ["simulated", REAL], indirect=True)
"""For tests of what it runs."""


class Bench:
    """One engine, and what the tests do with it."""

    def __init__(self, engine: Engine, prefix: str, host: str = "") -> None:
        self.engine = engine
        self.host = host or getattr(engine, "host", "")
        self.prefix = prefix
        self.ends_by_itself = EXIT_4

    def request(self, program: Program = TRUE, **fields: Any) -> dict[str, Any]:
        spec = JobSpec(**{"image": TEST_IMAGE, "command": program.command, "stop_grace": 1, **fields})
        marks = {LABEL_PREFIX: self.prefix, LABEL_SPEC_HASH: spec.digest()}
        return service_request(spec, str(uuid.uuid4()), 1, marks, {})

    def create(self, program: Program = TRUE, **fields: Any) -> ServiceView:
        service = self.engine.create(self.request(program, **fields))
        assert service is not None
        return service

    def task(self, service: ServiceView) -> TaskView:
        task = attempt_task(self.engine.tasks_of(service.id))
        assert task is not None
        return task

    def in_state(self, service: ServiceView, state: str) -> TaskView:
        """Wait until the service's task is in this state."""
        return eventually(
            lambda: next((t for t in self.engine.tasks_of(service.id) if t.state == state), None),
            30,
            lambda: f"{service.name} {state}: {self.engine.tasks_of(service.id)}",
        )

    def ended(self, service: ServiceView) -> TaskView:
        """Wait until the service's task is among the ended ones, which is how the tracker sees it."""
        label = f"{LABEL_JOB}={service.labels[LABEL_JOB]}"
        return eventually(
            lambda: next((t for t in self.engine.ended_tasks(label) if t.ended), None),
            30,
            lambda: f"{service.name} ended: {self.engine.tasks_of(service.id)}",
        )

    def create_secret(self, name: str) -> str:
        if isinstance(self.engine, FakeSwarm):
            self.engine.secrets[name] = f"id-of-{name}"
            return self.engine.secrets[name]
        made: str = self.docker.create_secret(name, b"hush", {LABEL_PREFIX: self.prefix})["ID"]
        return made

    @property
    def docker(self) -> Any:
        """The same engine, for what jaas itself never asks of one."""
        return docker.APIClient(base_url=self.host, version="1.41")

    def remove_secrets(self) -> None:
        if not isinstance(self.engine, FakeSwarm):
            for secret in self.docker.secrets(filters={"label": f"{LABEL_PREFIX}={self.prefix}"}):
                self.docker.remove_secret(secret["ID"])


@pytest.fixture(scope="module")
def over_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """The engine in memory, asked as a real one is: over HTTP."""
    with serving(FakeSwarm(), str(tmp_path_factory.mktemp("engine") / "sock")) as host:
        yield Swarm(host)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """The simulated engine of the benchmarks, with its latencies."""
    engine = SimulatedSwarm(1, Model(start=0.1, starts=100))
    with serving(engine, str(tmp_path_factory.mktemp("engine") / "sock"), engine.latency) as host:
        yield Swarm(host)
    engine.close()


@pytest.fixture
def proxied(engine_host: str, tmp_path: Path) -> Iterator[Swarm]:
    """The real engine behind the socket proxy."""
    with behind_proxy(engine_host, tmp_path, policy="privileged") as host:
        yield Swarm(host)


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, prefix: str) -> Iterator[Bench]:
    names = {"http": "over_http", "swarm": "swarm", "simulated": "simulated", "proxied": "proxied"}
    engine = FakeSwarm() if request.param == "fake" else request.getfixturevalue(names[request.param])
    made = Bench(engine, prefix, request.getfixturevalue("engine_host") if request.param == "proxied" else "")
    if request.param == "simulated":
        made.ends_by_itself = SPEAK_UP
    yield made
    made.remove_secrets()


# -- creating and finding --------------------------------------------------------------------------------------------


@simulated_too
def test_a_name_can_be_created_only_once(bench: Bench) -> None:
    request = bench.request()
    first = bench.engine.create(request)
    assert first is not None
    assert bench.engine.create(request) is None
    found = bench.engine.find(first.name)
    assert found is not None
    assert (found.id, found.name, found.labels) == (first.id, first.name, first.labels)


@simulated_too
def test_of_many_that_create_a_name_at_once_one_succeeds(bench: Bench) -> None:
    request = bench.request()
    answers: list[ServiceView | None] = []
    threads = [threading.Thread(target=lambda: answers.append(bench.engine.create(request))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len([answer for answer in answers if answer is not None]) == 1


@simulated_too
def test_create_or_adopt_returns_the_same_service_each_time(bench: Bench) -> None:
    spec = JobSpec(image=TEST_IMAGE, command=TRUE.command)
    job_id = str(uuid.uuid4())
    marks = {LABEL_PREFIX: bench.prefix, LABEL_SPEC_HASH: spec.digest()}
    services = [create_or_adopt(bench.engine, spec, job_id, 1, marks) for _ in range(3)]
    assert len({service.id for service in services}) == 1


@simulated_too
def test_a_name_that_nobody_has_is_not_found(bench: Bench) -> None:
    assert bench.engine.find("jaas-nobody-has-this-1") is None


@simulated_too
def test_the_labels_are_kept(bench: Bench) -> None:
    service = bench.create(env={"A": "1"})
    (listed,) = bench.engine.services(f"{LABEL_PREFIX}={bench.prefix}")
    assert (listed.id, listed.name, listed.labels) == (service.id, service.name, service.labels)
    assert parse_time(listed.created_at)
    assert "A=1" in listed.env
    assert service.id in {any_of_ours.id for any_of_ours in bench.engine.services(LABEL_JOB)}
    assert set(service.labels) >= {LABEL_JOB, LABEL_ATTEMPT, LABEL_SPEC_HASH, LABEL_PREFIX}
    assert bench.engine.services(f"{LABEL_PREFIX}={bench.prefix}x") == []
    mine = f"{LABEL_PREFIX}={bench.prefix}"
    assert [found.id for found in bench.engine.services(mine, service.name[:7])] == [service.id]
    assert bench.engine.services(mine, f"{service.name}0") == []


@simulated_too
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"networks": ["jaas-no-such-network"]}, "jaas-no-such-network not found"),
        ({"mounts": []}, "duplicate mount point"),
    ],
)
def test_what_can_never_work_is_refused_for_good(bench: Bench, fields: dict[str, Any], said: str) -> None:
    request = bench.request(**fields)
    if "mounts" in fields:  # the description would refuse it
        request["TaskTemplate"]["ContainerSpec"]["Mounts"] = [{"Type": "tmpfs", "Target": "/x"}] * 2
    with pytest.raises(EngineRefused, match=said):
        bench.engine.create(request)
    assert bench.engine.find(request["Name"]) is None


@pytest.mark.parametrize(
    "text",
    [
        'node.labels.zone=="eu"',
        "node.labels.zone==eu,us",
        "node.labels.zone==b\u00fcro",
        "node.labels.a b==x",
        "node.id",
    ],
)
def test_a_constraint_that_the_description_refuses_the_swarm_refuses_too(bench: Bench, text: str) -> None:
    request = bench.request()
    request["TaskTemplate"]["Placement"]["Constraints"] = [text]
    with pytest.raises(ValueError, match="no placement constraint"):
        Constraint.parse(text)
    with pytest.raises(EngineRefused, match=r"is invalid|expected one operator"):
        bench.engine.create(request)
    assert bench.engine.find(request["Name"]) is None


def test_a_constraint_that_the_description_takes_the_swarm_takes_too(bench: Bench) -> None:
    bench.ended(bench.create(constraints=["NODE.ROLE == Manager", "node.labels.jaas-x!=:-_.*()?+[]\\^$|/ a"]))


# -- how tasks end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "state", "exit_code", "error"),
    [(TRUE, "complete", 0, ""), (EXIT_4, "failed", 4, "task: non-zero exit (4)")],
)
def test_a_process_that_ends(bench: Bench, program: Program, state: str, exit_code: int, error: str) -> None:
    service = bench.create(program)
    task = bench.ended(service)
    assert (task.state, task.desired, task.exit_code, task.error) == (state, "shutdown", exit_code, error)
    assert task.service_id == service.id
    assert task.container_id
    assert task.node_id in bench.engine.node_names()
    times = bench.engine.container_times(task.container_id)
    assert times is not None
    assert not times.oom_killed
    assert times.exit_code == exit_code
    assert parse_time(times.started_at)
    assert parse_time(times.finished_at)


def test_a_command_that_is_not_there_fails_with_127(bench: Bench) -> None:
    task = bench.ended(bench.create(command=[NO_SUCH_PROGRAM]))
    assert (task.state, task.exit_code) == ("failed", 127)
    assert "executable file not found" in task.error
    times = bench.engine.container_times(task.container_id or "")
    assert times is not None
    assert parse_time(times.started_at) is None
    assert times.exit_code is None


def test_an_image_that_is_not_there_is_rejected(bench: Bench) -> None:
    task = bench.ended(bench.create(image=NO_SUCH_IMAGE))
    assert (task.state, task.container_id) == ("rejected", None)
    assert task.error == f"No such image: {NO_SUCH_IMAGE}"


@pytest.mark.parametrize(
    ("fields", "state", "cause", "exit_code"),
    [
        ({"command": TRUE.command}, JobState.SUCCEEDED, Cause.EXIT, 0),
        ({"command": EXIT_4.command}, JobState.FAILED, Cause.EXIT, 4),
        ({"command": [NO_SUCH_PROGRAM]}, JobState.FAILED, Cause.LAUNCH, 127),
        ({"image": NO_SUCH_IMAGE}, JobState.FAILED, Cause.IMAGE, None),
    ],
)
def test_the_outcome_that_jaas_reads_from_it(
    bench: Bench, fields: dict[str, Any], state: JobState, cause: Cause, exit_code: int | None
) -> None:
    task = bench.ended(bench.create(**fields))
    times = bench.engine.container_times(task.container_id) if task.container_id else None
    outcome = outcome_of(task, "node", None, times, None)
    assert (outcome.state, outcome.cause, outcome.exit_code) == (state, cause, exit_code)
    assert outcome.finished_at is not None


@simulated_too
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"constraints": NOWHERE}, r"no suitable node \(scheduling constraints not satisfied on \d+ nodes?\)"),
        ({"reservations": {"cpus": 4000}}, r"no suitable node \(insufficient resources on \d+ nodes?\)"),
    ],
)
def test_a_task_that_no_node_can_take_is_pending_and_says_why(bench: Bench, fields: Any, reason: str) -> None:
    service = bench.create(**fields)
    task = eventually(lambda: t if (t := bench.in_state(service, "pending")).error else None, 30, "a reason")
    assert re.fullmatch(reason, waiting_reason(task))
    assert task.container_id is None
    assert bench.engine.ended_tasks(f"{LABEL_PREFIX}={bench.prefix}") == []


@simulated_and_real
def test_what_the_simulated_engine_runs_ends_as_on_a_real_one(bench: Bench) -> None:
    service = bench.create(SPEAK_UP)
    task = bench.ended(service)
    assert (task.state, task.exit_code, task.error) == ("complete", 0, "")
    assert bench.engine.node_names()[task.node_id] == bench.engine.info().node_name
    assert collect(bench.engine.logs(service.id, task.container_id, 10), 10_000).stdout == "simulated\n"
    times = bench.engine.container_times(task.container_id or "")
    assert times is not None
    began, over = parse_time(times.started_at), parse_time(times.finished_at)
    assert began is not None
    assert over is not None
    # Of a short one a real engine notes the end before the start at times.
    assert abs(over - began) < timedelta(seconds=10)


@simulated_and_real
def test_what_sleeps_for_a_while_runs_and_then_ends(bench: Bench) -> None:
    service = bench.create(Program("sleep 5"))
    assert not bench.in_state(service, "running").ended
    task = bench.ended(service)
    assert (task.state, task.exit_code) == ("complete", 0)


@simulated_and_real
def test_what_sleeps_runs_until_it_is_removed(bench: Bench) -> None:
    service, label = bench.create(SLEEP), f"{LABEL_PREFIX}={bench.prefix}"
    task = bench.in_state(service, "running")
    assert bench.engine.ended_tasks(label) == []
    assert [(t.id, t.state) for t in bench.engine.all_tasks(label)] == [(task.id, "running")]
    assert bench.engine.remove(service.id) is True
    eventually(lambda: bench.engine.all_tasks(label) == [], 20, "its task to go")


# -- stopping and removing -------------------------------------------------------------------------------------------


def test_ended_tasks_leaves_out_those_that_run(bench: Bench) -> None:
    service = bench.create(WAIT)
    task = bench.in_state(service, "running")
    label = f"{LABEL_PREFIX}={bench.prefix}"
    assert bench.engine.ended_tasks(label) == []
    assert [t.id for t in bench.engine.all_tasks(label)] == [task.id]
    assert task.node_id in bench.engine.node_names()


def test_a_stopped_container_gets_sigterm_and_keeps_its_exit_code_and_output(bench: Bench) -> None:
    service = bench.create(WAIT, stop_grace=20)
    running = bench.in_state(service, "running")
    has_printed(bench, service, running, "up\n")
    assert bench.engine.stop(service.id)
    task = bench.ended(service)
    assert (task.id, task.state, task.exit_code) == (running.id, "shutdown", 3)
    assert bench.task(service).id == running.id
    assert collect(bench.engine.logs(service.id, task.container_id, 10), 10_000).stdout == "up\nbye\n"
    stop = StopRequest(Cause.CANCELLED, "enough")
    assert outcome_of(task, None, None, None, stop).state is JobState.CANCELLED


def test_a_container_that_ignores_sigterm_is_killed_after_its_grace(bench: Bench) -> None:
    service = bench.create(DEAF, stop_grace=1)
    has_printed(bench, service, bench.in_state(service, "running"), "up\n")
    assert bench.engine.stop(service.id)
    task = bench.ended(service)
    assert (task.state, task.exit_code) == ("shutdown", 137)


def test_a_pending_task_can_be_stopped(bench: Bench) -> None:
    service = bench.create(constraints=NOWHERE)
    pending = bench.in_state(service, "pending")
    assert bench.engine.stop(service.id)
    task = bench.ended(service)
    assert (task.id, task.state, task.container_id) == (pending.id, "shutdown", None)


def test_stopping_what_has_ended_changes_nothing_of_its_outcome(bench: Bench) -> None:
    service = bench.create(EXIT_4)
    ended = bench.ended(service)
    assert bench.engine.stop(service.id)
    assert bench.engine.stop(service.id)
    task = bench.task(service)
    assert (task.id, task.state, task.exit_code) == (ended.id, "failed", 4)


@simulated_too
def test_a_service_is_removed_once(bench: Bench) -> None:
    service = bench.create()
    bench.ended(service)
    other = bench.create()
    bench.ended(other)
    assert {task.service_id for task in bench.engine.tasks_of(service.id, other.id)} == {service.id, other.id}
    assert bench.engine.remove(service.id) is True
    assert bench.engine.remove(service.id) is False
    assert bench.engine.stop(service.id) is False
    assert bench.engine.find(service.name) is None
    assert eventually(lambda: bench.engine.tasks_of(service.id) == [], 30, "its tasks to go")
    assert [task.service_id for task in bench.engine.tasks_of(service.id, other.id)] == [other.id]
    assert bench.engine.remove(other.id) is True
    assert bench.engine.services(f"{LABEL_PREFIX}={bench.prefix}") == []
    assert eventually(lambda: bench.engine.tasks_of(other.id) == [], 30, "the other's tasks to go")
    # The swarm forgets the service first, and then its task.
    eventually(lambda: bench.engine.ended_tasks(f"{LABEL_PREFIX}={bench.prefix}") == [], 30, "the ended tasks to go")


@simulated_too
def test_a_name_is_free_again_after_the_removal(bench: Bench) -> None:
    request = bench.request()
    first = bench.engine.create(request)
    assert first is not None
    bench.engine.remove(first.id)
    second = bench.engine.create(request)
    assert second is not None
    assert second.id != first.id


# -- output ----------------------------------------------------------------------------------------------------------


def has_printed(bench: Bench, service: ServiceView, task: TaskView, text: str) -> None:
    """Wait until the program is far enough: its traps are set when it prints."""

    def printed() -> bool:
        return collect(bench.engine.logs(service.id, task.container_id, 10), 10_000).stdout == text

    eventually(printed, 20, f"{text!r} in the logs")


@pytest.mark.parametrize("by_container", [True, False], ids=["container", "service"])
def test_output_is_told_apart_by_stream_and_has_times(bench: Bench, by_container: bool) -> None:
    service = bench.create(SPEAK)
    task = bench.ended(service)
    frames = list(bench.engine.logs(service.id, task.container_id if by_container else None, 10))
    assert {frame.stream for frame in frames} == {"stdout", "stderr"}
    assert all(parse_time(frame.data.split(b" ")[0].decode()) for frame in frames)
    logs = collect(frames, 10_000)
    assert (logs.stdout, logs.stderr) == ("one\nthree\nfour", "two\n")


@pytest.mark.parametrize("by_container", [True, False], ids=["container", "service"])
def test_the_last_lines_can_be_read_alone(bench: Bench, by_container: bool) -> None:
    service = bench.create(COUNT)
    task = bench.ended(service)
    frames = bench.engine.logs(service.id, task.container_id if by_container else None, 10, tail=2)
    assert [frame.data.split(b" ")[1] for frame in frames] == [b"7\n", b"8\n"]


def test_a_long_line_arrives_in_pieces_and_whole(bench: Bench) -> None:
    service = bench.create(LONG_LINE)
    task = bench.ended(service)
    frames = list(bench.engine.logs(service.id, task.container_id, 10))
    assert len(frames) > 1
    assert collect(frames, 100_000).stdout == "x" * 40000 + "\n"


@pytest.mark.parametrize("by_container", [True, False], ids=["container", "service"])
def test_the_driver_local_hands_out_the_bytes_that_were_written(bench: Bench, by_container: bool) -> None:
    service = bench.create(ALL_BYTES, log_driver="local")
    task = bench.ended(service)
    frames = bench.engine.logs(service.id, task.container_id if by_container else None, 10)
    logs = collect(frames, 10_000, LogDriver("local"))
    assert (logs.stdout_bytes, logs.status) == (bytes(range(256)), LogStatus.COMPLETE)


def test_one_stream_can_be_read_alone(bench: Bench) -> None:
    service = bench.create(SPEAK)
    task = bench.ended(service)
    frames = list(bench.engine.logs(service.id, task.container_id, 10, only="stderr"))
    assert [(frame.stream, frame.data.split(b" ")[1]) for frame in frames] == [("stderr", b"two\n")]


def test_a_container_without_output_has_none(bench: Bench) -> None:
    service = bench.create()
    task = bench.ended(service)
    assert list(bench.engine.logs(service.id, task.container_id, 10)) == []


def test_the_output_of_a_removed_service_is_gone(bench: Bench) -> None:
    service = bench.create(SPEAK)
    task = bench.ended(service)
    bench.engine.remove(service.id)

    def gone() -> bool:
        try:
            list(bench.engine.logs(service.id, task.container_id, 10))
        except EngineNotFound:
            return True
        except EngineRefused:  # "dead or marked for removal": the container goes a moment after the service
            return False
        return False

    assert eventually(gone, 20, "the container to go")


@simulated_too
def test_of_a_container_that_is_not_here_no_times_are_known(bench: Bench) -> None:
    assert bench.engine.container_times("0" * 64) is None


# -- configs ---------------------------------------------------------------------------------------------------------


@simulated_too
def test_a_config_of_a_name_is_made_once_and_removed_once(bench: Bench) -> None:
    engine, name, labels = bench.engine, f"{bench.prefix}-config", {LABEL_PREFIX: bench.prefix, LABEL_JOB: "j"}
    made = engine.create_config(name, labels, b"\x00data")
    assert engine.create_config(name, labels, b"\x00data") == made
    assert engine.configs(f"{LABEL_PREFIX}={bench.prefix}") == {name: labels}
    assert engine.configs(LABEL_PREFIX)[name] == labels
    assert engine.configs(LABEL_PREFIX, bench.prefix) == {name: labels}
    assert engine.configs(LABEL_PREFIX, bench.prefix, 100_000) == {name: labels}
    with pytest.raises(AnswerTooLong):
        engine.configs(LABEL_PREFIX, bench.prefix, 3)
    assert engine.configs(LABEL_PREFIX, f"{name}0", 3) == {}
    assert engine.configs(f"{LABEL_PREFIX}={bench.prefix}x") == {}
    assert engine.remove_config(name, {**labels, LABEL_JOB: "other"}) is False
    assert engine.configs(f"{LABEL_PREFIX}={bench.prefix}") == {name: labels}, "it is not removed for another"
    with pytest.raises(EngineRefused, match=f"a config named {name} exists, but its labels are not those"):
        engine.create_config(name, {**labels, LABEL_JOB: "other"}, b"\x00data")
    assert engine.remove_config(name, labels) is True
    assert engine.remove_config(name, labels) is False
    assert engine.configs(f"{LABEL_PREFIX}={bench.prefix}") == {}


# -- events ----------------------------------------------------------------------------------------------------------


@simulated_too
def test_events_tell_of_start_end_and_removal(bench: Bench) -> None:
    seen: list[EngineEvent] = []

    def listen() -> None:
        with contextlib.suppress(EngineUnavailable):  # the test is over
            for event in bench.engine.events():
                seen.append(event)  # noqa: PERF402 - the stream has no end

    threading.Thread(target=listen, daemon=True).start()
    probes: set[str] = set()

    # A stream does not say when it is connected: send services through until one is heard.
    def connected() -> bool:
        if len(probes) < 50:
            probes.add((probe := bench.create()).id)
            bench.ended(probe)
        return any(event.service_id in probes for event in seen)

    eventually(connected, 30, "the stream to be open")
    service = bench.create(bench.ends_by_itself)
    task = bench.ended(service)
    times = bench.engine.container_times(task.container_id or "")
    bench.engine.remove(service.id)
    names = (service.id, task.id, service.labels[LABEL_JOB], task.container_id or "")
    expected = [
        EngineEvent("start", *names),
        EngineEvent("die", *names, bench.ends_by_itself.exit_code),
        EngineEvent("remove", service.id),
    ]

    def without_times() -> list[EngineEvent]:
        return [event._replace(at="") for event in seen if event.service_id == service.id]

    eventually(lambda: without_times() == expected, 20, lambda: f"{expected} in {seen}")
    died = next(event for event in seen if event.service_id == service.id and event.kind == "die")
    told, noted = parse_time(died.at), parse_time(times.finished_at if times else "")
    assert told is not None
    assert noted is not None
    assert abs(told - noted) < timedelta(seconds=10)


# -- the swarm itself ------------------------------------------------------------------------------------------------


@simulated_too
def test_the_engine_says_that_it_is_a_manager(bench: Bench) -> None:
    info = bench.engine.info()
    assert (info.state, info.manager, info.error) == ("active", True, "")
    assert bench.engine.node_names()[info.node_id] == info.node_name
    assert info.node_id not in bench.engine.down_nodes()
    change = bench.engine.node_change(info.node_id)
    assert parse_time(change.at)
    assert not change.drained
    assert bench.engine.node_change("0" * 25) == NodeChange()
    require_manager(info, "here")


def test_a_log_driver_that_no_node_has(bench: Bench) -> None:
    for node in bench.engine.cluster().nodes:
        assert {"json-file", "local"} <= set(node.log_drivers)
    service = bench.create(log_driver="nosuch")
    task = eventually(lambda: t if (t := bench.in_state(service, "pending")).error else None, 30, "a reason")
    assert re.fullmatch(r"no suitable node \(missing plugin on \d+ nodes?\)", waiting_reason(task))


def test_what_is_reserved_on_a_node_is_not_free(bench: Bench) -> None:
    def free() -> dict[str, float]:
        return {node.id: node.free_cpus for node in bench.engine.cluster().nodes}

    before = free()
    assert before.keys() == bench.engine.node_names().keys()
    assert all(0 <= node.free_cpus <= node.cpus for node in bench.engine.cluster().nodes)
    service = bench.create(WAIT, reservations={"cpus": 0.5})
    task = bench.in_state(service, "running")
    assert free()[task.node_id] == pytest.approx(before[task.node_id] - 0.5)
    bench.engine.stop(service.id)
    bench.ended(service)
    assert free()[task.node_id] == pytest.approx(before[task.node_id])


def test_an_image_that_no_registry_knows_is_left_as_it_is(bench: Bench) -> None:
    pinned = "a@sha256:" + "0" * 64
    missing = bench.engine.resolve(NO_SUCH_IMAGE)
    assert missing.pinned == ""
    assert missing.problem
    assert bench.engine.resolve(pinned).pinned == pinned


def test_secrets_are_found_by_their_whole_name(bench: Bench) -> None:
    short, long = f"{bench.prefix}-a", f"{bench.prefix}-ab"
    ids = {name: bench.create_secret(name) for name in (short, long)}
    assert bench.engine.secret_ids([short]) == {short: ids[short]}
    assert bench.engine.secret_ids([long, short, f"{bench.prefix}-"]) == ids
    assert bench.engine.secret_ids([f"{bench.prefix}-abc"]) == {}

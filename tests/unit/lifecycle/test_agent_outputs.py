"""What a worker makes of what the agent of a container's node found. No threads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from jaas_submit.errors import EngineUnavailable
from jaas_submit.model.causes import Cause
from jaas_submit.model.files.listing import OutputFiles
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import LogGap, LogLine, Logs, LogStatus
from jaas_submit.output import FileRequest, WholeOutput
from jaas_submit.storage.store import Store
from jaas_worker.decisions.end_belief import Evidence
from jaas_worker.decisions.times import parse_time
from jaas_worker.lifecycle import next_step as to
from jaas_worker.lifecycle.claim import claim
from jaas_worker.lifecycle.finish import finish, remove_service
from jaas_worker.lifecycle.launch import launch
from jaas_worker.lifecycle.observe import observe, read_output
from jaas_worker.swarm.engine import EngineEvent, TaskView
from jaas_worker.tracking.tracked_service import Running
from tests.support.step_world import World, record_of

PRINTED = Logs((LogLine("2026-11-30T12:00:00.000000001Z", "stdout", b"\xff by the agent\n"),))


class ToldOutputs:
    """What agents found, as the test says."""

    def __init__(self, found: WholeOutput | None, driver: str = "", *, expected: bool = True) -> None:
        self.found = found
        self.driver = driver
        self.is_expected = expected
        self.busy = False
        self.dropped: list[tuple[str, int]] = []

    def start(self) -> None: ...
    def close(self) -> None: ...

    def find(self, job_id: str, attempt: int, container_id: str, node_id: str, timeout: float) -> WholeOutput | None:
        assert (job_id, attempt) == ("j", 1)
        if self.busy:
            raise EngineUnavailable("still reading (test)")
        return self.found if self.found and self.found.container_id == container_id else None

    def expected(self, node_id: str) -> bool:
        return self.is_expected

    def log_driver(self, node_id: str) -> str:
        return self.driver

    def collect(self, wanted: FileRequest, until: float, still_ours: Callable[[], bool]) -> OutputFiles | None:
        raise AssertionError("nobody wants any files")

    def collect_output(self, wanted: FileRequest, until: float, still_ours: Callable[[], bool]) -> str | None:
        raise AssertionError("all of it is in the record")

    def drop(self, job_id: str, attempt: int) -> None:
        self.dropped.append((job_id, attempt))


def running() -> World:
    world = World()
    world.engine.nodes = {name: world.engine.nodes[name] for name in ("node1", "node2")}
    return begun(world)


def begun(world: World) -> World:
    assert isinstance(claim(world.job, world.context), to.Launch)
    assert launch(world.job, world.context) == to.Track()
    assert observe(world.job, Running(world.engine.job("j")), world.context) is None
    return world


def ended(world: World, code: int = 0) -> TaskView:
    world.engine.exit("j", code, stdout=b"by the swarm\n")
    return world.engine.job("j")


def told(world: World, task: TaskView, **changes: object) -> ToldOutputs:
    """Let an agent have found something of the job's container."""
    found = WholeOutput(task.container_id or "", "complete", logs=PRINTED.pack(), started_at=task.timestamp)
    outputs = ToldOutputs(WholeOutput(**{**{n: getattr(found, n) for n in found.__dataclass_fields__}, **changes}))
    world.context.outputs = outputs
    return outputs


def test_what_the_agent_found_is_taken_and_then_deleted() -> None:
    world = running()
    task = ended(world)
    outputs = told(world, task)
    end = finish(world.job, to.Finish(task), world.context)
    assert end.logs == PRINTED
    assert outputs.dropped == []
    remove_service(world.job, world.context)
    assert outputs.dropped == [("j", 1)]


def test_what_was_found_of_another_container_is_not() -> None:
    world = running()
    task = ended(world)
    told(world, task, container_id="of another attempt")
    world.job.tries = 100
    end = finish(world.job, to.Finish(task), world.context)
    assert end.logs is not None
    assert end.logs.stdout == "by the swarm\n"


def test_what_another_version_wrote_is_read_from_the_swarm() -> None:
    world = running()
    task = ended(world)
    told(world, task, logs=b"something newer")
    end = finish(world.job, to.Finish(task), world.context)
    assert end.logs is not None
    assert end.logs.stdout == "by the swarm\n"


def test_a_node_that_changes_again_while_its_agent_is_waited_for_does_not_hide_its_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = running()
    task = ended(world, 143)
    world.context.outputs = ToldOutputs(None)
    monkeypatch.setattr(world.engine, "container_times", lambda _: None)  # another node's
    node = world.engine.nodes["node1"]
    node.back_at = task.timestamp
    with pytest.raises(EngineUnavailable, match="has not reported it yet"):
        finish(world.job, to.Finish(task), world.context)
    when = parse_time(task.timestamp)
    assert when is not None
    node.back_at = (when + timedelta(minutes=2)).isoformat()
    world.job.tries = 3
    assert finish(world.job, to.Finish(task), world.context).outcome.cause is Cause.ENGINE


def test_memory_that_ran_out_is_the_cause_on_any_node() -> None:
    world = running()
    task = ended(world, 5)
    told(world, task, oom_killed=True)
    outcome = finish(world.job, to.Finish(task), world.context).outcome
    assert (outcome.cause, outcome.oom_killed, outcome.exit_code) == (Cause.OOM, True, 5)


def test_what_the_own_agent_could_not_read_the_worker_reads_itself_and_knows_what_was_used() -> None:
    world = running()
    task = ended(world)
    told(world, task, status="unavailable", reason="no driver", logs=b"", usage={"cpu_seconds": 1.5})
    end = finish(world.job, to.Finish(task), world.context)
    assert end.logs is not None
    assert end.logs.stdout == "by the swarm\n"
    assert end.outcome.usage is not None
    assert end.outcome.usage.cpu_seconds == 1.5


def test_a_log_that_no_agent_could_read_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    world = running()
    task = ended(world)
    monkeypatch.setattr(world.engine, "container_times", lambda _container_id: None)  # another node's
    told(world, task, status="unavailable", reason="no driver", logs=b"")
    logs = finish(world.job, to.Finish(task), world.context).logs
    assert logs is not None
    assert (logs.status, logs.reason) == (LogStatus.UNAVAILABLE, "no driver")


@pytest.mark.parametrize(("expected", "tries", "waits"), [(True, 0, True), (True, 3, False), (False, 0, False)])
def test_an_agent_that_is_still_reading_is_waited_for_a_few_times(
    expected: bool, tries: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = running()
    task = ended(world)
    world.context.outputs = ToldOutputs(None, expected=expected)
    world.job.tries = tries
    monkeypatch.setattr(world.engine, "container_times", lambda _container_id: None)  # another node's
    if waits:
        with pytest.raises(EngineUnavailable):
            finish(world.job, to.Finish(task), world.context)
    else:
        assert finish(world.job, to.Finish(task), world.context).logs is not None


@pytest.mark.parametrize(("tries", "waits"), [(0, True), (14, True), (15, False)])
def test_this_processs_agent_is_waited_for_much_longer(tries: int, waits: bool) -> None:
    world = running()
    task = ended(world)
    told(world, task).busy = True
    world.job.tries = tries
    if waits:
        with pytest.raises(EngineUnavailable):
            finish(world.job, to.Finish(task), world.context)
    else:
        logs = finish(world.job, to.Finish(task), world.context).logs
        assert logs is not None
        assert logs.stdout == "by the swarm\n"


def test_an_exit_on_another_node_is_accepted_with_what_its_agent_found() -> None:
    world = running()
    task = world.engine.job("j")
    told(world, task, oom_killed=True)
    world.engine.fail("logs")  # the swarm cannot reach that node
    event = EngineEvent(
        "die", task.service_id, task.id, "j", task.container_id or "", 3, "2026-11-30T12:00:09Z", task.node_id
    )
    following = read_output(world.job, to.ReadOutput(Evidence(task, exit=event)), world.context)
    assert isinstance(following, to.Finish)
    assert following.logs == PRINTED
    assert following.times is not None
    assert following.times.oom_killed


def test_output_of_a_node_whose_agent_tells_that_nothing_is_kept_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = running()
    world.engine.exit("j")
    task = world.engine.job("j")
    world.context.service_defaults = world.context.service_defaults._replace(
        log_driver=world.context.service_defaults.log_driver._replace(name="", options={})
    )
    world.context.outputs = ToldOutputs(None, "none", expected=False)
    monkeypatch.setattr(world.engine, "container_times", lambda _container_id: None)  # another node's
    logs = finish(world.job, to.Finish(task), world.context).logs
    assert logs is not None
    assert logs.status is LogStatus.UNAVAILABLE


@pytest.mark.parametrize(("expected", "status"), [(True, LogStatus.UNAVAILABLE), (False, LogStatus.COMPLETE)])
def test_no_output_of_a_node_whose_agent_has_not_reported_is_not_complete(
    expected: bool, status: LogStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = running()
    world.engine.exit("j")
    world.context.outputs = ToldOutputs(None, expected=expected)
    world.job.tries = 3
    monkeypatch.setattr(world.engine, "container_times", lambda _container_id: None)  # another node's
    logs = finish(world.job, to.Finish(world.engine.job("j")), world.context).logs
    assert logs is not None
    assert (logs.status, logs.lines) == (status, ())


CUT = Logs(
    (LogLine("t", "stdout", b"head\n"), LogLine("t", "stdout", b"tail\n")),
    LogStatus.TRUNCATED,
    "9 bytes of stdout cut",
    (LogGap("stdout", 1, 9),),
)


def with_secret(folder: Path, *, scrub: bool) -> World:
    """Return a running job with a secret variable, of a worker with a store."""
    (folder / "s").write_text("hunter22")
    spec = JobSpec(image="a", env_secrets={"TOKEN": "s"}, scrub=scrub)
    world = World(record_of(spec=spec), policy="privileged", env_secrets=str(folder), log_limit="1K")
    world.context.store = Store(f"file://{folder}", "p", lambda: "s")
    return begun(world)


@pytest.mark.parametrize("already_read", [True, False])
@pytest.mark.parametrize(
    ("scrub", "by_agent", "scrubbed", "stored"),
    [
        (False, True, False, True),
        (False, False, False, True),
        (True, True, True, True),
        (True, True, False, False),  # an agent of an older version
        (True, False, False, False),  # the value of a secret may be in what the worker has cut
    ],
)
def test_what_may_have_the_value_of_a_secret_where_it_is_cut_is_not_stored(
    tmp_path: Path, scrub: bool, by_agent: bool, scrubbed: bool, stored: bool, already_read: bool
) -> None:
    world = with_secret(tmp_path, scrub=scrub)
    task = ended(world)
    if by_agent:
        told(world, task, logs=CUT.pack(), scrubbed=scrubbed)
    # read before the exit was accepted, or now
    step = to.Finish(task, logs=CUT, scrubbed=scrubbed) if already_read or not by_agent else to.Finish(task)
    end = finish(world.job, step, world.context)
    assert end.logs == CUT
    assert (isinstance(end, to.Collect) and end.whole_output) is stored


def test_what_an_agent_could_not_read_is_not_taken_as_scrubbed(tmp_path: Path) -> None:
    """The worker has read it, and cut it."""
    world = with_secret(tmp_path, scrub=True)
    world.engine.exit("j", stdout=b"x" * 1000 + b"hunter22" + b"x" * 1000)
    task = world.engine.job("j")
    told(world, task, status="unavailable", logs=b"", scrubbed=True)
    end = finish(world.job, to.Finish(task), world.context)
    assert end.logs is not None
    assert end.logs.status is LogStatus.TRUNCATED
    assert isinstance(end, to.End)

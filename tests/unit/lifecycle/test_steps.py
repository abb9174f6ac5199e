"""Each step of a job's life alone: what it writes, in which order, and which step it returns. No threads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jaas_submit.errors import (
    EngineRefused,
    EngineUnavailable,
    ImageRefused,
    LedgerUnavailable,
    SpecError,
    TemporaryError,
)
from jaas_submit.ledger import Claim, ClaimAction
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.model.retry_policy import Backoff, RetryPolicy
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import LABEL_BATCH, LABEL_LEDGER, service_name
from jaas_worker.decisions.deadlines import Deadlines
from jaas_worker.decisions.end_belief import MISSING_FOR_S, Evidence
from jaas_worker.decisions.task_outcome import StopRequest
from jaas_worker.decisions.unseen_ends import refused_outcome
from jaas_worker.lifecycle import next_step as to
from jaas_worker.lifecycle.claim import claim
from jaas_worker.lifecycle.finish import (
    finish,
    lost_ownership,
    remove_service,
    report,
    superseded,
    tell_retry,
    write_end,
)
from jaas_worker.lifecycle.launch import adopt, launch, note_failure
from jaas_worker.lifecycle.observe import ask_engine, observe, read_output
from jaas_worker.lifecycle.stop import apply_cancellation, check_overdue, check_pending, send_stop
from jaas_worker.lifecycle.tracked_job import LostNode, Phase
from jaas_worker.lifecycle.worker_context import ImageCache
from jaas_worker.swarm.engine import EngineEvent, ResolvedImage, TaskView
from jaas_worker.swarm.service_spec import service_request
from jaas_worker.tracking.tracked_service import Ended, ExitReported, Gone, NodeLost, Running, Waiting
from tests.support.stage import ended as ended_attempt
from tests.support.step_world import CREATED, HOLDER, World, record_of

CANCEL = StopRequest(Cause.CANCELLED, "enough")
NO_POLICY: dict[str, Any] = {}
AGAIN = {"retry": RetryPolicy(max_attempts=2, backoff=Backoff(kind="constant", delay=5, jitter="none"))}


def claimed(world: World | None = None) -> World:
    """Return a worker that has claimed its job."""
    world = world or World()
    assert isinstance(claim(world.job, world.context), to.Launch)
    world.ledger.writes.clear()
    return world


def launched(world: World | None = None) -> World:
    """Return a worker whose job has its service, which it tracks."""
    world = claimed(world)
    assert launch(world.job, world.context) == to.Track()
    world.job.phase = Phase.TRACKED
    world.ledger.writes.clear()
    return world


def running(world: World | None = None) -> World:
    """Return a worker that has seen its job run."""
    world = launched(world)
    assert observe(world.job, Running(world.engine.job("j")), world.context) is None
    world.ledger.writes.clear()
    return world


# -- claim ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "kept", "follows"),
    [
        ("done", "another chord", to.Report(again=True)),
        ("done", "", to.Report(again=True)),
        ("done", "a chord", to.Drop()),
        ("held", "another chord", to.Drop(postponed=True)),
        ("early", "another chord", to.Drop(postponed=True)),
        ("held", "a chord", to.Drop()),
        ("newer", "another chord", to.Drop()),
        ("unknown", "another chord", to.Drop()),
    ],
)
def test_what_hangs_on_a_second_message_with_a_task_id_gets_the_result(action: str, kept: str, follows: object) -> None:
    world = World(action=action)
    world.delivery.hangs = "a chord"
    world.ledger.message = kept
    assert claim(world.job, world.context) == follows


def test_a_result_that_another_message_asks_for_is_handed_to_celery_and_changes_nothing_in_the_ledger() -> None:
    world = World(record_of(state=JobState.SUCCEEDED, attempts=(ended_attempt(),)))
    assert isinstance(report(world.job, to.Report(again=True), world.context), to.Reported)
    assert [one.state for one in world.delivery.results] == [JobState.SUCCEEDED]
    assert world.delivery.told == ["accepted"]
    assert world.ledger.names() == []


@pytest.mark.parametrize("action", ["held", "done", "early", "newer", "unknown"])
def test_a_job_that_is_not_this_workers_is_dropped(action: str) -> None:
    world = World(action=action)
    assert claim(world.job, world.context) == to.Drop()
    assert (world.delivery.told, world.job.accepted) == ([], False)


SOON, OVER = JobSpec(image="a", expires=60, deadline=100), 70.0


@pytest.mark.parametrize(
    ("action", "fields", "expected"),
    [
        ("launch", {}, to.Launch),
        ("adopt", {}, to.Launch),
        ("adopt", {"state": JobState.PENDING}, to.Adopt),
        ("adopt", {"state": JobState.RUNNING}, to.Adopt),
        ("replay", {"state": JobState.SUCCEEDED}, to.Report),
        ("launch", {"spec": None, "unreadable": "what"}, to.End),
        # It is stopped by the launch, which knows whether there is anything to stop.
        ("launch", {"cancel": "enough"}, to.Launch),
    ],
)
def test_a_job_that_is_accepted_says_what_comes_next(action: str, fields: dict[str, Any], expected: type) -> None:
    world = World(record_of(**fields), action)
    assert isinstance(claim(world.job, world.context), expected)
    assert world.delivery.told == ["accepted"]
    assert claim(world.job, world.context) is not None
    assert world.delivery.told == ["accepted"], "once"


@pytest.mark.parametrize(
    ("action", "fields", "revoked", "expected"),
    [
        ("launch", {}, False, None),
        ("launch", {"cancel": "enough"}, False, CANCEL),
        ("launch", {}, True, StopRequest(Cause.CANCELLED, "revoked through Celery")),
        ("adopt", {"state": JobState.RUNNING}, True, None),
        ("launch", {"spec": SOON}, False, StopRequest(Cause.EXPIRED, "not started within expires (60 s)")),
        ("adopt", {"spec": SOON, "state": JobState.RUNNING}, False, None),
        ("launch", {"spec": SOON, "attempt": 2}, False, None),
        (
            "adopt",
            {"spec": JobSpec(image="a", deadline=69), "state": JobState.RUNNING},
            False,
            StopRequest(Cause.DEADLINE, "not ended within deadline (69 s)"),
        ),
    ],
)
def test_why_a_job_that_is_claimed_is_to_end(action: str, fields: Any, revoked: bool, expected: Any) -> None:
    world = World(record_of(**fields), action)
    world.ledger.age = OVER
    world.delivery.is_revoked = revoked
    claim(world.job, world.context)
    assert world.job.stop == expected
    assert ("cancel" in world.ledger.names()) == (revoked and expected is not None)


def test_a_deadline_counts_from_the_submission() -> None:
    world = World(record_of(spec=JobSpec(image="a", deadline=100)))
    world.ledger.age = 70
    claim(world.job, world.context)
    assert world.job.deadlines.job == world.now + 30


@pytest.mark.parametrize(
    ("state", "expected"), [(JobState.LAUNCHING, to.End), (JobState.PENDING, to.Adopt), (JobState.RUNNING, to.Adopt)]
)
def test_a_job_whose_message_is_damaged_is_not_launched(state: JobState, expected: type) -> None:
    world = World(record_of(state=state), "launch" if state is JobState.LAUNCHING else "adopt")
    world.delivery.defect = "the message in its record is damaged"

    following = claim(world.job, world.context)

    assert isinstance(following, expected)
    if isinstance(following, to.End):
        assert (following.outcome.cause, following.outcome.reason) == (Cause.REFUSED, world.delivery.defect)


def test_a_foreign_job_gets_its_record_and_is_claimed_then() -> None:
    world = World()
    world.ledger.claims.insert(0, Claim(ClaimAction.UNKNOWN, ""))
    world.delivery.wakeup, world.delivery.spec = False, JobSpec(image="foreign")
    assert claim(world.job, world.context) == to.Launch()
    assert world.ledger.names() == ["claim", "create", "claim"]
    assert world.ledger.writes[1][1:] == (world.delivery.spec, "the message")


def test_a_foreign_job_whose_description_is_bad_is_refused_with_what_is_wrong() -> None:
    world = World(record_of(spec=None))
    world.ledger.claims.insert(0, Claim(ClaimAction.UNKNOWN, ""))
    world.delivery.wakeup, world.delivery.spec = False, SpecError("image: is required")
    following = claim(world.job, world.context)
    assert isinstance(following, to.End)
    assert (following.outcome.cause, following.outcome.reason) == (Cause.REFUSED, "image: is required")


def test_a_job_under_way_that_a_newer_version_described_is_left_to_such_a_worker() -> None:
    record = record_of(state=JobState.RUNNING, spec=None, newer=True)
    world = World(record)
    world.ledger.claims[0] = Claim(ClaimAction.ADOPT, "RUNNING", record)
    assert claim(world.job, world.context) == to.Drop()
    assert world.ledger.writes[-1] == ("release", world.context.settings.lease)
    assert world.delivery.told == []


@pytest.mark.parametrize(
    ("action", "state", "accepted", "expected"),
    [
        ("launch", JobState.LAUNCHING, False, False),
        ("adopt", JobState.LAUNCHING, False, True),
        ("adopt", JobState.LAUNCHING, True, False),
        ("adopt", JobState.RUNNING, False, False),
    ],
)
def test_a_former_holder_may_yet_send_its_request(action: str, state: JobState, accepted: bool, expected: bool) -> None:
    world = World(record_of(state=state), action)
    world.job.accepted = accepted
    claim(world.job, world.context)
    assert world.job.late is expected


# -- launch -----------------------------------------------------------------------------------------------------------


def test_a_launch_creates_the_service_and_then_notes_it() -> None:
    world = claimed(World(record_of(spec=JobSpec(image="a", pending_timeout=30))))
    assert launch(world.job, world.context) == to.Track()
    noted = {"service": service_name("j", 1), "claimed_at": CREATED.timestamp()}
    assert world.ledger.writes == [("move", JobState.PENDING, noted)]
    assert world.job.service is not None
    assert world.job.deadlines.start == world.now + 30


def test_without_a_lease_nothing_is_created() -> None:
    world = claimed(World(resolve_images=True))
    world.now += 15
    with pytest.raises(LedgerUnavailable):
        launch(world.job, world.context)
    assert world.engine.calls == {}, "nor is a registry asked"


@pytest.mark.parametrize(("later", "asks"), [(14.9, False), (15.0, True)])
def test_who_has_not_asked_for_a_lease_asks_again_before_it_creates(later: float, asks: bool) -> None:
    world = claimed()
    world.now += later
    world.context.lease_until = world.now + 15
    assert launch(world.job, world.context) == to.Track()
    assert (("move", JobState.LAUNCHING, {}) in world.ledger.writes) is asks


@pytest.mark.parametrize("image", ["a", "a@sha256:" + 64 * "0"])
def test_who_has_lost_the_job_creates_nothing(image: str) -> None:
    world = claimed(World(record_of(spec=JobSpec(image=image)), resolve_images=True))
    world.now += 15
    world.context.lease_until = world.now + 15
    world.ledger.refuses = True
    assert launch(world.job, world.context) == to.LostOwnership()
    assert world.engine.calls["create"] == 0


def test_who_loses_the_job_while_it_creates_leaves_the_service_to_its_successor() -> None:
    world = claimed()
    world.ledger.refuses = True
    assert launch(world.job, world.context) == to.LostOwnership()
    assert world.engine.calls["create"] == 1


@pytest.mark.parametrize(("error", "late"), [(EngineUnavailable("?"), True), (LedgerUnavailable("?"), False)])
def test_a_request_that_was_not_answered_may_have_been_carried_out(error: TemporaryError, late: bool) -> None:
    world = claimed()
    world.engine.fail("create", error=error)
    with pytest.raises(type(error)):
        launch(world.job, world.context)
    assert (world.job.late, world.job.asked) == (late, True)
    assert launch(world.job, world.context) == to.Track()
    assert world.ledger.writes[-1][2].get("late") == (1 if late else None)


def test_what_the_engine_refuses_ends() -> None:
    world = claimed()
    world.engine.fail("create", error=EngineRefused("no such network"))
    following = launch(world.job, world.context)
    assert isinstance(following, to.End)
    assert following.outcome.cause is Cause.LAUNCH


@pytest.mark.parametrize("asked", [False, True])
def test_what_is_to_be_stopped_before_it_was_launched(asked: bool) -> None:
    world = claimed()
    world.job.stop, world.job.asked = CANCEL, asked
    assert isinstance(launch(world.job, world.context), to.End)
    assert (world.engine.calls["create"], world.engine.calls["find"]) == (0, int(asked))


def test_what_is_to_be_stopped_and_may_have_been_launched_is_looked_for() -> None:
    world = claimed()
    world.engine.fail("create", lost_reply=True)
    world.engine.fail("find")
    with pytest.raises(EngineUnavailable):
        launch(world.job, world.context)
    world.job.stop = CANCEL
    assert launch(world.job, world.context) == to.Track()


INVALID = "creating service jaas-j-1: rpc error: code = Unknown desc = it is not to our taste"


def launched_again(world: World, error: Exception, pause: float) -> Any:
    """Return what follows when the job is claimed and launched once more, a while later."""
    world.now += pause
    world.ledger.age += pause
    world.context.lease_until = world.now + 15
    world.engine.fail("create", error=error)
    claim(world.job, world.context)
    return launch(world.job, world.context)


def test_an_answer_that_is_given_again_and_again_while_others_are_created_is_a_refusal() -> None:
    world = claimed()
    error = EngineUnavailable(INVALID, 500)
    for pause in (0, 10, 10, 9):
        with pytest.raises(EngineUnavailable):
            launched_again(world, error, pause)
    world.context.created_at = world.now
    with pytest.raises(EngineUnavailable):  # five times, but over 29.9 seconds
        launched_again(world, error, 0.9)
    end = launched_again(world, error, 0.1)
    assert isinstance(end, to.End)
    assert (end.outcome.cause, end.outcome.reason) == (Cause.LAUNCH, INVALID)


def test_an_answer_to_a_job_whose_service_exists_is_no_refusal() -> None:
    world = claimed()
    error = EngineUnavailable(INVALID, 500)
    for _ in range(4):
        with pytest.raises(EngineUnavailable):
            launched_again(world, error, 10)
        world.context.created_at = world.now
    world.engine.fail("create", lost_reply=True, error=error)
    world.now += 9
    assert launch(world.job, world.context) == to.Track(), "it is found by its name"


def test_pending_timeout_counts_from_the_claim_while_the_launch_is_repeated() -> None:
    world = claimed(World(record_of(spec=JobSpec(image="a", pending_timeout=7))))
    error = EngineUnavailable("creating service jaas-j-1: slow", 503)
    with pytest.raises(EngineUnavailable):
        launched_again(world, error, 6.9)
    note_failure(world.job, error, world.context)
    world.ledger.record = record_of(spec=JobSpec(image="a", pending_timeout=7), detail=world.job.detail)
    world.ledger.claims = [Claim(ClaimAction.ADOPT, "LAUNCHING", world.ledger.record)]
    end = launched_again(world, error, 0.2)
    assert isinstance(end, to.End)
    assert end.outcome.cause is Cause.PENDING_TIMEOUT
    assert end.outcome.reason == ("no running container within pending_timeout (7 s): creating service jaas-j-1: slow")


def test_what_was_answered_stands_in_the_record_once_and_bounded() -> None:
    world = claimed()
    error = EngineUnavailable("asking\n" + "x" * 999)
    for _ in range(2):
        note_failure(world.job, error, world.context)
    (write,) = world.ledger.writes
    assert write[:2] == ("move", JobState.LAUNCHING)
    assert write[2]["detail"].startswith("asking\\nxxx")
    assert len(write[2]["detail"]) < 510
    note_failure(world.job, LedgerUnavailable("it is away"), world.context)
    assert launch(world.job, world.context) == to.Track()
    assert world.ledger.writes[-1] == ("move", JobState.PENDING, {"service": service_name("j", 1)})


def test_a_config_of_somebody_else_is_neither_read_nor_removed() -> None:
    world = claimed(World(record_of(spec=JobSpec(image="a", input=[1]))))
    world.engine.create_config(service_name("j", 1), {"owner": "somebody"}, b"theirs")
    end = launch(world.job, world.context)
    assert isinstance(end, to.End)
    assert (end.outcome.cause, world.engine.calls["create"]) == (Cause.LAUNCH, 0)
    assert "its labels are not those of this job" in end.outcome.reason
    world.ledger.record = record_of(state=JobState.FAILED)
    remove_service(world.job, world.context)
    assert world.engine.config_files[service_name("j", 1)][2] == b"theirs"


# -- adopt ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (JobState.PENDING, Deadlines(start=1000 - 20 + 60, may_run=90)),
        (JobState.RUNNING, Deadlines(start=1000 + 60, may_run=70)),
    ],
)
def test_an_attempt_that_is_taken_over_goes_on_with_its_times(state: JobState, expected: Deadlines) -> None:
    first = launched()
    world = World(record_of(state=state, spec=JobSpec(image="a", pending_timeout=60, run_timeout=90)), "adopt")
    world.context.engine = first.engine
    world.ledger.age = 20
    following = claim(world.job, world.context)
    assert following == to.Adopt(state, CREATED.timestamp())
    assert adopt(world.job, following, world.context) == to.Track()
    assert world.job.deadlines == expected
    assert world.job.launched_at is None


def test_an_attempt_whose_service_is_gone_ends() -> None:
    world = World(record_of(state=JobState.RUNNING, node="node1"), "adopt")
    following = claim(world.job, world.context)
    assert isinstance(following, to.Adopt)
    for _ in range(2):  # a new leader may not know it yet
        with pytest.raises(EngineUnavailable, match="does not know service jaas-j-1"):
            adopt(world.job, following, world.context)
        world.now += MISSING_FOR_S / 2
    world.now += 0.1
    end = adopt(world.job, following, world.context)
    assert isinstance(end, to.End)
    assert (end.outcome.cause, end.outcome.node) == (Cause.REMOVED_OUTSIDE, "node1")


def test_a_service_of_somebody_else_is_not_taken_over() -> None:
    world = World(record_of(state=JobState.RUNNING), "adopt")
    request = service_request(JobSpec(image="a"), "j", 1, {LABEL_LEDGER: "another"}, {})
    world.engine.create(request)
    following = claim(world.job, world.context)
    assert isinstance(following, to.Adopt)
    end = adopt(world.job, following, world.context)
    assert isinstance(end, to.End)
    assert end.outcome.cause is Cause.REMOVED_OUTSIDE


# -- observe ----------------------------------------------------------------------------------------------------------


def test_why_a_task_waits_is_noted_once() -> None:
    world = launched()
    world.engine.set_pending("j")
    seen = Waiting(world.engine.job("j"), starting=False)
    assert observe(world.job, seen, world.context) is None
    assert observe(world.job, seen, world.context) is None
    assert [write[2]["detail"][:16] for write in world.ledger.writes] == ["no suitable node"]


def test_that_a_container_runs_is_noted_before_celery_hears_of_it() -> None:
    world = launched(World(record_of(spec=JobSpec(image="a", run_timeout=9))))
    assert observe(world.job, Running(world.engine.job("j")), world.context) is None
    assert [write[:2] for write in world.ledger.writes] == [("move", JobState.RUNNING)]
    assert world.delivery.told[-1] == "running on node1"
    assert world.job.deadlines.run == world.now + 9


@pytest.mark.parametrize(
    "seen",
    [
        Running,
        NodeLost,
        lambda task: Waiting(task._replace(error="no suitable node"), False),
    ],
)
def test_who_cannot_write_down_what_was_seen_has_lost_the_job(seen: Any) -> None:
    world = launched()
    world.ledger.refuses = True
    assert observe(world.job, seen(world.engine.job("j")), world.context) == to.LostOwnership()
    assert not world.job.running
    assert world.job.lost is None
    assert world.delivery.told == ["accepted"]


def test_what_could_not_be_written_down_is_noted_the_next_time() -> None:
    world = launched()
    world.ledger.away = 1
    with pytest.raises(LedgerUnavailable):
        observe(world.job, Running(world.engine.job("j")), world.context)
    assert observe(world.job, Running(world.engine.job("j")), world.context) is None
    assert world.job.running


def test_a_node_that_is_lost_and_comes_back() -> None:
    world = running(World(record_of(spec=JobSpec(image="a", on_node_lost="fail", lost_after=5))))
    task = world.engine.job("j")
    assert observe(world.job, NodeLost(task), world.context) is None
    assert world.job.lost == LostNode(task, world.now)
    assert world.job.deadlines.lost == world.now + 5
    assert "is down" in world.job.detail
    assert observe(world.job, Running(task), world.context) is None
    assert world.job.lost is None
    assert (world.job.detail, world.job.deadlines.lost) == ("", float("inf"))
    assert world.ledger.writes[-1] == ("move", JobState.RUNNING, {})


def test_who_takes_a_job_over_knows_since_when_its_node_is_down() -> None:
    first = running()
    observe(first.job, NodeLost(first.engine.job("j")), first.context)
    assert first.job.away_since is not None
    since = first.job.away_since.replace(microsecond=0)

    second = World(record_of(state=JobState.RUNNING, detail=first.job.detail), "adopt")
    claim(second.job, second.context)
    seen = [second.job.away_since]
    second.now += 100
    observe(second.job, NodeLost(first.engine.job("j")), second.context)
    note_failure(second.job, EngineUnavailable("reading logs: not yet"), second.context)
    assert second.job.detail == first.job.detail
    seen.append(second.job.away_since)
    observe(second.job, Running(first.engine.job("j")), second.context)  # it was never given up
    assert [*seen, second.job.away_since] == [since, since, None]
    assert second.job.detail == ""


def exit_of(world: World, code: int, **fields: Any) -> Evidence:
    task = world.engine.job("j")
    event = EngineEvent(
        "die", task.service_id, task.id, "j", task.container_id or "", code, "2026-11-30T12:00:09Z", task.node_id
    )
    return Evidence(task, exit=event, **fields)


@pytest.mark.parametrize(
    ("code", "fields", "expected"),
    [
        (0, {"here": True, "began": "2026-11-30T12:00:00Z"}, to.Finish),
        (3, {"here": True}, to.AskEngine),
        (3, {}, to.ReadOutput),
        (137, {}, to.SwarmJudges),
    ],
)
def test_what_follows_from_an_engines_word(code: int, fields: Any, expected: type) -> None:
    world = running()
    following = observe(world.job, ExitReported(exit_of(world, code, **fields)), world.context)
    assert isinstance(following.step if isinstance(following, to.Aside) else following, expected)


@pytest.mark.parametrize(
    ("known", "stop", "expected"),
    [(True, None, to.Finish), (False, None, to.SwarmJudges), (True, CANCEL, to.SwarmJudges)],
)
def test_how_this_engine_says_that_a_container_ended(known: bool, stop: Any, expected: type) -> None:
    world = running()
    evidence = exit_of(world, 3, here=True)
    if known:
        world.engine.exit("j", 3)
    else:
        world.engine.fail("container_times")
    world.job.stop = stop
    assert isinstance(ask_engine(world.job, to.AskEngine(evidence), world.context), expected)


@pytest.mark.parametrize(
    ("reachable", "stop", "expected"),
    [(True, None, to.Finish), (False, None, type(None)), (True, CANCEL, to.SwarmJudges)],
)
def test_an_end_on_another_node_is_believed_with_its_output(reachable: bool, stop: Any, expected: type) -> None:
    world = running()
    world.job.stop = stop
    if not reachable:
        world.engine.fail("logs")
    following = read_output(world.job, to.ReadOutput(exit_of(world, 3)), world.context)
    assert isinstance(following, expected)
    assert not isinstance(following, to.Finish) or following.logs is not None


def test_a_task_that_has_ended_and_a_service_that_is_gone() -> None:
    world = running()
    world.engine.exit("j", 4)
    task = world.engine.job("j")
    assert observe(world.job, Ended(task), world.context) == to.Finish(task)
    gone = observe(world.job, Gone(), world.context)
    assert isinstance(gone, to.End)
    assert gone.outcome.cause is Cause.REMOVED_OUTSIDE


# -- stop -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deadlines", "stop", "expected"),
    [
        (Deadlines(), None, None),
        (Deadlines(job=999), None, Cause.DEADLINE),
        (Deadlines(run=999), None, Cause.RUN_TIMEOUT),
        (Deadlines(start=999), None, to.CheckPending),
        (Deadlines(start=999), CANCEL, None),
        (Deadlines(stop=999), CANCEL, to.RemoveStuck),
        (Deadlines(lost=999), None, to.End),
    ],
)
def test_what_follows_when_a_time_is_over(deadlines: Deadlines, stop: Any, expected: Any) -> None:
    world = running(World(record_of(spec=JobSpec(image="a", deadline=9, run_timeout=8, pending_timeout=7))))
    world.job.deadlines, world.job.stop = deadlines, stop
    world.job.lost = LostNode(world.engine.job("j"), 900.0)
    following = check_overdue(world.job, world.context)
    if isinstance(expected, Cause):
        assert isinstance(following, to.Stop)
        assert following.request.cause is expected
    elif expected is None:
        assert following is None
    else:
        assert isinstance(following.step if isinstance(following, to.Aside) else following, expected)


def test_a_container_that_does_not_stop_is_removed_again_after_as_long() -> None:
    world = running(World(record_of(spec=JobSpec(image="a", stop_grace=10)), stop_timeout=30))
    assert send_stop(world.job, world.context) == to.SwarmJudges()
    assert world.job.deadlines.stop == world.now + 40
    world.now += 41
    assert check_overdue(world.job, world.context) == to.Aside(to.RemoveStuck())
    assert check_overdue(world.job, world.context) is None


@pytest.mark.parametrize("error", [EngineUnavailable("?"), EngineRefused("?")])
def test_a_stop_that_does_not_arrive_is_sent_again(error: Exception) -> None:
    world = running()
    world.engine.fail("stop", error=error)
    assert send_stop(world.job, world.context) == to.Aside(to.SendStop(), after=1.0)
    assert world.job.deadlines.stop == float("inf")
    assert send_stop(world.job, world.context) == to.SwarmJudges()


@pytest.mark.parametrize(
    ("state", "error", "expected"),
    [
        ("running", "", None),
        ("complete", "", None),
        ("pending", "no suitable node (why)", Cause.UNSCHEDULABLE),
        ("preparing", "", Cause.PENDING_TIMEOUT),
    ],
)
def test_what_the_swarm_says_of_a_job_that_waited_for_too_long(state: str, error: str, expected: Any) -> None:
    world = launched(World(record_of(spec=JobSpec(image="a", pending_timeout=7))))
    world.engine.set_task("j", state, error=error)
    following = check_pending(world.job, world.context)
    assert (following.request.cause if following else None) is expected


@pytest.mark.parametrize(
    ("batch", "holder", "state", "phase", "expected"),
    [
        (True, HOLDER, JobState.SUCCEEDED, Phase.TRACKED, to.Superseded),
        (True, HOLDER, JobState.SUCCEEDED, Phase.LAUNCHING, to.Stop),
        (True, "other", JobState.SUCCEEDED, Phase.TRACKED, to.Stop),
        (True, HOLDER, JobState.RUNNING, Phase.TRACKED, to.Stop),
        (False, HOLDER, JobState.SUCCEEDED, Phase.TRACKED, to.Stop),
    ],
)
def test_what_a_cancellation_comes_to(batch: bool, holder: str, state: JobState, phase: Phase, expected: type) -> None:
    world = running(World(record_of(batch="b", index=0) if batch else None))
    world.ledger.record = record_of(state=state, holder=holder)
    world.job.phase = phase
    assert isinstance(apply_cancellation(world.job, "enough", world.context), expected)


# -- finish -----------------------------------------------------------------------------------------------------------


def ended(world: World, code: int = 0) -> TaskView:
    world.engine.exit("j", code, stdout=b"out\n")
    return world.engine.job("j")


def test_an_attempt_that_has_ended_brings_outcome_and_output() -> None:
    world = running()
    end = finish(world.job, to.Finish(ended(world, 4)), world.context)
    assert (end.outcome.cause, end.outcome.exit_code) == (Cause.EXIT, 4)
    assert end.logs is not None
    assert end.logs.stdout == "out\n"


def test_a_container_that_the_swarm_stops_when_its_node_is_back_was_lost_with_the_node() -> None:
    world = running()
    observe(world.job, NodeLost(world.engine.job("j")), world.context)
    world.engine.set_task("j", "shutdown")
    world.job.tries = 3
    end = finish(world.job, to.Finish(world.engine.job("j")._replace(exit_code=137)), world.context)
    assert (end.outcome.cause, end.outcome.exit_code) == (Cause.NODE_LOST, 137)
    assert end.outcome.reason.startswith("its node was away for ")


@pytest.mark.parametrize(
    ("back", "cause", "status"),
    [(True, Cause.NODE_LOST, LogStatus.UNAVAILABLE), (False, Cause.PREEMPTED, LogStatus.COMPLETE)],
)
def test_a_worker_that_has_not_seen_the_node_down_knows_it_by_its_return(
    back: bool, cause: Cause, status: LogStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = running()
    world.engine.set_task("j", "shutdown")
    task = world.engine.job("j")._replace(exit_code=0)
    if back:
        world.engine.nodes["node1"].back_at = task.timestamp
    monkeypatch.setattr(world.engine, "container_times", lambda _: None)  # another node's
    world.job.tries = 3
    end = finish(world.job, to.Finish(task), world.context)
    assert (end.outcome.cause, end.outcome.exit_code) == (cause, None)
    assert end.logs is not None
    assert end.logs.status is status


def test_no_output_of_a_node_that_has_just_come_back_is_not_called_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its engine was stopped after the container had ended, and has removed it."""
    world = running()
    world.engine.exit("j", 0)
    task = world.engine.job("j")
    monkeypatch.setattr(world.engine, "container_times", lambda _: None)  # another node's
    assert finish(world.job, to.Finish(task), world.context).logs == Logs()
    world.engine.nodes["node1"].back_at = task.timestamp
    with pytest.raises(EngineUnavailable, match="hands out no output yet"):
        finish(world.job, to.Finish(task), world.context)
    world.job.tries = 3
    end = finish(world.job, to.Finish(task), world.context)
    assert end.logs is not None
    assert (end.outcome.exit_code, end.logs.status) == (0, LogStatus.UNAVAILABLE)


def test_a_container_whose_node_is_no_longer_allowed_is_stopped_before_its_end_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The swarm says that the task has ended before it has the container stopped: attempts must not overlap."""
    world = running()
    task = world.engine.job("j")._replace(state="rejected", error="assigned node no longer meets constraints")
    task = task._replace(timestamp=datetime.fromtimestamp(world.context.clock.time(), UTC).isoformat())
    monkeypatch.setattr(world.engine, "container_times", lambda _: None)  # another node's
    with pytest.raises(EngineUnavailable, match="is being stopped"):
        finish(world.job, to.Finish(task), world.context)
    earlier = task._replace(timestamp="2020-01-01T00:00:00Z")
    end = finish(world.job, to.Finish(earlier), world.context)
    assert (end.outcome.cause, end.outcome.exit_code) == (Cause.PREEMPTED, None)


def test_no_output_of_a_node_that_was_away_is_read_again_before_it_is_believed() -> None:
    world = running()
    observe(world.job, NodeLost(world.engine.job("j")), world.context)
    world.engine.exit("j", 4)
    step = to.Finish(world.engine.job("j"))
    for world.job.tries in range(3):
        with pytest.raises(EngineUnavailable, match="hands out no output yet"):
            finish(world.job, step, world.context)
    world.job.tries = 3
    end = finish(world.job, step, world.context)
    assert end.logs is not None
    assert (end.outcome.exit_code, end.logs.status, end.logs.lines) == (4, LogStatus.COMPLETE, ())


def test_output_that_an_engine_has_thrown_away_is_not_called_complete() -> None:
    world = running()
    gone = "No such container: jaas-j-1.1.abc"
    task = world.engine.job("j")._replace(state="failed", exit_code=0, error=gone)
    end = finish(world.job, to.Finish(task), world.context)
    assert (end.outcome.cause, end.outcome.exit_code) == (Cause.ENGINE, None)
    assert end.outcome.reason.startswith(gone)
    assert end.logs is not None
    assert (end.logs.status, end.logs.reason) == (LogStatus.UNAVAILABLE, end.outcome.reason.removeprefix(f"{gone}: "))


@pytest.mark.parametrize(("own", "status"), [(True, LogStatus.COMPLETE), (False, LogStatus.UNAVAILABLE)])
def test_no_output_of_a_node_that_keeps_none_is_not_called_complete(
    own: bool, status: LogStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = running(World(log_driver=""))
    task = world.engine.job("j")
    world.ledger.known_workers = [
        {"node_id": task.node_id, "log_driver": "none"},
        {"node_id": "other", "log_driver": "local"},
        {"holder": "older"},
    ]
    world.engine.exit("j", 0)
    times = world.engine.container_times(task.container_id or "")
    monkeypatch.setattr(world.engine, "container_times", lambda _: times if own else None)  # another node's
    end = finish(world.job, to.Finish(world.engine.job("j")), world.context)
    assert end.logs is not None
    assert (end.logs.status, "log driver none" in end.logs.reason) == (status, not own)


@pytest.mark.parametrize(
    ("driver", "options", "status"),
    [
        ("local", {}, LogStatus.COMPLETE),  # whatever the node's own driver is
        ("none", {}, LogStatus.UNAVAILABLE),
        ("syslog", {}, LogStatus.COMPLETE),  # the engine keeps a copy
        ("syslog", {"cache-disabled": "true"}, LogStatus.UNAVAILABLE),
    ],
)
def test_no_output_of_a_driver_that_cannot_be_read_is_not_called_complete(
    driver: str, options: dict[str, str], status: LogStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = running(World(record_of(spec=JobSpec(image="a", log_driver=driver, log_options=options))))
    world.ledger.known_workers = [{"node_id": world.engine.job("j").node_id, "log_driver": "none"}]
    world.engine.exit("j", 0)
    monkeypatch.setattr(world.engine, "container_times", lambda _: None)
    end = finish(world.job, to.Finish(world.engine.job("j")), world.context)
    assert end.logs is not None
    assert (end.logs.status, f"log driver {driver}" in end.logs.reason) == (status, status is LogStatus.UNAVAILABLE)


def end_of(world: World, code: int = 0) -> to.End:
    end = finish(world.job, to.Finish(ended(world, code)), world.context)
    assert isinstance(end, to.End)
    return end


def test_the_outcome_is_written_down_before_the_service_is_removed_and_the_result_reported() -> None:
    world = running(World(remove_delay=2))
    following = write_end(world.job, end_of(world), world.context)
    assert world.ledger.names() == ["finish"]
    assert isinstance(following, to.Aside)
    assert (following.step, following.after) == (to.RemoveService(), 2)
    assert isinstance(following.then, to.Report)
    assert following.then.record == world.ledger.record
    assert world.engine.calls["remove"] == 0
    assert world.delivery.results == []


@pytest.mark.parametrize(
    ("fields", "code", "must_end", "writes", "then"),
    [
        ({}, 4, "", ["finish"], to.Report),
        (AGAIN, 0, "", ["finish"], to.Report),
        (AGAIN, 4, "", ["back_off"], to.TellRetry),
        (AGAIN, 4, "it is to be cancelled", ["back_off", "finish"], to.Report),
    ],
)
def test_whether_another_attempt_follows(fields: Any, code: int, must_end: str, writes: list[str], then: type) -> None:
    world = running(World(record_of(spec=JobSpec(image="a", **fields))))
    world.ledger.must_end = must_end
    following = write_end(world.job, end_of(world, code), world.context)
    assert world.ledger.names() == writes
    assert isinstance(following, to.Aside)
    assert isinstance(following.then, then)


def test_whether_another_attempt_follows_is_decided_once() -> None:
    world = running(World(record_of(spec=JobSpec(image="a", **AGAIN))))
    end = end_of(world, 4)
    world.ledger.away = 1
    with pytest.raises(LedgerUnavailable):
        write_end(world.job, end, world.context)
    decided = world.job.decision
    assert decided is not None
    assert isinstance(write_end(world.job, end, world.context), to.Aside)
    assert world.job.decision is decided


def test_a_job_that_failed_waits_for_its_copy_where_it_has_one() -> None:
    spec = JobSpec(image="a", idempotent=True)
    world = running(World(record_of(spec=spec, batch="b", index=0)))
    following = write_end(world.job, end_of(world, 4), world.context)
    assert world.ledger.writes[-1][0::2] == ("back_off", None)
    assert isinstance(following, to.Aside)
    other = running(World(record_of(spec=spec, batch="b", index=0)))
    other.ledger.must_end = "it has no copy"
    write_end(other.job, end_of(other, 4), other.context)
    assert other.ledger.names() == ["back_off", "finish"]


@pytest.mark.parametrize("fields", [NO_POLICY, AGAIN])
def test_who_cannot_write_an_end_down_has_lost_the_job(fields: Any) -> None:
    world = running(World(record_of(spec=JobSpec(image="a", **fields))))
    world.ledger.refuses = True
    assert write_end(world.job, end_of(world, 4), world.context) == to.LostOwnership()


@pytest.mark.parametrize(("asked", "number"), [(False, 0), (True, 1)])
def test_an_attempt_counts_from_its_request_on(asked: bool, number: int) -> None:
    world = claimed()
    world.job.asked = asked
    write_end(world.job, to.End(refused_outcome(Cause.CANCELLED, "enough")), world.context)
    attempt = world.ledger.record.attempts[-1]
    assert (attempt.number, attempt.service) == (number, None)


@pytest.mark.parametrize(
    ("fields", "holder", "expected"),
    [
        ({"batch": "b", "index": 0}, HOLDER, to.Superseded),
        ({"batch": "b", "index": 0}, "other", to.Drop),
        ({}, HOLDER, to.Drop),
    ],
)
def test_why_a_write_was_not_taken(fields: Any, holder: str, expected: type) -> None:
    world = running(World(record_of(**fields)))
    assert (LABEL_BATCH in world.job.facts.labels) == bool(fields)
    world.ledger.record = record_of(state=JobState.SUCCEEDED, holder=holder)
    assert isinstance(lost_ownership(world.job, world.context), expected)


def test_what_its_copy_was_faster_with_is_removed_at_once_and_reported() -> None:
    assert superseded(running().job) == to.Aside(to.RemoveService(), after=0.0, then=to.Report())


@pytest.mark.parametrize(
    ("late", "stale", "state", "ended", "removed"),
    [
        (False, False, JobState.SUCCEEDED, {1}, 1),
        (False, False, JobState.BACKOFF, {1}, 1),
        # Redis has come back older: the service is needed once more.
        (False, False, JobState.RUNNING, set(), 0),
        (False, True, JobState.SUCCEEDED, {1}, 0),
        # A former holder's request must find its name taken.
        (True, False, JobState.SUCCEEDED, {1}, 0),
    ],
)
def test_when_a_service_may_be_removed(late: bool, stale: bool, state: JobState, ended: Any, removed: int) -> None:
    world = running()
    world.job.late, world.ledger.stale = late, stale
    world.ledger.record = record_of(state=state)
    world.ledger.ended_attempts = frozenset(ended)
    remove_service(world.job, world.context)
    assert world.engine.calls["remove"] == removed


def test_a_service_that_cannot_be_removed_is_left_to_the_reconciler() -> None:
    world = running()
    world.ledger.record = record_of(state=JobState.SUCCEEDED)
    world.engine.fail("remove")
    remove_service(world.job, world.context)
    assert world.engine.find(service_name("j", 1)) is not None


# -- report -----------------------------------------------------------------------------------------------------------


def reportable() -> tuple[World, to.Report]:
    world = running()
    following = write_end(world.job, end_of(world, 4), world.context)
    assert isinstance(following, to.Aside)
    assert isinstance(following.then, to.Report)
    world.ledger.writes.clear()
    return world, following.then


def test_celery_has_the_result_before_the_ledger_forgets() -> None:
    world, step = reportable()
    assert report(world.job, step, world.context) == to.Reported(world.delivery)
    assert world.delivery.results[0].exit_code == 4
    assert world.delivery.results[0].logs.stdout == "out\n"
    assert world.ledger.names() == ["reported"]


def test_a_result_that_does_not_reach_celery_is_not_noted() -> None:
    world, step = reportable()
    world.delivery.takes_results = False
    with pytest.raises(TemporaryError):
        report(world.job, step, world.context)
    assert world.ledger.names() == []


def test_celery_is_told_of_a_retry() -> None:
    world = running()
    assert tell_retry(world.job, to.TellRetry("why", 5.0)) == to.Reported(world.delivery)
    assert world.delivery.told[-1] == "retrying"


def test_a_lost_job_ends_without_output() -> None:
    world = running(World(record_of(spec=JobSpec(image="a", on_node_lost="fail", lost_after=5))))
    observe(world.job, NodeLost(world.engine.job("j")), world.context)
    world.now += 6
    end = check_overdue(world.job, world.context)
    assert isinstance(end, to.End)
    assert (end.outcome.cause, end.logs) == (
        Cause.NODE_LOST,
        Logs(status=LogStatus.UNAVAILABLE, reason="the node is down"),
    )


# -- images -----------------------------------------------------------------------------------------------------------


def test_an_answer_of_a_registry_holds_for_a_while_and_a_silence_for_longer() -> None:
    asked: list[str] = []
    cache = ImageCache()

    def ask(image: str, registry: str | None) -> Any:
        asked.append(image)
        return ResolvedImage(problem="silence") if image == "silent" else ResolvedImage(image)

    for moment in (0.0, 9.9, 10.0, 59.9, 60.0):
        cache.get("a", None, moment, ask)
        cache.get("silent", None, moment, ask)
    assert asked.count("a") == 3
    assert asked.count("silent") == 2


def test_why_an_image_cannot_be_had_is_in_the_reason() -> None:
    world = launched(World(record_of(spec=JobSpec(image="r.example/a:1")), resolve_images=True))
    world.engine.images["r.example/a:1"] = ResolvedImage(problem="asking the registry: no basic auth credentials")
    world.engine.set_task("j", "rejected", error="No such image: r.example/a:1")
    end = finish(world.job, to.Finish(world.engine.job("j")), world.context)
    assert end.outcome.cause is Cause.IMAGE
    # It was asked at the launch, and its answer of then still holds.
    assert end.outcome.reason == "No such image: r.example/a:1; no such registry"
    world.now += 60
    end = finish(world.job, to.Finish(world.engine.job("j")), world.context)
    assert end.outcome.reason == "No such image: r.example/a:1; asking the registry: no basic auth credentials"


def test_a_login_that_the_worker_does_not_have_is_an_error_of_the_image() -> None:
    world = claimed()
    world.engine.fail("create", error=ImageRefused("registry: this worker has no login x for y; it has none"))
    end = launch(world.job, world.context)
    assert isinstance(end, to.End)
    assert (end.outcome.cause, end.outcome.reason[:9]) == (Cause.IMAGE, "registry:")


def test_what_the_image_runs_on_is_kept_and_goes_into_the_request() -> None:
    world = claimed(World(record_of(), resolve_images=True))
    world.engine.images["a"] = ResolvedImage("a@sha256:1", platforms=("linux/amd64", "linux/"))
    assert launch(world.job, world.context) == to.Track()
    noted = {"image": "a@sha256:1", "note": "", "platforms": "linux/amd64 linux/"}
    assert world.ledger.writes[0] == ("move", JobState.LAUNCHING, noted)
    assert world.ledger.platforms == {"a": ("linux/amd64", "linux/")}
    platforms = [{"OS": "linux", "Architecture": "amd64"}, {"OS": "linux", "Architecture": ""}]
    assert world.engine.requests[0]["TaskTemplate"]["Placement"]["Platforms"] == platforms
    again = World(record_of(image="a@sha256:1", platforms=("linux/arm64",), attempt=2), resolve_images=True)
    again.ledger.notes.pin_image("j", "a@sha256:1")
    launched(again)
    (request,) = again.engine.requests
    assert request["TaskTemplate"]["Placement"]["Platforms"] == [{"OS": "linux", "Architecture": "arm64"}]


def test_answers_of_registries_are_not_kept_for_ever() -> None:
    cache = ImageCache()
    for number in range(1000):
        cache.get(f"old:{number}", None, 0.0, lambda *_: ResolvedImage(problem="silence"))
    cache.get("new", None, 61.0, lambda *_: ResolvedImage(problem="silence"))
    assert len(cache) == 1

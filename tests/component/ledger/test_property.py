"""The ledger against a model of it: any order of calls, by any worker, with crashes and lost replies in between.

The model is what docs/guarantees.md promises, written down as plainly as possible. Every step makes the same call on
the model and on a real Redis, compares the answers, and then compares all that can be seen. At the end of each run all
workers crash, and one that comes afterwards must find every job and bring it to its end.

A crash is ``drop_lease``: the worker's lease is over and it has let go of nothing. It may also wake up again, with or
without a new lease, and go on as if nothing had happened. A lost reply is the same call made a second time.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from jaas_submit.errors import UnknownJob
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Attempt
from jaas_submit.model.states import TERMINAL, TRANSITIONS, JobState

JOBS = ["j0", "j1", "j2"]
WORKERS = ["w0", "w1", "w2"]
HELD_THEN = {ClaimAction.LAUNCH, ClaimAction.ADOPT, ClaimAction.REPLAY}
"""Answers to a claim after which the worker has the job."""
SPEC = JobSpec(image="a")
FOR_EVER = 3600.0
"""Seconds that no example lives to see the end of."""

QUEUED, LAUNCHING, PENDING, RUNNING = JobState.QUEUED, JobState.LAUNCHING, JobState.PENDING, JobState.RUNNING
BACKOFF, SUCCEEDED, FAILED, CANCELLED = JobState.BACKOFF, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


@dataclass
class Job:
    """What the ledger must know of a job."""

    state: JobState = QUEUED
    holder: str = ""
    attempt: int = 0
    attempts: tuple[Attempt, ...] = ()
    cancel: str = ""
    due: bool = True
    unowned: bool = False
    reported: bool = False

    def attempt_ended(self, state: JobState) -> tuple[Attempt, ...]:
        """Return the attempts with one more, as its holder would write them."""
        cause = Cause.CANCELLED if state is CANCELLED else Cause.EXIT
        return (*self.attempts, Attempt(number=self.attempt, state=state, cause=cause))


@dataclass
class Model:
    """The ledger, in memory."""

    jobs: dict[str, Job] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)

    def create(self, job_id: str) -> bool:
        if job_id in self.jobs:
            return False
        self.jobs[job_id] = Job()
        return True

    def claim(self, job_id: str, worker: str) -> tuple[ClaimAction, str]:
        job = self.jobs.get(job_id)
        if job is None:
            return ClaimAction.UNKNOWN, ""
        before = job.state
        if before in TERMINAL and job.reported:
            return ClaimAction.DONE, before
        if before is BACKOFF and not job.due:
            return ClaimAction.EARLY, before
        if job.holder not in {"", worker} and job.holder in self.live:
            return ClaimAction.HELD, before
        job.holder, job.unowned = worker, False
        if before in TERMINAL:
            return ClaimAction.REPLAY, before
        if before in {QUEUED, BACKOFF}:
            job.attempt += 1
            job.state = LAUNCHING
            return ClaimAction.LAUNCH, before
        return ClaimAction.ADOPT, before

    def may_write(self, job_id: str, worker: str, to: JobState) -> Job | None:
        job = self.jobs.get(job_id)
        stays = job is not None and to is job.state and to not in TERMINAL
        if job is None or job.holder != worker or not (stays or to in TRANSITIONS[job.state]):
            return None
        return job

    def move(self, job_id: str, worker: str, to: JobState) -> bool:
        job = self.may_write(job_id, worker, to)
        if job is None:
            return False
        job.state = to
        return True

    def finish(self, job_id: str, worker: str, attempts: tuple[Attempt, ...]) -> bool:
        to = attempts[-1].state
        job = self.may_write(job_id, worker, to)
        if job is None:
            known = self.jobs.get(job_id)
            return known is not None and (known.state, known.holder) == (to, worker)  # it was itself that wrote this
        job.state, job.attempts = to, attempts
        return True

    def back_off(self, job_id: str, worker: str, attempts: tuple[Attempt, ...], due: bool) -> tuple[bool, str]:
        known = self.jobs.get(job_id)
        if known is not None and known.state is BACKOFF and known.attempts == attempts:
            return True, ""
        job = self.may_write(job_id, worker, BACKOFF)
        if job is None:
            return False, ""
        if job.cancel:
            return False, job.cancel
        job.state, job.attempts, job.due, job.holder, job.unowned = BACKOFF, attempts, due, "", False
        return True, ""

    def reported(self, job_id: str, worker: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.holder != worker:
            return False
        job.reported, job.holder, job.unowned = True, "", False
        return True

    def release(self, job_id: str, worker: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.holder != worker:
            return False
        job.holder, job.unowned = "", True
        return True

    def cancel(self, job_id: str, why: str) -> tuple[JobState, bool] | None:
        job = self.jobs.get(job_id)
        if job is None:
            return None
        before = job.state
        if before in TERMINAL:
            return before, False
        job.cancel = job.cancel or why
        if before not in {QUEUED, BACKOFF}:
            return before, False
        job.attempts = (*job.attempts, Attempt(number=0, state=CANCELLED, cause=Cause.CANCELLED, reason=why))
        job.state, job.unowned = CANCELLED, True
        return before, True

    def renew(self, worker: str) -> bool:
        known = worker in self.live or worker not in self.seen
        self.live.add(worker)
        self.seen.add(worker)
        return known

    def crash(self, worker: str) -> None:
        self.live.discard(worker)

    def reapable(self) -> set[str]:
        return {job_id for job_id, job in self.jobs.items() if job.holder and job.holder not in self.live}

    def reaped(self, job_id: str) -> None:
        self.jobs[job_id].holder, self.jobs[job_id].unowned = "", True

    def unowned(self) -> set[str]:
        for job in self.jobs.values():
            job.unowned = job.unowned or (job.state is BACKOFF and job.due)
        return {job_id for job_id, job in self.jobs.items() if job.unowned}

    def in_state(self, *states: JobState) -> set[str]:
        return {job_id for job_id, job in self.jobs.items() if job.state in states}


class LedgerMachine(RuleBasedStateMachine):
    """Makes the calls.

    Args:
        ledger: a ledger without any jobs.
    """

    jobs = st.sampled_from(JOBS)
    # "holder" is the job's own: most calls shall be those that a worker really makes.
    workers = st.sampled_from(["holder", "holder", *WORKERS])
    outcomes = st.sampled_from([SUCCEEDED, FAILED, CANCELLED])
    lost_reply = st.booleans()

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.model = Model()
        self.granted: dict[str, str] = {}
        """Job -> the worker that was told it is its own, and that has been alive and at it ever since."""
        self.ended: dict[str, object] = {}
        """Job -> all that was in its record when it was first seen to have ended."""

    def worker(self, name: str, job_id: str) -> str:
        job = self.model.jobs.get(job_id)
        return name if name != "holder" else ((job.holder if job else "") or WORKERS[0])

    def both(self, lost_reply: bool, name: str, *args: Any, real: Callable[[], Any]) -> Any:
        """Make the same call on the model and on the ledger, and once more where the reply got lost."""
        expected = getattr(self.model, name)(*args)
        answer = real()
        assert answer == expected
        if lost_reply:
            once = deepcopy(self.model)
            expected = getattr(self.model, name)(*args)
            assert self.model == once, "a repeated call must change nothing"
            answer = real()
            assert answer == expected
        return answer

    def gives_up(self, job_id: str, worker: str) -> None:
        if self.granted.get(job_id) == worker:
            del self.granted[job_id]

    # -- what producers do

    @initialize()
    def a_first_job_and_worker(self) -> None:
        self.create("j0", False)
        self.renew("w0")

    @rule(job_id=jobs, lost_reply=lost_reply)
    def create(self, job_id: str, lost_reply: bool) -> None:
        self.both(lost_reply, "create", job_id, real=lambda: self.ledger.submission.create(job_id, SPEC, "q"))

    @rule(job_id=jobs, why=st.sampled_from(["enough", "too dear"]), lost_reply=lost_reply)
    def cancel(self, job_id: str, why: str, lost_reply: bool) -> None:
        def real() -> tuple[JobState, bool] | None:
            try:
                return self.ledger.submission.cancel(job_id, why)
            except UnknownJob:
                return None

        self.both(lost_reply, "cancel", job_id, why, real=real)

    # -- what workers do

    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker: str) -> None:
        assert self.ledger.maintenance.renew_lease(worker, FOR_EVER, {}) == self.model.renew(worker)

    @rule(worker=st.sampled_from(WORKERS))
    def crash(self, worker: str) -> None:
        self.model.crash(worker)
        self.ledger.maintenance.drop_lease(worker)
        self.granted = {job_id: holder for job_id, holder in self.granted.items() if holder != worker}

    @rule(job_id=jobs, name=workers, lost_reply=lost_reply)
    def claim(self, job_id: str, name: str, lost_reply: bool) -> None:
        worker = self.worker(name, job_id)

        def claim() -> tuple[ClaimAction, str]:
            answer = self.ledger.ownership.claim(job_id, worker)
            assert answer.record is None or answer.record == self.ledger.queries.get(job_id)
            assert (answer.record is None) == (answer.action not in HELD_THEN)
            return answer.action, answer.state

        action, _ = self.both(lost_reply, "claim", job_id, worker, real=claim)
        if action in HELD_THEN:
            # Nobody else may be at it who has been alive all the time.
            assert self.granted.get(job_id) in {None, worker}
            if worker in self.model.live:
                self.granted[job_id] = worker

    @rule(
        job_id=jobs,
        name=workers,
        to=st.sampled_from([LAUNCHING, PENDING, RUNNING, PENDING, RUNNING]),
        lost_reply=lost_reply,
    )
    def move(self, job_id: str, name: str, to: JobState, lost_reply: bool) -> None:
        worker = self.worker(name, job_id)
        self.both(lost_reply, "move", job_id, worker, to, real=lambda: self.ledger.ownership.move(job_id, worker, to))

    @rule(job_id=jobs, name=workers, outcome=outcomes, lost_reply=lost_reply)
    def finish(self, job_id: str, name: str, outcome: JobState, lost_reply: bool) -> None:
        worker = self.worker(name, job_id)
        attempts = self.model.jobs.get(job_id, Job()).attempt_ended(outcome)

        def finish() -> bool:
            record = self.ledger.ownership.finish(job_id, worker, attempts)
            assert record is None or record == self.ledger.queries.get(job_id)
            return record is not None

        self.both(lost_reply, "finish", job_id, worker, attempts, real=finish)

    @rule(job_id=jobs, name=workers, due=st.booleans(), lost_reply=lost_reply)
    def back_off(self, job_id: str, name: str, due: bool, lost_reply: bool) -> None:
        worker = self.worker(name, job_id)
        attempts = self.model.jobs.get(job_id, Job()).attempt_ended(FAILED)
        delay = 0.0 if due else FOR_EVER
        done, _ = self.both(
            lost_reply,
            "back_off",
            job_id,
            worker,
            attempts,
            due,
            real=lambda: self.ledger.ownership.back_off(job_id, worker, attempts, None, delay, "later"),
        )
        if done:
            self.gives_up(job_id, worker)

    @rule(job_id=jobs, name=workers)
    def reported(self, job_id: str, name: str) -> None:
        worker = self.worker(name, job_id)
        if self.model.jobs.get(job_id, Job()).state in TERMINAL:  # nobody reports what has not ended
            self.both(
                False, "reported", job_id, worker, real=lambda: self.ledger.ownership.mark_reported(job_id, worker)
            )
            self.gives_up(job_id, worker)

    @rule(job_id=jobs, name=workers)
    def release(self, job_id: str, name: str) -> None:
        worker = self.worker(name, job_id)
        self.both(False, "release", job_id, worker, real=lambda: self.ledger.ownership.release(job_id, worker))
        self.gives_up(job_id, worker)

    @rule(
        job_id=jobs,
        name=workers,
        steps=st.integers(1, 7),
        end=st.sampled_from([SUCCEEDED, FAILED, BACKOFF, BACKOFF]),
        due=st.booleans(),
        lost_reply=lost_reply,
    )
    def work(self, job_id: str, name: str, steps: int, end: JobState, due: bool, lost_reply: bool) -> None:
        """Do what a worker does with a job, one step after the other: random calls alone seldom get far."""
        self.create(job_id, False)
        worker = self.worker(name, job_id)
        for _ in range(steps):
            job = self.model.jobs[job_id]
            if job.holder != worker:
                self.claim(job_id, worker, lost_reply)
            elif job.state is LAUNCHING:
                self.move(job_id, worker, PENDING, lost_reply)
            elif job.state is PENDING:
                self.move(job_id, worker, RUNNING, lost_reply)
            elif job.state in TERMINAL:
                self.reported(job_id, worker)
            elif end is BACKOFF:
                self.back_off(job_id, worker, due, lost_reply)
            else:
                self.finish(job_id, worker, end, lost_reply)

    # -- what the reconciler does

    @rule(most=st.integers(1, 3))
    def reap(self, most: int) -> None:
        reapable = self.model.reapable()
        assert self.ledger.maintenance.due().reap or not reapable
        taken = self.ledger.maintenance.reap(most)
        assert set(taken) <= reapable
        assert len(taken) == len(set(taken)) == min(most, len(reapable))
        for job_id in taken:
            self.model.reaped(job_id)

    @rule()
    def unowned(self) -> None:
        assert self.ledger.maintenance.due().unowned or not self.model.unowned()
        assert set(self.ledger.maintenance.unowned(0)) == self.model.unowned()

    @rule()
    def lost_messages(self) -> None:
        assert set(self.ledger.maintenance.lost_messages("q", 0, 0, empty=True)) == self.model.in_state(QUEUED)

    # -- what must hold all the time

    @invariant()
    def records_are_as_in_the_model(self) -> None:
        records = {record.id: record for record in self.ledger.queries.find(JOBS)}
        assert records.keys() == self.model.jobs.keys()
        for job_id, job in self.model.jobs.items():
            record = records[job_id]
            assert record.state is job.state
            assert (record.holder, record.attempt, record.cancel) == (job.holder, job.attempt, job.cancel)
            assert record.reported is job.reported
            known = [(a.number, a.state, a.cause, a.reason) for a in record.attempts]
            assert known == [(a.number, a.state, a.cause, a.reason) for a in job.attempts]

    @invariant()
    def each_attempt_is_recorded_once(self) -> None:
        for record in self.ledger.queries.find(JOBS):
            numbers = [attempt.number for attempt in record.attempts if attempt.number]
            assert numbers == sorted(set(numbers))
            ended = [attempt for attempt in record.attempts if attempt.state is not FAILED]
            assert len(ended) <= 1
            assert not record.terminal or record.attempts[-1].state is record.state

    @invariant()
    def an_outcome_never_changes(self) -> None:
        for record in self.ledger.queries.find(JOBS):
            if record.terminal:
                outcome = (record.state, record.attempts, record.detail, record.node, record.updated_at)
                assert self.ended.setdefault(record.id, outcome) == outcome
            else:
                assert record.id not in self.ended

    @invariant()
    def a_job_has_one_holder_at_most(self) -> None:
        held = {worker: self.ledger.ownership.held_by(worker) for worker in WORKERS}
        assert held == {w: {j for j, job in self.model.jobs.items() if job.holder == w} for w in WORKERS}
        for one, other in itertools.combinations(held.values(), 2):
            assert not one & other

    @invariant()
    def lists_and_counts_agree_with_the_records(self) -> None:
        counted = Counter(job.state for job in self.model.jobs.values())
        assert self.ledger.queries.counts() == {state: counted[state] for state in JobState}
        assert set(self.ledger.queries.ids()) == self.model.jobs.keys()
        for state in counted:
            assert set(self.ledger.queries.ids(state)) == self.model.in_state(state)

    @invariant()
    def no_job_is_out_of_reach(self) -> None:
        """Each open job has a live holder, or is in an index that workers read."""
        within_reach = self.model.reapable()  # by the next reap
        within_reach |= {job_id for job_id, job in self.model.jobs.items() if job.holder in self.model.live}
        within_reach |= self.model.in_state(QUEUED)  # by its message, or by lost_messages
        within_reach |= self.model.in_state(BACKOFF)  # when its time has come
        within_reach |= {job_id for job_id, job in self.model.jobs.items() if job.unowned}
        assert within_reach >= {job_id for job_id, job in self.model.jobs.items() if not job.reported}

    # -- and how it ends

    def teardown(self) -> None:
        """All workers crash. One that comes later finds every job, and brings each to one end."""
        for worker in WORKERS:
            self.crash(worker)
        for job_id in self.model.in_state(BACKOFF):
            if not self.model.jobs[job_id].due:  # nobody can wait for it
                self.cancel(job_id, "enough", False)
        self.ledger.maintenance.renew_lease("last", FOR_EVER, {})
        while self.ledger.maintenance.reap(2):
            pass
        found = {*self.ledger.maintenance.unowned(0), *self.ledger.maintenance.lost_messages("q", 0, 0, empty=True)}
        assert found == {job_id for job_id, job in self.model.jobs.items() if not job.reported}
        for job_id in found:
            claim = self.ledger.ownership.claim(job_id, "last")
            record = self.ledger.queries.get(job_id)
            attempts = (*record.attempts, Attempt(number=record.attempt, state=FAILED, cause=Cause.EXIT))
            assert claim.action in HELD_THEN
            assert (claim.action is ClaimAction.REPLAY) or self.ledger.ownership.finish(job_id, "last", attempts)
            assert self.ledger.ownership.mark_reported(job_id, "last")
        for record in self.ledger.queries.find(JOBS):
            assert (record.terminal, record.reported, record.holder) == (True, True, "")
        self.each_attempt_is_recorded_once()
        self.an_outcome_never_changes()
        assert self.ledger.ownership.held_by("last") == set()
        assert self.ledger.maintenance.unowned(0) == []
        assert self.ledger.maintenance.reap() == []


@pytest.mark.timeout(600)  # some hundred examples: a busy machine takes longer than for other tests
def test_the_ledger_does_what_the_model_says(ledger: Ledger) -> None:
    numbers = itertools.count()

    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(Ledger(ledger.client, f"{ledger.prefix}-{next(numbers)}"))

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )

"""Batches and dependencies in any order of calls: after each, every job is where the rules say that it must be."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jaas_submit import BatchRecord, JobRecord, JobSpec, JobState
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.ids import batch_job_id, copy_id_of, replaced_by, retry_id_of
from jaas_submit.model.records import Attempt
from jaas_submit.model.states import TERMINAL

SPEC = JobSpec(image="a")
HOLDER = "w"
WAITING, QUEUED, SUCCEEDED, FAILED = JobState.WAITING, JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED
CANCELLED, SKIPPED, BACKOFF = JobState.CANCELLED, JobState.SKIPPED, JobState.BACKOFF
PENDING, RUNNING = JobState.PENDING, JobState.RUNNING


@dataclass
class ModelBatch:
    id: str
    most: int
    quorum: float | None
    failures: str | None
    jobs: list[str]
    left: list[str] = field(default_factory=list)
    """Whose places others took."""
    closed: bool = False
    cancelled: bool = False
    stopped: bool = False
    reopened: bool = False

    def broken(self, counts: Counter[JobState]) -> bool:
        """Whether its jobs have broken one of its rules."""
        total = len(self.jobs)
        failed = counts[FAILED]
        if self.failures and not self.failures.endswith("%") and failed > int(self.failures):
            return True
        if not self.closed:
            return False
        if self.failures and self.failures.endswith("%") and failed > total * int(self.failures[:-1]) / 100:
            return True
        return self.quorum is not None and total - failed - counts[CANCELLED] - counts[SKIPPED] < self.needed

    @property
    def needed(self) -> int:
        return math.ceil(len(self.jobs) * (1 if self.quorum is None else self.quorum))


def meets(on: str, state: JobState | None) -> bool | None:
    """Whether an end is the one that was asked for; None while there is none."""
    if state is None or state not in TERMINAL:
        return None
    return on == "finish" or (on == "success") == (state is SUCCEEDED)


class Machine(RuleBasedStateMachine):
    ledger: Ledger
    """Set by the test."""
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.mine = Ledger(self.ledger.client, f"{self.ledger.prefix}-{next(self.numbers)}")
        self.mine.maintenance.renew_lease(HOLDER, 3600, {})
        self.batches: list[ModelBatch] = []
        self.after: dict[str, tuple[tuple[str, str], ...]] = {}
        self.by_hand: set[str] = set()
        self.met: dict[tuple[str, str], JobState] = {}
        """How a job or batch had ended when a job that came after it was decided."""
        self.copies: dict[str, str] = {}
        """Copy -> the job that it is a copy of."""

    # -- what producers and workers do -------------------------------------------------------------------------------

    @rule(
        most=st.integers(0, 3),
        quorum=st.sampled_from([None, 0.0, 0.5, 1.0]),
        failures=st.sampled_from([None, None, "0", "1", "50%"]),
    )
    def begin_batch(self, most: int, quorum: float | None, failures: str | None) -> None:
        batch_id = f"00000000-0000-0000-0000-{len(self.batches):012}"
        self.mine.batches.create(batch_id, max_parallel=most, min_success=quorum, max_failures=failures)
        self.batches.append(ModelBatch(batch_id, most, quorum, failures, []))

    @rule(data=st.data(), on=st.sampled_from(["success", "failure", "finish"]))
    def submit(self, data: st.DataObject, on: str) -> None:
        takes = [batch for batch in self.batches if not batch.closed]
        batch = data.draw(st.sampled_from([None, *takes]), "batch")
        known = [*self.after, *(f"batch:{one.id}" for one in self.batches)]
        if batch is not None:  # else it and its batch could wait for each other for ever
            known = [one for one in known if not self.waits_for(one, f"batch:{batch.id}")]
        after = (
            tuple((one, on) for one in data.draw(st.lists(st.sampled_from(known), max_size=2, unique=True)))
            if known
            else ()
        )
        if batch is None:
            job = NewJob(f"j{len(self.after)}", SPEC, "q", after=after)
        else:
            index = len(batch.jobs)
            job = NewJob(batch_job_id(batch.id, index), SPEC, "q", batch=batch.id, index=index, after=after)
            batch.jobs.append(job.job_id)
        made, again = self.mine.submission.create_many([job])[0], self.mine.submission.create_many([job])[0]
        assert (made.new, again.new, made.state) == (True, False, again.state)
        self.after[job.job_id] = after

    def waits_for(self, one: str, target: str) -> bool:
        """Return whether a job or batch ends only after another one, or is that."""
        jobs = next((batch.jobs for batch in self.batches if one == f"batch:{batch.id}"), [one])
        return one == target or any(self.waits_for(on, target) for job in jobs for on, _ in self.after.get(job, ()))

    @precondition(lambda self: self.mine.queries.ids(QUEUED, 1))
    @rule(data=st.data(), state=st.sampled_from([SUCCEEDED, SUCCEEDED, FAILED, CANCELLED]))
    def end(self, data: st.DataObject, state: JobState) -> None:
        self.run(data.draw(st.sampled_from(sorted(self.mine.queries.ids(QUEUED, 1000)))), state)

    def run(self, job_id: str, state: JobState) -> None:
        assert self.mine.ownership.claim(job_id, HOLDER).action is ClaimAction.LAUNCH
        assert self.mine.ownership.move(job_id, HOLDER, PENDING)
        assert self.mine.ownership.finish(job_id, HOLDER, [Attempt(number=1, state=state, cause=Cause.EXIT)])

    def in_flight(self) -> list[str]:
        return sorted([*self.mine.queries.ids(RUNNING, 1000), *self.mine.queries.ids(PENDING, 1000)])

    @precondition(lambda self: self.mine.queries.ids(QUEUED, 1))
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.mine.queries.ids(QUEUED, 1000))))
        assert self.mine.ownership.claim(job_id, HOLDER).action is ClaimAction.LAUNCH
        assert self.mine.ownership.move(job_id, HOLDER, PENDING)
        assert self.mine.ownership.move(job_id, HOLDER, RUNNING)

    @precondition(lambda self: self.in_flight())
    @rule(data=st.data(), state=st.sampled_from([SUCCEEDED, FAILED, CANCELLED]))
    def end_running(self, data: st.DataObject, state: JobState) -> None:
        self.finish(data.draw(st.sampled_from(self.in_flight())), state)

    def finish(self, job_id: str, state: JobState) -> None:
        """Do what a worker does when a container ends; any call may be made twice, since its reply was lost."""
        self.mine.ownership.claim(job_id, HOLDER)  # of one that was restored
        attempts = [Attempt(number=1, state=state, cause=Cause.EXIT)]
        if state is FAILED:
            first, again = (self.mine.ownership.back_off(job_id, HOLDER, attempts, None, None, "") for _ in range(2))
            assert first == again
            if first[0]:
                return
        assert self.mine.ownership.finish(job_id, HOLDER, attempts)
        assert self.mine.ownership.finish(job_id, HOLDER, attempts)

    @precondition(lambda self: self.mine.queries.ids(RUNNING, 1))
    @rule(data=st.data())
    def double(self, data: st.DataObject) -> None:
        record = self.mine.queries.get(data.draw(st.sampled_from(sorted(self.mine.queries.ids(RUNNING, 1000)))))
        batch = next((one for one in self.batches if record.id in one.jobs), None)
        room = batch is not None and not batch.cancelled and (not batch.most or self.active(batch) < batch.most)
        done = self.mine.batches.start_copy(record.id, SPEC, "slow")
        assert done == (room and not record.copied_by and not record.cancel)
        assert not self.mine.batches.start_copy(record.id, SPEC, "slow")
        if done:
            self.copies[copy_id_of(record.id)] = record.id

    @precondition(lambda self: self.in_flight())
    @rule(data=st.data())
    def lose_and_restore(self, data: st.DataObject) -> None:
        """A record is lost, and created again from its service."""
        record = self.mine.queries.get(data.draw(st.sampled_from(self.in_flight())))
        self.mine.client.delete(f"{self.mine.prefix}:job:{record.id}")
        place = (record.batch, record.index or 0)
        before = replaced_by(record.id, *place) if record.batch and not record.copy_of else ""
        assert self.mine.maintenance.restore(record.id, SPEC, "q", 1, *place, record.copy_of, before or "")
        restored = self.mine.queries.get(record.id)
        assert (restored.state, restored.batch, restored.index, restored.copy_of, restored.copied_by) == (
            *(PENDING, record.batch, record.index, record.copy_of, record.copied_by),
        )
        assert not self.mine.maintenance.restore(record.id, SPEC, "q", 1)

    @precondition(lambda self: self.after)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted([*self.after, *self.copies])))
        if self.mine.queries.get(job_id).state not in TERMINAL:
            self.by_hand.add(job_id)
        self.mine.submission.cancel(job_id, "by hand")

    @precondition(lambda self: any(not batch.closed for batch in self.batches))
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from([batch for batch in self.batches if not batch.closed]))
        self.mine.batches.close(batch.id, len(batch.jobs))
        batch.closed = True

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), dies=st.booleans())
    def cancel_batch(self, data: st.DataObject, dies: bool) -> None:
        batch = data.draw(st.sampled_from(self.batches))
        if self.mine.batches.cancel(batch.id, "by hand"):
            batch.cancelled = batch.closed = True
            open_jobs = {one.id for one in self.mine.queries.find(batch.jobs) if one.state not in TERMINAL}
            if not dies:
                self.by_hand |= open_jobs
                self.mine.batches.cancel_jobs(batch.id)

    def ended_members(self) -> list[str]:
        """Return the jobs that may be replayed in place."""
        ids = [one for batch in self.batches if not batch.cancelled or self.is_done(batch) for one in batch.jobs]
        return sorted(record.id for record in self.mine.queries.find(ids) if record.terminal)

    def is_done(self, batch: ModelBatch) -> bool:
        return self.mine.batches.get(batch.id).done

    @precondition(lambda self: self.ended_members())
    @rule(data=st.data())
    def replay_in_place(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.ended_members()))
        batch = next(one for one in self.batches if old in one.jobs)
        was_done, index = self.is_done(batch), batch.jobs.index(old)
        new = NewJob(retry_id_of(old), SPEC, "q", batch=batch.id, index=index, replaces=old)
        for is_new in (True, False):  # the reply of the first may have been lost
            assert self.mine.submission.create_many([new])[0].new is is_new
        batch.jobs[index] = new.job_id
        batch.left.append(old)
        batch.reopened = True
        if was_done:
            batch.cancelled = batch.stopped = False
        self.after[new.job_id] = ()
        assert self.mine.queries.batch_job_ids(batch.id, range(len(batch.jobs))) == batch.jobs

    @precondition(lambda self: self.mine.batches.cancelling())
    @rule()
    def cancel_the_rest(self) -> None:
        """Do a worker's duty for batches that were stopped, or whose canceller died."""
        for batch_id in self.mine.batches.cancelling():
            batch = next(one for one in self.batches if one.id == batch_id)
            self.by_hand |= {one.id for one in self.mine.queries.find(batch.jobs) if one.state not in TERMINAL}
            self.mine.batches.cancel_jobs(batch_id)

    # -- what must be true ---------------------------------------------------------------------------------------------

    def end_of(self, name: str) -> JobState | None:
        if name.startswith("batch:"):
            return self.mine.batches.get(name.removeprefix("batch:")).state
        return self.mine.queries.get(name).state

    @invariant()
    def every_job_is_where_it_must_be(self) -> None:
        records = {record.id: record for record in self.mine.queries.find(list(self.after))}
        rows = {batch.id: self.mine.batches.get(batch.id) for batch in self.batches}
        for batch in self.batches:
            if rows[batch.id].stopped and not batch.stopped:
                batch.stopped = batch.cancelled = batch.closed = True
        for batch in self.batches:
            self.check_batch(batch, rows[batch.id], [records[one] for one in batch.jobs])
        for job_id, record in records.items():
            self.check_job(record, [meets(on, self.met_by(job_id, name)) for name, on in self.after[job_id]])

    def met_by(self, job_id: str, name: str) -> JobState | None:
        """Return how what a job comes after had ended when it ended first: a batch may have gone on since."""
        if (job_id, name) not in self.met:
            state = self.end_of(name)
            if state is None or state not in TERMINAL:
                return None
            self.met[job_id, name] = state
        return self.met[job_id, name]

    def check_job(self, record: JobRecord, met: list[bool | None]) -> None:
        if record.state is SKIPPED:
            assert False in met, record
        elif record.state is CANCELLED:
            assert record.id in self.by_hand or all(met), record
        elif record.state is WAITING:
            assert False not in met, record
            batch = next((one for one in self.batches if record.id in one.jobs), None)
            if all(met):  # then it stands in line
                assert batch is not None, record
                active = self.active(batch)
                assert batch.cancelled or (batch.most and active >= batch.most), record
        else:
            assert all(met), record

    def active(self, batch: ModelBatch) -> int:
        """How many count towards its max_parallel: its jobs and their copies."""
        copies = [copy for copy, of in self.copies.items() if of in {*batch.jobs, *batch.left}]
        return sum(one.state not in {*TERMINAL, WAITING} for one in self.mine.queries.find([*batch.jobs, *copies]))

    @invariant()
    def a_job_and_its_copy_end_as_one(self) -> None:
        for copy, one in zip(
            self.mine.queries.find(list(self.copies)), self.mine.queries.find(list(self.copies.values())), strict=True
        ):
            assert (copy.copy_of, one.copied_by) == (one.id, copy.id)
            if copy.state is SUCCEEDED:
                assert one.terminal, (one, copy)
            if one.terminal and not copy.terminal:  # its holder is told to stop it
                assert copy.cancel, copy
                assert copy.state is not QUEUED, copy
            if one.state is BACKOFF:
                assert not copy.terminal, (one, copy)

    def open_copies(self, batch: ModelBatch) -> int:
        copies = self.mine.queries.find([copy for copy, of in self.copies.items() if of in {*batch.jobs, *batch.left}])
        return sum(not copy.terminal for copy in copies)

    def check_batch(self, batch: ModelBatch, row: BatchRecord, records: list[JobRecord]) -> None:
        counts = Counter(record.state for record in records)
        assert (row.size, row.counts, row.left) == (len(records), dict(counts), len(batch.left))
        assert (row.active, row.copies) == (self.active(batch), self.open_copies(batch))
        assert not batch.most or row.active <= batch.most
        ended = sum(counts[state] for state in TERMINAL)
        told = self.mine.batches.ended_jobs(batch.id, 0, 10_000)
        assert sorted(told) == sorted([*(record.id for record in records if record.terminal), *batch.left])
        assert row.done == (batch.closed and ended == len(records))
        if batch.stopped:
            assert batch.broken(counts), row
        elif not batch.cancelled and not row.done and not batch.reopened:
            assert not batch.broken(counts), row
        if row.done and batch.stopped:
            assert row.state is FAILED
        elif row.done and batch.cancelled:
            assert row.state is CANCELLED
        elif row.done:
            few = batch.failures is not None and replace(batch, quorum=None).broken(counts)
            assert row.state is (SUCCEEDED if counts[SUCCEEDED] >= batch.needed and not few else FAILED)

    def teardown(self) -> None:
        """After any calls, a working worker brings everything to its end."""
        for batch in self.batches:
            self.mine.batches.close(batch.id, len(batch.jobs))
            batch.closed = True
        for batch_id in self.mine.batches.cancelling():
            self.mine.batches.cancel_jobs(batch_id)
        while (ready := self.mine.queries.ids(QUEUED, 1000)) or self.in_flight():
            if ready:
                self.run(ready[-1], SUCCEEDED)
            else:
                self.finish(self.in_flight()[-1], FAILED)
        assert {record.state for record in self.mine.queries.find([*self.after, *self.copies])} <= TERMINAL
        assert all(self.mine.batches.get(batch.id).done for batch in self.batches)
        assert not list(self.mine.client.scan_iter(f"{self.mine.prefix}:after:*", count=1000))


def test_any_order_of_calls(ledger: Ledger) -> None:
    Machine.ledger = ledger
    run_state_machine_as_test(Machine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))

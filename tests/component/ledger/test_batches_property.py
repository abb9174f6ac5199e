"""Batches and dependencies in any order of calls: after each, every job is where the rules say that it must be."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jaas_submit import BatchRecord, JobRecord, JobSpec, JobState
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.ids import batch_job_id, copy_id_of
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
    quorum: float
    jobs: list[str]
    closed: bool = False
    cancelled: bool = False


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
        self.copies: dict[str, str] = {}
        """Copy -> the job that it is a copy of."""

    # -- what producers and workers do -------------------------------------------------------------------------------

    @rule(most=st.integers(0, 3), quorum=st.sampled_from([0.0, 0.5, 1.0]))
    def begin_batch(self, most: int, quorum: float) -> None:
        batch_id = f"00000000-0000-0000-0000-{len(self.batches):012}"
        self.mine.batches.create(batch_id, max_parallel=most, min_success=quorum)
        self.batches.append(ModelBatch(batch_id, most, quorum, []))

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
        assert self.mine.maintenance.restore(record.id, SPEC, "q", 1, record.batch, record.index or 0, record.copy_of)
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
            self.check_batch(batch, rows[batch.id], [records[one] for one in batch.jobs])
        for job_id, record in records.items():
            self.check_job(record, [meets(on, self.end_of(name)) for name, on in self.after[job_id]])

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
        copies = [copy for copy, of in self.copies.items() if of in batch.jobs]
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
        copies = self.mine.queries.find([copy for copy, of in self.copies.items() if of in batch.jobs])
        return sum(not copy.terminal for copy in copies)

    def check_batch(self, batch: ModelBatch, row: BatchRecord, records: list[JobRecord]) -> None:
        counts = Counter(record.state for record in records)
        assert (row.size, row.counts) == (len(records), dict(counts))
        assert (row.active, row.copies) == (self.active(batch), self.open_copies(batch))
        assert not batch.most or row.active <= batch.most
        ended = sum(counts[state] for state in TERMINAL)
        told = self.mine.batches.ended_jobs(batch.id, 0, 10_000)
        assert sorted(told) == sorted(record.id for record in records if record.terminal)
        assert row.done == (batch.closed and ended == len(records))
        if row.done:
            good = counts[SUCCEEDED] >= math.ceil(len(records) * batch.quorum)
            assert row.state is (CANCELLED if batch.cancelled else SUCCEEDED if good else FAILED)

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

"""A node fails while jobs run on it, and comes back: its engine is stopped, or its network is cut."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from jaas_submit import Cause, Client, JobHandle, JobState, LogStatus
from jaas_submit.model.retry_policy import Backoff, RetryPolicy
from tests.acceptance.conftest import LabNodes, one_worker
from tests.support.jobs import LONG, ended, jaas_logs, shell, until
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.lab, pytest.mark.redis, pytest.mark.timeout(400)]

BACK_S = 150
"""A node that was cut off is in the swarm again after up to 40 s on idle processors: the managers elect a leader."""


@pytest.fixture(scope="module")
def jaas(lab: LabNodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with one worker, on node 1."""
    with one_worker(lab.hosts[0], tmp_path_factory) as made:
        yield made
    # The modules after this one use the same lab. A leader that has just been elected waits for each node's word.
    eventually(lambda: all_ready(lab), BACK_S, "all nodes to be ready again")


@pytest.fixture
def victim(lab: LabNodes) -> int:
    """A node that is neither the leader nor the worker's."""
    leader = lab.docker("node", "ls", "--filter", "role=manager", "--format", "{{.Hostname}} {{.ManagerStatus}}")
    return next(node for node in (3, 2) if f"node{node} Leader" not in leader)


def all_ready(lab: LabNodes) -> bool:
    return lab.docker("node", "ls", "--format", "{{.Status}}").split() == ["Ready"] * len(lab.hosts)


def detail(handle: JobHandle) -> str:
    return handle.record().detail


def test_an_engine_that_is_stopped_and_started_is_to_blame_for_the_end_of_its_jobs(
    client: Client, lab: LabNodes, victim: int, witness: Witness
) -> None:
    again = RetryPolicy(max_cluster_retries=1, backoff=Backoff(kind="constant", delay=0, jitter="none"))
    there = [f"node.hostname==node{victim}"]
    handle = client.submit(witness.spec(f"echo begin; {witness.held()}", constraints=there, retry=again))
    until(client, handle.id, JobState.RUNNING)
    lab.fault("stop", victim)
    lab.fault("start", victim)
    witness.open()
    result = ended(client, handle.id)
    assert [(a.cause, a.exit_code) for a in result.attempts] == [(Cause.ENGINE, None), (Cause.EXIT, 0)]
    lost = result.attempts[0]
    assert lost.reason.startswith("No such container: ")
    assert (lost.log_status, len(witness.starts(handle.id))) == (LogStatus.UNAVAILABLE, 2)


def test_what_a_node_ran_while_it_was_cut_off(jaas: Installation, client: Client, lab: LabNodes, victim: int) -> None:
    there = [f"node.hostname==node{victim}"]
    eventually(lambda: all_ready(lab), BACK_S, "all nodes to be ready")
    inside = client.submit(shell("echo begin; sleep 6; echo end; exit 4", constraints=there))
    after = client.submit(shell("echo begin; sleep 600", constraints=there, stop_grace=1))
    for job in (inside, after):
        until(client, job.id, JobState.RUNNING)
    with contextlib.ExitStack() as readers:
        # The node has no agent: live lines come from the swarm, whose call hangs while the node is down.
        before, printed_before = readers.enter_context(jaas_logs(jaas, after.id))
        assert printed_before.readline() == b"begin\n"
        lab.fault("partition", victim)
        try:
            eventually(lambda: "is down since" in detail(inside) + detail(after), LONG, lambda: str(after.record()))
            meanwhile, printed_meanwhile = readers.enter_context(jaas_logs(jaas, after.id))
        finally:
            lab.fault("heal", victim)
        ended_well = inside.wait(BACK_S, check=False)
        assert (ended_well.cause, ended_well.exit_code, ended_well.logs.stdout) == (Cause.EXIT, 4, "begin\nend\n")
        stopped = after.wait(BACK_S, check=False)
        assert (stopped.cause, stopped.exit_code) == (Cause.NODE_LOST, 137)
        assert stopped.reason.startswith("its node was away for ")
        # No agent was there, and an engine that came back may have lost output. The swarm's log call has been seen to
        # stay silent after a node's return: then nothing is known of the output, and that is said.
        kept = (stopped.logs.stdout, stopped.logs.status)
        assert kept in {("begin\n", LogStatus.PARTIAL), ("", LogStatus.UNAVAILABLE)}
        assert stopped.logs.reason
        if stopped.logs.status is LogStatus.PARTIAL:
            assert stopped.logs.reason.startswith("its node changed while it ran")
        assert "raise retry.max_cluster_retries" in str(client.explain(after.id))
        for process in (before, meanwhile):
            process.wait(LONG)
        assert printed_before.read() == b""
        assert printed_meanwhile.read() in {b"begin\n", stopped.logs.stdout.encode()}

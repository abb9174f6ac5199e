"""Output as agents find it, on a real engine: exact to the byte, while the job runs and afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaas_submit import Client
from jaas_submit.model.causes import Cause
from jaas_submit.output import AgentLeases, FeedEnd, Feeds, Piece, Wanted
from jaas_worker.swarm.engine import SwarmInfo
from tests.support.jobs import LONG, ended, run, shell
from tests.support.wait import eventually
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("no_service_left")]

RANDOM = "head -c {} /dev/urandom | tee /dev/stderr | sha256sum >&2"


@contextlib.contextmanager
def agent_alone(jaas: Installation) -> Iterator[subprocess.Popen[bytes]]:
    """Run `jaas agent`, and wait until it has the node's lease."""
    with (jaas.folder / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jaas_submit.cli.main", "agent"],
            cwd=jaas.folder,
            env=jaas.environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: f"-{process.pid}-" in holder(jaas), 40, "the agent to have the node's lease")
        yield process
    finally:
        process.terminate()
        process.wait(LONG)


def blocks_sigterm(status: str) -> bool:
    """Return whether a thread blocks SIGTERM, by its status in /proc."""
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def node(jaas: Installation) -> SwarmInfo:
    return jaas.swarm.info()


def holder(jaas: Installation) -> str:
    """Return which process follows the node's containers."""
    lease = AgentLeases(jaas.ledger.client, jaas.prefix).get(node(jaas).node_id)
    return lease.holder if lease else ""


@pytest.fixture(params=["in the worker", "alone"])
def agent(request: pytest.FixtureRequest, jaas: Installation, worker: WorkerProcess) -> Iterator[None]:
    """An agent: the worker's, or a process of its own before the worker starts."""
    if request.param == "in the worker":
        eventually(lambda: holder(jaas), 40, "the worker's agent")
        yield
        return
    worker.stop()
    with agent_alone(jaas):
        worker.start()
        yield
        worker.stop()
    worker.start()


@pytest.mark.usefixtures("agent")
def test_output_is_exact_to_the_byte_for_a_hundred_short_jobs(client: Client) -> None:
    """Each prints its bytes and their digest on one stream, then ends at once: a line of text, or no text at all."""
    text = "echo line {} | tee /dev/stderr | sha256sum >&2"
    handles = [client.submit(shell((RANDOM if n % 2 else text).format(1 + 40 * n))) for n in range(100)]
    for number, handle in enumerate(handles):
        assert ended(client, handle.id).ok
        logs = handle.logs()
        size = 1 + 40 * number if number % 2 else len(f"line {1 + 40 * number}\n")
        data, told = logs.stderr_bytes[:size], logs.stderr_bytes[size:]
        assert (logs.status, logs.reason) == ("complete", "")
        assert told == f"{hashlib.sha256(data).hexdigest()}  -\n".encode(), number


def test_only_the_main_thread_takes_a_signal_to_stop(jaas: Installation, worker: WorkerProcess) -> None:
    """After SIGSTOP and SIGCONT the kernel may hand SIGTERM to any thread that does not block it."""
    with worker_without_agent(jaas, worker), agent_alone(jaas) as process:
        tasks = {int(task.name): task for task in Path(f"/proc/{process.pid}/task").iterdir()}
        assert len(tasks) > 1
        takes = {number for number, task in tasks.items() if not blocks_sigterm((task / "status").read_text())}
        assert takes == {process.pid}
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGCONT)
    assert process.returncode == 0


@pytest.mark.usefixtures("agent")
def test_of_a_large_output_both_ends_are_exact_and_the_rest_is_counted(client: Client) -> None:
    handle = client.submit(shell(RANDOM.format(5_000_000)))
    assert ended(client, handle.id).ok
    logs = handle.logs()
    assert logs.status == "truncated"
    assert logs.stderr_bytes.endswith(b"  -\n")
    assert len(logs.stderr_bytes) == 1024 * 1024
    (gap,) = logs.gaps
    assert (gap.stream, gap.missing, gap.exact) == ("stderr", 5_000_068 - 1024 * 1024, True)


@pytest.mark.usefixtures("agent")
def test_memory_that_ran_out_is_the_cause_also_in_a_child(client: Client) -> None:
    eats = "a=x; while :; do a=$a$a; done"
    main = run(client, shell(eats, limits={"memory": "16M"}))
    child = run(client, shell(f"sh -c '{eats}'; exit 5", limits={"memory": "16M"}))
    assert (main.cause, child.cause) == (Cause.OOM, Cause.OOM)
    assert (main.exit_code, child.exit_code) == (137, 5)
    assert [one.attempts[-1].oom_killed for one in (main, child)] == [True, True]


@contextlib.contextmanager
def worker_without_agent(jaas: Installation, worker: WorkerProcess) -> Iterator[None]:
    """Run a worker in the place of the module's; an agent cannot reach the engine by the address that it is given."""
    worker.stop()
    other = jaas.worker("noagent", DOCKER_HOST=jaas.engine_host.replace("unix://", "http+unix://", 1)).start()
    try:
        yield
    finally:
        other.stop()
        worker.start()


def test_memory_that_ran_out_is_recognised_without_an_agent_too(
    jaas: Installation, client: Client, worker: WorkerProcess
) -> None:
    eats = "a=x; while :; do a=$a$a; done"
    with worker_without_agent(jaas, worker):
        main = run(client, shell(eats, limits={"memory": "16M"}))
        fine = run(client, shell("exit 5", limits={"memory": "16M"}))
        assert holder(jaas) == ""
    assert (main.cause, main.exit_code) == (Cause.OOM, 137)
    assert (fine.cause, fine.exit_code) == (Cause.EXIT, 5)
    assert [one.attempts[-1].oom_killed for one in (main, fine)] == [True, False]


def test_a_container_knows_its_node(jaas: Installation, client: Client, worker: WorkerProcess) -> None:
    result = run(client, shell('echo "$JAAS_NODE"'))
    assert result.logs.stdout == f"{node(jaas).node_name}\n"


def read(jaas: Installation, wanted: Wanted) -> tuple[bytes, list[float], FeedEnd]:
    """Read a feed to its end; return stdout, how old each piece was, and the end."""
    feeds, cursor, data, ages = Feeds(jaas.ledger.client, jaas.prefix), 0, b"", []

    def end() -> FeedEnd | None:
        nonlocal cursor, data
        feeds.renew(wanted)
        view = feeds.read(wanted.feed, cursor)
        assert view is not None
        for piece in view.pieces:
            assert isinstance(piece, Piece), piece
            assert piece.offset == len(data), "a gap, or bytes that came twice"
            data += piece.data
            ages.append(time.time())
        cursor = view.cursor
        return view.end

    told = eventually(end, 2 * LONG, "the feed's end")
    return data, ages, told


@pytest.mark.usefixtures("agent")
def test_a_feed_has_every_line_from_the_first_byte(jaas: Installation, client: Client) -> None:
    handle = client.submit(shell("for n in $(seq 300); do echo line $n; done; sleep 1; echo last"))
    wanted = Feeds(jaas.ledger.client, jaas.prefix).watch(handle.id, 1)
    data, _, end = read(jaas, wanted)
    assert data == b"".join(b"line %d\n" % n for n in range(1, 301)) + b"last\n"
    assert (end.status, end.stdout) == ("complete", len(data))


def test_an_agent_killed_in_midstream_is_followed_by_another_without_a_gap(
    jaas: Installation, client: Client, worker: WorkerProcess
) -> None:
    worker.stop()
    try:
        with agent_alone(jaas) as first:
            worker.start()
            handle = client.submit(shell("for n in $(seq 15); do echo line $n; sleep 1; done"))
            feeds = Feeds(jaas.ledger.client, jaas.prefix)
            wanted = feeds.watch(handle.id, 1)
            eventually(lambda: feeds.wanted([handle.id])[handle.id][0].stdout > 20, LONG, "some lines")
            os.kill(first.pid, signal.SIGKILL)
            # The worker's own agent takes over: it sees that the process with the lease has ended.
            data, _, end = read(jaas, wanted)
        assert data == b"".join(b"line %d\n" % n for n in range(1, 16))
        assert (end.status, end.reason) == ("complete", "")
        assert ended(client, handle.id).ok
        assert handle.logs().stdout_bytes == data
    finally:
        worker.stop()
        worker.start()


def test_an_agent_that_is_killed_and_started_again_goes_on_at_once(
    jaas: Installation, client: Client, worker: WorkerProcess
) -> None:
    with worker_without_agent(jaas, worker):
        with agent_alone(jaas) as first:
            handle = client.submit(shell("for n in $(seq 15); do echo line $n; sleep 1; done"))
            feeds = Feeds(jaas.ledger.client, jaas.prefix)
            wanted = feeds.watch(handle.id, 1)
            eventually(lambda: feeds.wanted([handle.id])[handle.id][0].stdout > 20, LONG, "some lines")
            os.kill(first.pid, signal.SIGKILL)
            first.wait(LONG)
            assert holder(jaas), "its lease has not run out"
            with agent_alone(jaas):
                data, _, end = read(jaas, wanted)
                assert ended(client, handle.id).ok
        assert holder(jaas) == "", "an agent that is told to stop gives its lease back"
        assert data == b"".join(b"line %d\n" % n for n in range(1, 16))
        assert (end.status, end.reason) == ("complete", "")
        logs = handle.logs()
        assert (logs.stdout_bytes, logs.status) == (data, "complete")

"""What containers print on nodes with an agent, without one, and while agent, Redis or network fail.

One worker on node 1, which carries an agent inside. `jaas agent` runs on one of the other nodes, in its network;
the third has none: there live lines come from the swarm.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import docker
import pytest

from jaas_submit import Cause, Client, JobHandle, JobState, LogStatus
from jaas_submit.client.live_output.findings import AttemptEnds, Missing, Output
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.output import Piece
from jaas_worker.agent.usage.counters import of_engine
from tests.acceptance.conftest import LabNodes
from tests.support.agent_process import AgentProcess
from tests.support.jobs import BURN, LONG, container_of, jaas_logs, seconds_in, shell
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.lab, pytest.mark.redis, pytest.mark.timeout(600)]

PATIENCE = 240.0
"""Seconds to wait for what comes behind 200 other jobs, or for a node that is back."""

QUICK = 200
FLOOD = 100 * 1024 * 1024
FLOOD_LINE = "a line of a flood; " * 50
"""Long: of short lines the engine keeps less than all of a flood, for it also keeps the time of each."""
KEPT = 1024 * 1024
"""Bytes that are kept of each stream if nothing else is set."""
AGENT_MEMORY = 160 * 1024 * 1024
"""Bytes that an agent may use at most, whatever its containers print."""
AWAY_S = 30.0

MEMORY = {"memory": "16M"}
EATS = "a=x; while :; do a=$a$a; done"


@dataclass
class Site:
    """An installation with a Redis of its own, a worker on node 1 and an agent on another node."""

    redis: OwnRedis
    home: Installation
    client: Client
    agent: AgentProcess
    node_id: str
    node: str
    """Host name of the agent's node."""
    bare: str
    """Host name of the node without an agent."""


@contextlib.contextmanager
def made(lab: LabNodes, folder: Path, there: int) -> Iterator[Site]:
    """Make an installation whose agent is on a node; the agent reaches Redis through that node's network."""
    address = f"{lab.net}.1"
    redis = OwnRedis(folder / "redis", **{"bind": f"127.0.0.1 {address}", "protected-mode": "no"}).start()
    home = Installation(redis.url, lab.hosts[0], f"t-{uuid.uuid4().hex[:12]}", folder, remove_delay=0)
    network = f"/run/netns/jaas{lab.name}{there}"
    agent = AgentProcess(home, lab.hosts[there - 1], network, redis_url=f"redis://{address}:{redis.port}/0")
    node_id = lab.docker("info", "--format", "{{.Swarm.NodeID}}", node=there)
    try:
        home.worker().start()
        agent.start(node_id)
        with Client(home.redis_url, queue=home.queue, prefix=home.prefix) as client:
            yield Site(redis, home, client, agent, node_id, f"node{there}", f"node{5 - there}")
    finally:
        agent.stop()
        home.close()
        redis.kill()


@pytest.fixture(scope="module")
def there(lab: LabNodes) -> int:
    """The node that has an agent, and is cut off later: neither the leader's nor the worker's."""
    leader = lab.docker("node", "ls", "--filter", "role=manager", "--format", "{{.Hostname}} {{.ManagerStatus}}")
    return next(node for node in (3, 2) if f"node{node} Leader" not in leader)


@pytest.fixture(scope="module")
def site(lab: LabNodes, there: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made(lab, tmp_path_factory.mktemp("site"), there) as found:
        yield found


@dataclass
class Busy:
    """Jobs that run side by side from the start; the tests below look at one kind each."""

    quick: list[JobHandle]
    flood: JobHandle
    eaters: dict[str, list[JobHandle]]


def at(node: str) -> tuple[str, ...]:
    return (f"node.hostname=={node}",)


def quick_job(number: int) -> JobSpec:
    """Return a job that prints a line, or bytes that are no text, and what their digest is, and exits at once."""
    text = "echo a line of $JAAS_JOB_ID" if number % 2 else f"head -c {1 + 61 * number} /dev/urandom"
    return shell(f"{text} >/out; cat /out; sha256sum </out >&2", constraints=at(f"node{1 + number % 3}"))


@pytest.fixture(scope="module")
def busy(site: Site) -> Busy:
    flood = site.client.submit(shell(f"yes '{FLOOD_LINE}' | head -c {FLOOD}", constraints=at(site.node)))
    eaters = {
        node: [
            site.client.submit(shell(text, limits=MEMORY, constraints=at(node)))
            for text in (EATS, f"sh -c '{EATS}'; exit 5")
        ]
        for node in (site.node, site.bare)
    }
    return Busy(site.client.submit_many([quick_job(number) for number in range(QUICK)]), flood, eaters)


class Reader:
    """Follows a job's output on a thread.

    Args:
        handle: the job's.
    """

    def __init__(self, handle: JobHandle) -> None:
        self.handle = handle
        self.found: list[Output] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for found in self.handle.logs(follow=True, timeout=PATIENCE):
                self.found.append(found)
        except Exception as error:  # noqa: BLE001 (the test's own thread tells)
            self.error = error

    @property
    def data(self) -> bytes:
        """Standard output so far; a byte that is missing or comes twice is a failure."""
        data = b""
        for piece in [found for found in self.found if isinstance(found, Piece)]:
            assert piece.offset == len(data), f"byte {piece.offset} after byte {len(data)}"
            data += piece.data
        return data

    def end(self) -> tuple[str, str]:
        """Wait for the end; return status and reason, with which it came."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the follower has not ended"
        assert self.error is None, self.error
        assert not [found for found in self.found if isinstance(found, Missing)]
        (end,) = [found for found in self.found if isinstance(found, AttemptEnds)]
        return end.status, end.reason


def counting(witness: Witness, gate: str, **fields: object) -> JobSpec:
    """Return a job that prints numbered lines until a gate opens, and then notes how many."""
    loop = f"i=0; until [ -e /witness/{gate} ]; do echo line $i; i=$((i + 1)); sleep 0.05; done"
    return witness.spec(f"{loop}; echo $i >/witness/{gate}.count", **fields)


def lines(count: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(count))


def counted(witness: Witness, gate: str) -> bytes:
    """Return what a job printed that has counted to its end."""
    return lines(int((witness.folder / f"{gate}.count").read_text()))


def more(reader: Reader, count: int) -> Callable[[], bool]:
    """Return whether a reader gets further lines, from now on."""
    wanted = len(reader.found) + count
    return lambda: len(reader.found) >= wanted


# -- nothing fails ----------------------------------------------------------------------------------------------------


def test_a_job_of_100_mb_is_cut_and_its_agent_stays_small(site: Site, busy: Busy) -> None:
    assert busy.flood.wait(PATIENCE, check=False).ok
    logs, printed = busy.flood.logs(), f"{FLOOD_LINE}\n".encode()
    assert (logs.status, logs.reason) == (LogStatus.TRUNCATED, f"{FLOOD - KEPT:,} bytes of stdout cut"), logs.gaps
    (gap,) = logs.gaps
    assert (gap.stream, gap.missing, gap.exact) == ("stdout", FLOOD - KEPT, True)
    head, tail = (part for part in logs.parts("stdout") if isinstance(part, bytes))
    start = FLOOD - len(tail)
    whole = printed * (KEPT // len(printed) + 2)
    assert head == whole[: len(head)]
    assert tail == whole[start % len(printed) :][: len(tail)]
    peak = site.agent.peak_memory
    print(f"the agent's memory at its peak: {peak / 2**20:.0f} MiB")
    assert peak < AGENT_MEMORY


def test_memory_that_ran_out_is_known_where_an_agent_is_and_elsewhere_as_far_as_it_can_be(
    site: Site, busy: Busy
) -> None:
    main, child = (handle.wait(PATIENCE, check=False).attempts[-1] for handle in busy.eaters[site.node])
    assert (main.cause, main.exit_code, main.oom_killed) == (Cause.OOM, 137, True)
    assert (child.cause, child.exit_code, child.oom_killed) == (Cause.OOM, 5, True)
    # Of the other node only the exit code is known: SIGKILL under a memory limit.
    main, child = (handle.wait(PATIENCE, check=False).attempts[-1] for handle in busy.eaters[site.bare])
    assert (main.cause, main.exit_code, main.oom_killed) == (Cause.OOM, 137, False)
    assert (child.cause, child.exit_code, child.oom_killed) == (Cause.EXIT, 5, False)


@pytest.mark.usefixtures("busy")
def test_lines_of_a_node_without_an_agent_are_shown_while_its_job_runs(site: Site, witness: Witness) -> None:
    handle = site.client.submit(counting(witness, "shown", constraints=at(site.bare)))
    with jaas_logs(site.home, handle.id) as (process, printed):
        assert [printed.readline() for _ in range(5)] == lines(5).splitlines(keepends=True)
        assert handle.record().state is JobState.RUNNING
        witness.open("shown")
        rest = printed.read()
        assert process.wait(PATIENCE) == 0
    assert lines(5) + rest == counted(witness, "shown")


def test_every_byte_of_200_short_jobs_is_there(site: Site, busy: Busy) -> None:
    statuses: Counter[tuple[str | None, str, str]] = Counter()
    for number, handle in enumerate(busy.quick):
        result = handle.wait(PATIENCE, check=False)
        assert result.ok, result.sentence()
        assert result.node == f"node{1 + number % 3}"
        logs, attempt = handle.logs(), result.attempts[-1]
        statuses[result.node, logs.status, logs.reason] += 1
        assert logs.stderr == f"{hashlib.sha256(logs.stdout_bytes).hexdigest()}  -\n", (number, result.node)
        if result.node != site.bare:
            assert None not in (attempt.started_at, attempt.finished_at), (number, result.node)
    print(dict(statuses))
    assert {(status, reason) for node, status, reason in statuses if node != site.bare} == {("complete", "")}


def is_running(handle: JobHandle) -> bool:
    return handle.state == JobState.RUNNING


def has_told(api: docker.APIClient, container: str) -> bool:
    return bool(api.logs(container).count(b"\n") == 2)


def test_usage_is_what_the_nodes_engine_says_and_what_the_program_used(site: Site, lab: LabNodes, there: int) -> None:
    """A job of some seconds, on the worker's node, on the agent's, and on the one without an agent."""
    nodes = {"node1": 1, site.node: there, site.bare: 5 - there}
    handles = {node: site.client.submit(shell(f"{BURN}; sleep 600", constraints=at(node))) for node in nodes}
    for node, number in nodes.items():
        handle = handles[node]
        with contextlib.closing(docker.APIClient(base_url=lab.hosts[number - 1], version="auto")) as api:
            eventually(partial(is_running, handle), PATIENCE, f"the job on {node} to run")
            container = container_of(api, handle.id)
            eventually(partial(has_told, api, container), PATIENCE, "the shell's times")
            told = of_engine(api.stats(container, stream=False, one_shot=True))
            api.kill(container)
        result = handle.wait(PATIENCE, check=False)
        if node == site.bare:
            assert result.usage is None
            continue
        assert result.usage is not None, node
        assert result.usage.cpu_seconds == pytest.approx(told.cpu_seconds, rel=0.1), node
        assert result.usage.cpu_seconds == pytest.approx(seconds_in(result.stdout), rel=0.1), node
        assert result.usage.peak_memory == pytest.approx(told.peak_memory, rel=0.1), node
        assert result.usage.sample_age is not None


# -- something fails --------------------------------------------------------------------------------------------------


def test_an_agent_that_is_killed_goes_on_where_it_was(site: Site, witness: Witness) -> None:
    handle = site.client.submit(counting(witness, "killed", constraints=at(site.node)))
    reader = Reader(handle)
    eventually(more(reader, 20), LONG, lambda: site.agent.log)
    site.agent.kill()
    site.agent.start(site.node_id)
    eventually(more(reader, 40), LONG, lambda: site.agent.log)
    witness.open("killed")
    assert handle.wait(PATIENCE, check=False).ok
    assert reader.end() == ("complete", "")
    assert reader.data == counted(witness, "killed") == handle.logs().stdout_bytes
    assert (handle.logs().status, handle.logs().reason) == (LogStatus.COMPLETE, "")


@pytest.fixture
def second(lab: LabNodes, there: int, tmp_path: Path) -> Iterator[Site]:
    """Another installation, whose agent is on the node that is not cut off."""
    with made(lab, tmp_path / "second", 5 - there) as found:
        yield found


def test_output_survives_a_cut_off_node_and_a_redis_that_is_away(
    site: Site, second: Site, lab: LabNodes, there: int, witness: Witness
) -> None:
    """Two installations, for the two outages take half a minute each."""
    inside = site.client.submit(counting(witness, "inside", constraints=at(site.node)))
    beyond = site.client.submit(counting(witness, "beyond", constraints=at(site.node), stop_grace=1))
    elsewhere = second.client.submit(counting(witness, "elsewhere", constraints=at(second.node)))
    readers = [Reader(handle) for handle in (inside, beyond, elsewhere)]
    for reader in readers:
        eventually(more(reader, 20), LONG, lambda: site.agent.log + second.agent.log)
    second.redis.kill()
    lab.fault("partition", there)
    try:
        threading.Event().wait(AWAY_S)  # nothing tells how long an outage lasts
        witness.open("inside")
        eventually((witness.folder / "inside.count").exists, LONG, "the job to end while its node is cut off")
        second.redis.start()
    finally:
        lab.fault("heal", there)
    eventually(more(readers[2], 40), LONG, lambda: second.agent.log)
    witness.open("elsewhere")

    for reader, gate in ((readers[0], "inside"), (readers[2], "elsewhere")):
        assert reader.handle.wait(PATIENCE, check=False).ok, gate
        assert reader.end() == ("complete", "")
        assert reader.data == counted(witness, gate) == reader.handle.logs().stdout_bytes
        assert (reader.handle.logs().status, reader.handle.logs().reason) == (LogStatus.COMPLETE, "")
    # The swarm stops what still runs when its node is back.
    stopped = beyond.wait(PATIENCE, check=False)
    assert (stopped.cause, readers[1].end()) == (Cause.NODE_LOST, ("complete", ""))
    data = readers[1].data
    assert data == lines(data.count(b"\n")) == beyond.logs().stdout_bytes
    nodes = ["node", "ls", "--format", "{{.Status}}"]
    eventually(lambda: lab.docker(*nodes).split() == ["Ready"] * 3, PATIENCE, "all nodes to be ready again")

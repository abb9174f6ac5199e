"""Redis fails over: a real master, a replica and three Sentinels, a real worker, real jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import celery
import docker
import pytest

from jaas_submit import AsyncClient, Cause, Client, JobHandle, JobSpec, JobState, LedgerUnavailable
from jaas_submit.connection import connect
from jaas_submit.connection.url import sentinel_address
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.doctor.redis_checks import redis_checks
from jaas_submit.doctor.sentinel_checks import sentinel_checks
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.model.records import Attempt
from jaas_submit.model.result import JobResult
from tests.support.jobs import LONG, celery_result, containers_of, ended, until
from tests.support.redis_server import OwnRedis
from tests.support.sentinel_group import MASTER, Group
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import CONNECTION_LOST, Installation

pytestmark = [pytest.mark.redis]

WORKER = {"lease": "5s", "reconcile_interval": "200ms", "max_in_flight": 2}

# Celery shows with a traceback where the loss of the master hit it.
EXCEPTIONS_ALLOWED = (
    *CONNECTION_LOST,
    # Celery closes what it has not opened, and goes on.
    "'NoneType' object has no attribute 'connection_errors'",
)


@pytest.fixture(scope="module")
def module_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """The servers of this module; who is the master changes from test to test."""
    group = Group(tmp_path_factory.mktemp("group"))
    yield group
    group.close()


@pytest.fixture
def group(module_redis: Group) -> Group:
    """The servers, all of them up and in step."""
    eventually(module_redis.complete, 60, "master and replica to be in step")
    return module_redis


@pytest.fixture(scope="module")
def foreign(module_redis: Group) -> Iterator[celery.Celery]:
    """A Celery app with Celery's own settings for Sentinel, and no code of jaas in it."""
    address = sentinel_address(module_redis.url)
    assert address is not None
    options = {"master_name": MASTER, "sentinel_kwargs": {"password": address.sentinel_password}}
    url = ";".join(address.celery_urls())
    app = celery.Celery("theirs", broker=url, backend=url, set_as_current=False)
    app.conf.update(broker_transport_options=options, result_backend_transport_options=options)
    yield app
    app.close()


@pytest.mark.engine
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("no_service_left")
def test_the_master_is_killed_while_jobs_run_and_wait(
    jaas: Installation,
    group: Group,
    client: Client,
    foreign: celery.Celery,
    witness: Witness,
    docker_api: docker.APIClient,
) -> None:
    worker = jaas.worker().start()
    held, spec = witness.spec(witness.held()), witness.spec().to_wire()
    running = client.submit(held)
    theirs = [foreign.send_task("jaas.run", kwargs={"spec": held.to_wire()}, queue=jaas.queue)]
    started = [running.id, theirs[0].id]
    eventually(lambda: len(client.ledger.queries.find(started)) == len(started), LONG)
    for job_id in started:
        until(client, job_id, JobState.RUNNING)
    waiting = [client.submit(witness.spec())]  # there is room for two
    (container,) = containers_of(docker_api, running.id)
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(asyncio.run, wait_for(jaas, running.id))
        eventually(lambda: client.ledger.client.pubsub_numsub(f"{jaas.prefix}:0:changes:{running.id}")[0][1], LONG)
        old, new = group.master, group.replica
        # What the replica has not got is lost with the master; this test is about what it has.
        eventually(group.in_step, LONG, "the replica to have everything")

        old.kill()
        eventually(lambda: group.promoted(new), LONG, "the fail-over")

        waiting.append(eventually(lambda: submitted(client, witness.spec()), LONG))
        theirs.append(foreign.send_task("jaas.run", kwargs={"spec": spec}, queue=jaas.queue))
        old.start()
        eventually(group.complete, LONG, "the former master to follow the new one")
        assert (group.role(old), group.role(new)) == ("slave", "master")
        assert containers_of(docker_api, running.id) == [container]
        assert running.state is JobState.RUNNING
        witness.open()
        assert waiter.result(LONG).state is JobState.SUCCEEDED
    for handle in (running, *waiting):
        assert ended(client, handle.id).state is JobState.SUCCEEDED
        assert celery_result(handle.id, app=foreign).get(timeout=LONG)["exit_code"] == 0
    assert [result.get(timeout=LONG)["exit_code"] for result in theirs] == [0, 0]
    ids = [running.id, *(handle.id for handle in waiting), *(result.id for result in theirs)]
    assert sorted(line.split()[0] for line in witness.starts()) == sorted(ids)
    assert "action=redis.master_changed" in worker.log
    shown = foreign.control.inspect(timeout=20, limit=1)
    told = str((shown.stats(), shown.conf(), worker.log))
    assert "jaas_worker.messaging.sentinel_transport:SentinelTransport" in told
    assert "sesame" not in told
    checks = by_name([*sentinel_checks(client.url), *redis_checks(client)])
    assert checks["master"].detail == f"{MASTER} is 127.0.0.1:{new.port}"
    assert checks["redis"].detail.endswith(f" at 127.0.0.1:{new.port}")
    assert {check.verdict for check in checks.values()} == {Verdict.OK}
    worker.stop()


async def wait_for(jaas: Installation, job_id: str) -> JobResult:
    """Wait for a job as an asyncio program does."""
    async with AsyncClient(jaas.redis_url, queue=jaas.queue, prefix=jaas.prefix) as client:
        return await client.wait(job_id, 4 * LONG)


def submitted(client: Client, spec: JobSpec) -> JobHandle | None:
    try:
        return client.submit(spec)
    except LedgerUnavailable:  # as long as nobody is the master
        return None


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


# -- what a former master takes --------------------------------------------------------------------------------------


def test_what_a_frozen_master_accepts_when_it_wakes_up_changes_nothing(group: Group, prefix: str) -> None:
    """Its clients are cut off from nobody: they have written to it, and it answers late, before it is demoted."""
    old, new = group.master, group.replica
    job_id, spec = "11111111-1111-4111-8111-111111111111", JobSpec(image="i", command=["true"])
    with connect(group.url) as client, old.client(timeout=None) as straight:
        ledger = Ledger(client, prefix)
        stale = Ledger(straight, prefix)
        straight.ping()  # connects
        ledger.maintenance.renew_lease("w1", 1, {})
        ledger.submission.create(job_id, spec, "q")
        ledger.ownership.claim(job_id, "w1")
        ledger.ownership.move(job_id, "w1", JobState.PENDING)
        eventually(group.in_step, LONG, "the replica to have everything")
        old.freeze()
        with ThreadPoolExecutor(1) as pool:
            try:
                late = pool.submit(
                    stale.ownership.finish, job_id, "w1", [outcome(1, "of the worker that was left behind")]
                )
                eventually(lambda: group.promoted(new), LONG, "the fail-over")
                eventually(
                    lambda: ledger.ownership.claim(job_id, "w2").action is ClaimAction.ADOPT,
                    LONG,
                    "the lease to run out",
                )
                assert ledger.ownership.finish(job_id, "w2", [outcome(0, "of the worker that took over")])
                # Over Sentinel it reaches the new master, and is no longer the holder there.
                assert not ledger.ownership.finish(job_id, "w1", [outcome(1, "too late")])
            finally:
                old.thaw()
            assert late.result(LONG), "the former master accepts it: it does not know yet"
        eventually(group.complete, LONG, "the former master to follow the new one")
        assert stale.queries.get(job_id).detail == ledger.queries.get(job_id).detail == "of the worker that took over"


def outcome(code: int, reason: str) -> Attempt:
    state = JobState.FAILED if code else JobState.SUCCEEDED
    return Attempt(number=1, state=state, cause=Cause.EXIT, exit_code=code, reason=reason)


def test_submit_waits_for_replicas_where_the_url_asks_for_it(group: Group, prefix: str) -> None:
    spec = JobSpec(image="i", command=["true"])
    with Client(f"{group.url}&replicas=1", queue=prefix, prefix=prefix) as client:
        # A busy replica may not tell within the second that it has.
        first = eventually(lambda: submitted(client, spec), LONG, "a submit that the replica confirms")
        with group.replica.client() as copy:
            assert Ledger(copy, prefix).queries.get(first.id).state is JobState.QUEUED
        before = client.ledger.queries.counts()[JobState.QUEUED]
        with frozen(group.replica):
            with pytest.raises(LedgerUnavailable, match="1 replicas do not confirm"):
                client.submit(spec)
            assert not client.ledger.replicated()
        eventually(client.ledger.replicated, LONG)
        assert client.ledger.queries.counts()[JobState.QUEUED] == before + 1  # it was written, as the error says


@pytest.mark.engine
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("no_service_left")
def test_a_service_stays_until_the_replicas_have_its_outcome(
    jaas: Installation, group: Group, client: Client, witness: Witness
) -> None:
    """A fail-over may take the outcome back; then whoever adopts the job needs the service."""
    worker = jaas.worker(redis_url=f"{group.url}&replicas=1").start()
    handle = client.submit(witness.spec(witness.held()))
    until(client, handle.id, JobState.RUNNING)
    replica = group.replica
    with frozen(replica):
        witness.open()
        assert ended(client, handle.id).ok
        eventually(lambda: "left to the reconciler: its outcome is not on the replicas yet" in worker.log, LONG)
        assert jaas.swarm.find(f"jaas-{handle.id}-1") is not None
        assert group.master is not replica, "freezing a replica fails nothing over"
    eventually(lambda: jaas.swarm.find(f"jaas-{handle.id}-1") is None, 2 * LONG, "the reconciler to remove the service")
    worker.stop()


@contextmanager
def frozen(server: OwnRedis) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


def refusal(url: str) -> str:
    """Return what a ledger without Redis says."""
    with Client(url) as client, pytest.raises(LedgerUnavailable) as raised:
        client.ledger.now()
    return str(raised.value)


# -- what `jaas doctor` says; it ends the servers of this module -----------------------------------------------------


def test_doctor_says_what_keeps_a_fail_over_from_happening(group: Group, prefix: str) -> None:
    def verdicts() -> dict[str, Verdict]:
        return {check.name: check.verdict for check in sentinel_checks(group.url)}

    master, replica = group.master, group.replica
    ok, warn, fail = Verdict.OK, Verdict.WARN, Verdict.FAIL
    eventually(lambda: verdicts() == dict.fromkeys(("sentinel", "master", "replicas", "quorum"), ok), LONG)
    (stranger,) = sentinel_checks(group.url.replace(MASTER, "nobody"))
    assert (stranger.verdict, "no master 'nobody' is known" in stranger.detail) == (fail, True)
    replica.kill()
    eventually(lambda: verdicts() == {"sentinel": ok, "master": ok, "replicas": warn, "quorum": ok}, LONG)
    for sentinel in group.sentinels[:2]:
        sentinel.kill()
    eventually(lambda: verdicts() == {"sentinel": warn, "master": ok, "replicas": warn, "quorum": warn}, LONG)
    master.kill()
    eventually(lambda: verdicts() == {"sentinel": warn, "master": fail}, LONG)
    # Until the last Sentinel is sure of the death, the server itself is the one that does not answer.
    eventually(lambda: f"no Sentinel names a master '{MASTER}' that is up" in refusal(group.url), LONG)
    said = refusal(group.url)
    group.sentinels[2].kill()
    (silent,) = sentinel_checks(group.url)
    assert (silent.verdict, "0 of 3 answer" in silent.detail) == (fail, True)
    assert "sesame" not in f"{said}{silent}{stranger}{Client(group.url)!r}"

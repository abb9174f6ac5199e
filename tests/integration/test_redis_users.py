"""Each user that `jaas redis-acl` prints, at a real Redis: its program works, and what it must not do is denied."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
import redis

from benchmarks.simulator import simulator
from jaas_submit import Client, JobSpec
from jaas_submit.access.roles import Role
from jaas_submit.connection import connect
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.ledger import Ledger
from jaas_submit.messaging.permissions import role_of
from jaas_submit.output import AgentLeases
from jaas_worker.tracking.exit_notice import read_exit
from tests.component.agent.test_agent import Scene
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually, until
from tests.support.worker import Installation, WorkerProcess, clean_env

pytestmark = pytest.mark.redis

PREFIX, QUEUE = "jaas", "jobs"
JAAS = (sys.executable, "-m", "jaas_submit.cli.main")
SPEC = JobSpec(image="alpine", command=["true"])
PROGRAMS = (Role.WORKER, Role.AGENT, Role.PRODUCER, Role.VIEWER, Role.CELERY, Role.FLOWER)


def printed(folder: Path, *options: str) -> str:
    """Return what `jaas redis-acl` prints for users whose passwords are their roles' names."""
    for role in Role:
        (folder / f"{role}.password").write_text(f"{role}\n")
    files = [word for role in Role for word in ("--password-file", f"{role}={folder / role}.password")]
    command = [*JAAS, "redis-acl", "--queue", QUEUE, *files, *options]
    return subprocess.run(command, env=clean_env(), capture_output=True, text=True, check=True, timeout=60).stdout


class Users:
    """A Redis with the users, and an installation over a simulated engine with a worker.

    Args:
        folder: for all files.
        engine: DOCKER_HOST of the simulated engine.
        version: of Redis, which the rules are for.
    """

    def __init__(self, folder: Path, engine: str, version: str) -> None:
        self.server = OwnRedis(folder / "redis").start()
        with self.server.client() as client:
            for line in printed(folder, "--redis", version, "--commands").splitlines():
                client.execute_command(*line.split(" "))
        self.home = Installation(self.url(Role.WORKER), engine, PREFIX, folder, remove_delay=0, queue=QUEUE)
        self.worker: WorkerProcess = self.home.worker().start()

    def url(self, role: Role) -> str:
        return f"redis://{PREFIX}-{role}:{role}@127.0.0.1:{self.server.port}/0"

    def raw(self, role: Role) -> redis.Redis:
        return connect(self.url(role), decode_responses=True)

    def client(self, role: Role) -> Client:
        return Client(self.url(role), prefix=PREFIX, queue=QUEUE)

    def denied(self) -> list[tuple[str, str, str]]:
        """Return what was denied since the last call, but for what older servers do not know."""
        with self.server.client() as client:
            found: Any = client.acl_log()
            client.acl_log_reset()
        tried = [(entry["username"], entry["reason"], entry["object"]) for entry in found]
        return [one for one in tried if one[2] != "client|setinfo"]

    def close(self) -> None:
        self.home.close()
        self.server.kill()


@pytest.fixture(scope="module", params=["7.2", "6.2"])
def users(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    folder = tmp_path_factory.mktemp("users")
    with simulator(folder, nodes=1, start=0.02, starts=1000) as (engine, _):
        made = Users(folder, engine, request.param)
        yield made
        made.close()


@pytest.fixture(autouse=True)
def _nothing_denied_before(users: Users) -> None:
    users.denied()


def test_a_producer_submits_and_waits_and_a_worker_runs_the_jobs(users: Users) -> None:
    with users.client(Role.PRODUCER) as client:
        assert client.submit(SPEC, key="once").wait(30).ok
        batch = client.map(SPEC, [1, 2, 3])
        batch.wait(30)
        assert len(list(batch.results())) == 3
        after = client.submit(SPEC, after=[client.submit(SPEC)])
        assert after.wait(30).ok
        later = client.submit(SPEC, not_before=3600)
        later.cancel("not needed")
        assert later.wait(30, check=False).state == "CANCELLED"
        assert client.replay(later.id) != later.id
        assert client.placement(SPEC)
    assert [one for one in users.denied() if "celery-task-meta" not in one[2]] == []


def test_a_viewer_lists_and_explains(users: Users) -> None:
    with users.client(Role.PRODUCER) as client:
        handle = client.submit(SPEC)
        handle.wait(30)
        waits = client.submit(SPEC, not_before=3600)
        made = client.map(SPEC, [1])
        made.wait(30)
    env = clean_env(JAAS_REDIS_URL=users.url(Role.VIEWER), JAAS_QUEUE=QUEUE)
    users.denied()
    for words in (
        *(["list"], ["status", handle.id], ["logs", handle.id], ["explain", waits.id], ["explain", handle.id]),
        *(["batch", "status", made.id], ["wait", handle.id]),
    ):
        done = subprocess.run([*JAAS, *words], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (words, done.stderr)
    assert users.denied() == []
    for words in (["cancel", waits.id], ["rm", handle.id], ["run", "alpine", "true"]):
        done = subprocess.run([*JAAS, *words], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0, words
        assert "Traceback" not in done.stderr
    with users.client(Role.PRODUCER) as client:
        assert waits.record().state == "WAITING"


def test_an_agent_follows_and_reports(users: Users) -> None:
    users.denied()

    async def story(scene: Scene, own: Ledger) -> None:
        with own.ownership.exits() as told:
            async with scene.following("the agent"):
                lease = AgentLeases(own.client, PREFIX).get((await scene.node.info()).node_id)
                assert lease is not None
                assert lease.holder == "the agent"
                wanted = feeds.watch("followed", 1)
                scene.node.start("followed")
                scene.node.write("followed", "stdout", b"hello\n")
                await until(
                    lambda: feeds.wanted(["followed"])["followed"][0].stdout == 6, what="the feed to be written"
                )
                scene.node.exit("followed", 3)
                text = await until(lambda: told.next(0.01), what="the notice")
                found, _ = await watcher.read(wanted.feed)
                assert found["stdout"] == b"hello\n"
        event = read_exit(text)
        assert event is not None
        assert (event.job_id, event.exit_code) == ("followed", 3)

    # Another node than that of the worker, whose own agent follows it.
    worker, agent = (Ledger(connect(users.url(role)), PREFIX) for role in (Role.WORKER, Role.AGENT))
    watcher = Scene(worker)
    feeds = watcher.calls.feeds
    worker.maintenance.identity()  # an agent waits until some worker has written it

    async def main() -> None:
        async with asyncio.timeout(60):
            scene = Scene(agent)
            scene.node.name = "elsewhere"
            await story(scene, worker)

    asyncio.run(main())
    whole = watcher.calls.outputs.get("followed", 1)
    assert whole is not None
    assert (whole.status, whole.stdout) == ("complete", 6)
    assert users.denied() == []


def test_a_celery_app_sends_a_job_and_revokes_another(users: Users) -> None:
    url = users.url(Role.CELERY)
    app = celery.Celery("theirs", broker=url, backend=url, set_as_current=False)
    sent = app.send_task("jaas.run", kwargs={"spec": SPEC.to_wire()}, queue=QUEUE)
    assert sent.get(timeout=30)["state"] == "SUCCEEDED"
    later = app.send_task("jaas.run", kwargs={"spec": SPEC.to_wire()}, queue=QUEUE, countdown=3600)
    assert app.control.inspect(timeout=5).ping()
    app.control.revoke(later.id)
    with users.client(Role.PRODUCER) as client:
        eventually(lambda: client.handle(later.id).record().state == "CANCELLED", 30, "the job to be revoked")
    app.close()
    assert [one for one in users.denied() if "celery-task-meta" not in one[2]] == []


def test_flower_shows_a_job(users: Users, tmp_path: Path) -> None:
    from tests.integration.test_flower import LOGIN, Flower

    with users.client(Role.PRODUCER) as client:
        home = users.home
        before, home.redis_url = home.redis_url, users.url(Role.FLOWER)
        flower = Flower(home, tmp_path, FLOWER_BASIC_AUTH=LOGIN)
        home.redis_url = before
        try:
            eventually(flower.up, 60, flower.log.read_text)
            eventually(lambda: users.worker.name in flower.get("/api/workers?refresh=1", LOGIN)[1], 60, "the worker")
            handle = client.submit(SPEC)
            handle.wait(30)
            eventually(lambda: flower.get(f"/api/task/info/{handle.id}", LOGIN)[0] == 200, 60, flower.log.read_text)
            assert flower.get(f"/task/{handle.id}", LOGIN)[0] == 200
            assert QUEUE in flower.get("/api/queues/length", LOGIN)[1]
        finally:
            flower.stop()
    assert [one for one in users.denied() if one[0] == "jaas-flower"] == []


COMMANDS: dict[Role, tuple[tuple[object, ...], ...]] = {
    Role.WORKER: (
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("ACL", "LIST"),
        ("GET", "other:secret"),
        ("HGETALL", "jaas2:job:1"),
        ("SET", "theirs", 1),
        ("PUBLISH", "other:0:cancels", "x"),
        ("PUBLISH", "jaas:1:cancels", "x"),
    ),
    Role.AGENT: (
        ("HGETALL", "jaas:job:1"),
        ("HMGET", "jaas:job:1", "spec"),
        ("HSET", "jaas:job:1", "state", "SUCCEEDED"),
        ("GET", "jaas:log:1:1"),
        ("ZRANGE", "jaas:jobs", 0, -1),
        ("GET", "jaas:secret"),
        ("LPUSH", QUEUE, "x"),
        ("LRANGE", QUEUE, 0, -1),
        ("SADD", "jaas:stop:1", "x"),
        ("SET", "jaas:info:1", "{}"),
        ("ZADD", "jaas:holders", 1, "x"),
        ("GET", "celery-task-meta-1"),
        ("SET", "celery-task-meta-1", "x"),
        ("PUBLISH", "jaas:0:cancels", "x"),
        ("PUBLISH", "jaas:0:changes:1", "x"),
        ("SUBSCRIBE", "jaas:0:changes:1"),
        ("PSUBSCRIBE", "*"),
        ("SCAN", 0),
        ("EVAL", "return redis.call('HGETALL', 'jaas:job:1')", 0),
    ),
    Role.PRODUCER: (
        ("SET", "jaas:info:1", "{}"),
        ("ZADD", "jaas:holders", 1, "x"),
        ("SET", "jaas:lock:orphans", "x"),
        ("SET", "jaas:identity", "x"),
        ("SET", "jaas:cluster", "x"),
        ("HSET", "jaas:agent:1", "holder", "x"),
        ("HSET", "jaas:unacked", "1", "x"),
        ("SET", "celery-task-meta-1", "x"),
        ("GET", "celery-task-meta-1"),
        ("HGETALL", "other:job:1"),
        ("PUBLISH", "jaas:0:exits", "x"),
        ("SUBSCRIBE", "jaas:0:exits"),
        ("PUBLISH", "/0.celery.pidbox", "x"),
        ("SCAN", 0),
        ("FLUSHDB",),
        ("EVAL", "return redis.call('SET', 'jaas:info:1', 'x')", 0),
    ),
    Role.VIEWER: (
        ("HSET", "jaas:job:1", "state", "SUCCEEDED"),
        ("UNLINK", "jaas:job:1"),
        ("LPUSH", QUEUE, "x"),
        ("GET", "jaas:secret"),
        ("PUBLISH", "jaas:0:cancels", "x"),
        ("EVAL", "return 1", 0),
        ("HGETALL", "other:job:1"),
        ("SCAN", 0),
    ),
    Role.CELERY: (
        ("HGETALL", "jaas:job:1"),
        ("GET", "jaas:secret"),
        ("SET", "jaas:lock:x", 1),
        ("EVAL", "return redis.call('HGETALL', 'jaas:job:1')", 0),
        ("SCAN", 0),
    ),
    Role.FLOWER: (
        ("HGETALL", "jaas:job:1"),
        ("LPUSH", QUEUE, "x"),
        ("SET", "celery-task-meta-1", "x"),
        ("GET", "jaas:secret"),
        ("EVAL", "return redis.call('HGETALL', 'jaas:job:1')", 0),
        ("SCAN", 0),
    ),
    Role.HEALTH: (("GET", "jaas:jobs"), ("INFO",), ("SUBSCRIBE", "jaas:0:cancels")),
}
"""What each must not do. Before Redis 7 whoever may read a key may write it: those are left out there."""

ONLY_READ = {"cluster", "identity", "info:1", "holders", "agent:1", "job:1", QUEUE, "celery-task-meta-1"}


@pytest.mark.parametrize(
    ("role", "command"), [(role, command) for role, commands in COMMANDS.items() for command in commands]
)
def test_what_must_be_denied_is_denied(users: Users, role: Role, command: tuple[object, ...]) -> None:
    read_only = len(command) > 1 and str(command[1]).removeprefix("jaas:") in ONLY_READ
    if (
        "%R~" not in rules(users, role)
        and (read_only or "info:1" in str(command))
        and role
        in {
            *(Role.VIEWER, Role.PRODUCER, Role.FLOWER),
        }
    ):
        return  # Redis 6.2 has one kind of rule for reading and writing
    with users.raw(role) as client, pytest.raises(redis.ResponseError) as refused:
        client.execute_command(*command)
    assert "permission" in str(refused.value) or "can't access" in str(refused.value), refused.value


def rules(users: Users, role: Role) -> str:
    with users.server.client() as client:
        return json.dumps(client.acl_getuser(f"{PREFIX}-{role}"))


@pytest.mark.parametrize("role", PROGRAMS)
def test_the_doctor_works_as_each_user_and_names_its_role(users: Users, role: Role) -> None:
    with users.raw(role) as client:
        assert role_of(client, PREFIX, [QUEUE]) is role
    env = clean_env(JAAS_REDIS_URL=users.url(role), JAAS_QUEUE=QUEUE)
    command = [*JAAS, "doctor", "--no-engine", "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    told = json.loads(done.stdout)
    assert told["ok"], told
    (permissions,) = [one for one in told["checks"] if one["name"] == "permissions"] or [{"detail": "a worker does"}]
    assert f" {role} does" in permissions["detail"]


def test_nobody_changes_his_own_rules(users: Users) -> None:
    for role in PROGRAMS:
        with users.raw(role) as client, contextlib.suppress(redis.exceptions.NoPermissionError):
            client.execute_command("ACL", "SETUSER", f"{PREFIX}-{role}", "allkeys")
            pytest.fail(f"{role} may change rules")


def test_the_file_is_one_that_redis_loads(own_redis: Callable[..., OwnRedis], tmp_path: Path) -> None:
    file = tmp_path / "users.acl"
    file.write_text("user default on nopass ~* &* +@all\n")
    server = own_redis(aclfile=str(file))
    file.write_text(printed(tmp_path, "--sentinel"))
    with server.client() as client:
        client.acl_load()
    with pytest.raises(redis.AuthenticationError), redis.Redis(port=server.port) as nobody:
        nobody.ping()
    with redis.Redis(port=server.port, username="jaas-health", password="any") as health:
        assert health.ping()
    with redis.Redis(port=server.port, username="jaas-admin", password="admin", decode_responses=True) as admin:
        names = admin.acl_users()
    assert set(names) == {"default", *(f"jaas-{role}" for role in Role if role is not Role.FINDER)}


def test_without_permission_the_ledger_says_which_command_helps(users: Users) -> None:
    ledger = Ledger(connect(users.url(Role.AGENT)), PREFIX)
    with pytest.raises(LedgerUnavailable, match="`jaas doctor` names the rule"):
        ledger.queries.get("some-job")
    assert os.environ.get("JAAS_PREFIX") is None

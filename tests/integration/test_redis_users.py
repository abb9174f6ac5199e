"""Each user that `jaas redis-acl` prints, at a real Redis: its program works, and what it must not do is denied."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import celery
import click.testing
import pytest
import redis

from benchmarks.simulator import simulator
from jaas_submit import Client, JobSpec
from jaas_submit.access.roles import Role
from jaas_submit.cli.main import cli
from jaas_submit.connection import Subscription, connect
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.ledger import Ledger
from jaas_submit.messaging.permissions import role_of
from jaas_submit.output import AgentLeases, Ends
from jaas_worker.agent.agent import NodeAgent
from jaas_worker.swarm.engine import ContainerRef
from jaas_worker.tracking.exit_notice import read_exit
from tests.component.agent.test_agent import Scene
from tests.support.flower_process import Flower
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually, until
from tests.support.worker import Installation, WorkerProcess

pytestmark = pytest.mark.redis

PREFIX, QUEUE = "jaas", "jobs"
SPEC = JobSpec(image="alpine", command=["true"])
PROGRAMS = (Role.WORKER, Role.AGENT, Role.PRODUCER, Role.VIEWER, Role.CELERY, Role.FLOWER)


def printed(folder: Path, *options: str) -> str:
    """Return what `jaas redis-acl` prints for users whose passwords are their roles' names."""
    for role in Role:
        (folder / f"{role}.password").write_text(f"{role}\n")
    files = [word for role in Role for word in ("--password-file", f"{role}={folder / role}.password")]
    done = jaas({}, "redis-acl", "--queue", QUEUE, *files, *options)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def jaas(settings: Mapping[str, str], *words: str) -> click.testing.Result:
    """Run a command in this process, with no settings but these."""
    env = {**{name: None for name in os.environ if name.startswith(("JAAS_", "DOCKER_"))}, **settings}
    return click.testing.CliRunner().invoke(cli, words, env=env, prog_name="jaas", catch_exceptions=False)


class Users:
    """A Redis with the users, and an installation over a simulated engine with a worker.

    Args:
        folder: for all files.
        engine: DOCKER_HOST of the simulated engine.
        version: of Redis, which the rules are for; ``its own`` is that of the server.
    """

    def __init__(self, folder: Path, engine: str, version: str) -> None:
        self.server = OwnRedis(folder / "redis").start()
        with self.server.client() as client:
            if version == "its own":
                version = str(client.info("server")["redis_version"])
            for line in printed(folder, "--redis", version, "--commands").splitlines():
                client.execute_command(*line.split(" "))
        self.store = f"file://{folder / 'store'}"
        settings = {"remove_delay": 0, "queue": QUEUE, "store_url": self.store}
        self.home = Installation(self.url(Role.WORKER), engine, PREFIX, folder, **settings)
        self.worker: WorkerProcess = self.home.worker().start()

    def url(self, role: Role) -> str:
        return f"redis://{PREFIX}-{role}:{role}@127.0.0.1:{self.server.port}/0"

    def raw(self, role: Role) -> redis.Redis:
        return connect(self.url(role), decode_responses=True)

    def client(self, role: Role) -> Client:
        return Client(self.url(role), prefix=PREFIX, queue=QUEUE, store=self.store)

    def jaas(self, role: Role, *words: str) -> click.testing.Result:
        return jaas({"JAAS_REDIS_URL": self.url(role), "JAAS_QUEUE": QUEUE}, *words)

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


@pytest.fixture(scope="module", params=["its own", "6.2"])
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    folder = tmp_path_factory.mktemp("users")
    with simulator(folder, nodes=2, start=0.02, starts=1000) as (engine, _):
        made = Users(folder, engine, request.param)
        yield made
        made.close()


@pytest.fixture
def users(servers: Users) -> Users:
    """The users, of whom none has been denied anything yet."""
    servers.denied()
    return servers


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
        users.denied()
        for words in (
            *(["list"], ["status", handle.id], ["logs", handle.id], ["explain", waits.id], ["explain", handle.id]),
            *(["batch", "status", made.id], ["wait", handle.id], ["audit"], ["audit", waits.id], ["audit", made.id]),
            *(["usage", handle.id], ["usage", "--by", "image"], ["usage", "--by", "batch"]),
        ):
            done = users.jaas(Role.VIEWER, *words)
            assert done.exit_code == 0, (words, done.stderr)
        assert " submit " in users.jaas(Role.VIEWER, "audit", waits.id).stdout
        assert SPEC.image in users.jaas(Role.VIEWER, "usage", "--by", "image").stdout
        assert users.denied() == []
        for words in (["cancel", waits.id], ["rm", handle.id], ["run", "alpine", "true"]):
            assert users.jaas(Role.VIEWER, *words).exit_code not in {0, 1}, words
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


def test_an_agent_that_finds_no_id_of_the_ledger_waits_for_a_worker(users: Users) -> None:
    with users.raw(Role.AGENT) as agent, users.server.client() as client:
        before = client.getdel("jaas:identity")
        assert before
        try:
            if "%R~" in rules(users, Role.AGENT):
                with pytest.raises(LedgerUnavailable, match="no worker with this prefix has started yet"):
                    Ends(agent, PREFIX).identity()
            else:  # Redis 6.2 has one kind of rule for reading and writing
                assert Ends(agent, PREFIX).identity()
        finally:
            client.set("jaas:identity", before)
        assert Ends(agent, PREFIX).identity() == before


def test_a_producer_fetches_files_that_an_agent_sends(users: Users, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("out/report")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    # The second node has no worker: what its agent says comes through Redis.
    spec = JobSpec(image="alpine", command=["sleep", "1"], outputs=["/out"], constraints=["node.hostname==node2"])

    async def hear(agent: NodeAgent, heard: Subscription) -> None:
        while True:
            if notice := await asyncio.to_thread(heard.next, 0.05):
                agent.watched(notice)

    async def story(client: Client, scene: Scene, heard: Subscription) -> None:
        async with scene.following("agent of node2") as agent, asyncio.TaskGroup() as group:
            listening = group.create_task(hear(agent, heard))
            handle = await asyncio.to_thread(client.submit, spec)
            record = await until(lambda: one if (one := handle.record()).state == "RUNNING" else None, 30)
            (service,) = (one.id for one in users.home.swarm.services("jaas.job=" + handle.id))
            (task,) = users.home.swarm.tasks_of(service)
            assert task.container_id is not None
            scene.node.run(ContainerRef(task.container_id, handle.id, record.attempt, service, task.id))
            scene.node.keep(handle.id, "/out", [archive.getvalue()])
            scene.node.write(handle.id, "stdout", b"written\n")
            scene.node.exit(handle.id)
            result = await asyncio.to_thread(handle.wait, 30)
            assert (result.stdout, result.outputs and result.outputs.status) == ("written\n", "complete")
            (path,) = await asyncio.to_thread(handle.download, tmp_path)
            assert path.read_bytes() == data
            listening.cancel()

    async def main() -> None:
        with connect(users.url(Role.AGENT)) as own, users.client(Role.PRODUCER) as client:
            scene = Scene(Ledger(own, PREFIX))
            scene.node.name = "node2"
            calls = scene.calls
            with Subscription(own, calls.feeds.watch_channel, calls.transfers.request_channel) as heard:
                async with asyncio.timeout(90):
                    await story(client, scene, heard)

    asyncio.run(main())
    assert users.denied() == []


def test_a_celery_app_sends_a_job_and_revokes_another(users: Users) -> None:
    url = users.url(Role.CELERY)
    app = celery.Celery("theirs", broker=url, backend=url, set_as_current=False)
    sent = app.send_task("jaas.run", kwargs={"spec": SPEC.to_wire()}, queue=QUEUE)
    assert sent.get(timeout=30)["state"] == "SUCCEEDED"
    later = app.send_task("jaas.run", kwargs={"spec": SPEC.to_wire()}, queue=QUEUE, countdown=3600)
    assert app.control.inspect(timeout=20, limit=1).ping()
    app.control.revoke(later.id)
    with users.client(Role.PRODUCER) as client:
        eventually(lambda: client.handle(later.id).record().state == "CANCELLED", 30, "the job to be revoked")
    app.close()
    assert [one for one in users.denied() if "celery-task-meta" not in one[2]] == []


def test_flower_shows_a_job(users: Users, tmp_path: Path) -> None:
    login = "operator:open-sesame"
    with users.client(Role.PRODUCER) as client:
        flower = Flower(users.url(Role.FLOWER), tmp_path, FLOWER_BASIC_AUTH=login)
        try:
            eventually(flower.up, 60, flower.log.read_text)
            eventually(lambda: users.worker.name in flower.get("/api/workers?refresh=1", login)[1], 60, "the worker")
            handle = client.submit(SPEC)
            handle.wait(30)
            eventually(lambda: flower.get(f"/api/task/info/{handle.id}", login)[0] == 200, 60, flower.log.read_text)
            assert flower.get(f"/task/{handle.id}", login)[0] == 200
            assert QUEUE in flower.get("/api/queues/length", login)[1]
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
    said = str(refused.value)
    assert any(one in said for one in ("permission", "can't access", "can't run")), said


def rules(users: Users, role: Role) -> str:
    with users.server.client() as client:
        return json.dumps(client.acl_getuser(f"{PREFIX}-{role}"))


@pytest.mark.parametrize("role", PROGRAMS)
def test_the_doctor_works_as_each_user_and_names_its_role(users: Users, role: Role) -> None:
    with users.raw(role) as client:
        assert role_of(client, PREFIX, [QUEUE]) is role
    told = json.loads(users.jaas(role, "doctor", "--no-engine", "--json").stdout)
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
    file.write_text(printed(tmp_path, "--sentinel", "--redis", "7.0"))
    with server.client() as client:
        client.acl_load()
    with pytest.raises(redis.AuthenticationError), redis.Redis(port=server.port) as nobody:
        nobody.ping()
    with redis.Redis(port=server.port, username="jaas-health", password="any") as health:
        assert health.ping()
    with redis.Redis(port=server.port, username="jaas-admin", password="admin", decode_responses=True) as admin:
        names = admin.acl_users()
    assert set(names) == {"default", *(f"jaas-{role}" for role in Role if role is not Role.FINDER)}


def test_a_restart_loses_nothing_that_a_script_has_written(tmp_path: Path) -> None:
    file = tmp_path / "users.acl"
    file.write_text(printed(tmp_path, "--redis", "7.0"))
    server = OwnRedis(tmp_path / "redis", aclfile=str(file))
    server.login = ("jaas-health", "any")
    server.start()
    url = f"redis://jaas-producer:producer@127.0.0.1:{server.port}/0"
    try:
        with Client(url, queue=QUEUE) as client:
            ids = [client.submit(SPEC).id for _ in range(3)]
        server.stop()
        server.start()
        with Client(url, queue=QUEUE) as client:
            assert {client.handle(one).record().state for one in ids} == {"QUEUED"}
    finally:
        server.kill()


def test_the_lines_may_be_included_in_a_configuration(own_redis: Callable[..., OwnRedis], tmp_path: Path) -> None:
    file = tmp_path / "users.conf"
    default, *users = printed(tmp_path, "--redis", "7.0").splitlines()
    assert default.startswith("user default off")
    file.write_text("\n".join(users))
    server = own_redis(include=str(file))
    with redis.Redis(port=server.port, username="jaas-viewer", password="viewer") as viewer:
        assert viewer.zcard("jaas:jobs") == 0
        with pytest.raises(redis.exceptions.NoPermissionError):
            viewer.set("jaas:jobs", "x")


def test_without_permission_the_ledger_says_which_command_helps(users: Users) -> None:
    ledger = Ledger(connect(users.url(Role.AGENT)), PREFIX)
    with pytest.raises(LedgerUnavailable, match="`jaas doctor` names the rule"):
        ledger.queries.get("some-job")

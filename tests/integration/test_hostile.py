"""Hostile descriptions, messages, tokens and records: nothing forbidden starts, and each gets its reason.

One worker with the policy that holds without a setting, on the engine in memory: what reaches it is compared with
what a job may have (tests/support/forbidden.py). Then the same worker with signatures required.
"""

from __future__ import annotations

import base64
import itertools
import json
import pickle
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jaas_submit import Cause, Client, JobSpec, JobState
from jaas_submit.errors import SpecError
from jaas_submit.policy.facts import NetworkFacts
from jaas_submit.signing import Signer, SigningKey
from tests.integration.test_worker_bad_messages import changed, message
from tests.support.engine_http import serving
from tests.support.fake_swarm import FakeSwarm
from tests.support.forbidden import forbidden
from tests.support.programs import TRUE, WAIT
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually
from tests.support.worker import Installation, WorkerProcess, exceptions_in
from tests.unit.cli.test_output import in_terminal

pytestmark = [pytest.mark.redis, pytest.mark.timeout(400)]

PREFIX = "hostile"
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp"
GOOD = {"image": "jaas-test", "command": TRUE.command}
SECRET = "a secret of the team, for tests only"
PRIVATE = Ed25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

# -- the table ---------------------------------------------------------------------------------------------------------

PATHS = [
    "/",
    "/etc",
    "/etc/shadow",
    "/proc",
    "/sys",
    "/dev",
    "/dev/sda",
    "/home/user/.ssh",
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd",
    "/var/lib/docker",
    "/var/lib/docker/volumes/jobs-a",
    "/jobs-a",
    "/tmp/link-to-root",
    "//etc",
    "/./etc",
    "/jobs-a/../etc",
    "/tmp/jobs-../../etc",
    "/{{.Node.Hostname}}",
    "/{{`etc`}}",
    "/\u2215etc",
    "/etc\u200b",
    "/etc/\u2025/x",
    "/etc\x1b[2J",
    "/etc\n",
    "/\x00",
]
VOLUMES = [
    "data",
    "Jobs-a",
    "JOBS-a",
    "jobs_a",
    "job-a",
    "jobs",
    "xjobs-a",
    "\uff4aobs-a",
    "j\u043ebs-a",
    "jobs\u2010a",
    "jobs\u2212a",
    "\u202ejobs-a",
    "{{.Service.Name}}",
    "{{`jobs-`}}a",
    "-jobs-a",
    "..",
    "~",
    "jobs-../x",
    "jobs-/../../etc",
]
NETWORKS = [
    "host",
    "none",
    "bridge",
    "ingress",
    "docker_gwbridge",
    "control",
    "jaas_control",
    "closed",
    "lan",
    "Shared",
    "sha_red",
    "container:abc",
    "../host",
    "\u0455hared",
    "{{.Node.ID}}",
]
SECRETS = [
    "theirs",
    "app_db_password",
    "jaas_redis_worker",
    "almost",
    "other.prefix_key",
    "Open",
    "ope",
    "open2",
    "../open",
    "\u043epen",
]
DRIVERS = [
    "syslog",
    "fluentd",
    "gelf",
    "splunk",
    "awslogs",
    "gcplogs",
    "etwlogs",
    "logentries",
    "grafana/loki-docker-driver:main",
]
TENANTS: tuple[dict[str, Any], ...] = ({}, {"labels": {"jaas.tenant": "admin", "jaas.jobs": "allow", "jaas.job": "x"}})


def _mounts(**fields: Any) -> dict[str, Any]:
    return {"mounts": [{"target": "/x", **fields}]}


FORBIDDEN: list[tuple[dict[str, Any], str]] = [
    *((_mounts(source=path, read_only=both), "mounts") for path in PATHS for both in (False, True)),
    *((_mounts(type="volume", source=name), "mounts") for name in VOLUMES),
    *(({"networks": ["shared", name]}, "network") for name in NETWORKS),
    *(({"secrets": [name]}, "secret") for name in SECRETS),
    *(
        ({"env_secrets": {"T": name}}, "env_secrets.T")
        for name in ("token", "../token", "/etc/shadow", "jaas_redis_url", "")
    ),
    ({"secrets": [{"source": "theirs", "target": "open"}, "open"]}, "secrets"),
    ({"secrets": [{"source": "theirs", "target": "opened"}, "open"]}, "secrets.0"),
    *(({"log_driver": name}, "log_driver") for name in DRIVERS),
    ({"log_driver": "syslog", "log_options": {"syslog-address": "unix:///var/run/docker.sock"}}, "log_driver"),
    (_mounts(type="tmpfs", source="/etc"), "mounts"),
    (_mounts(type="npipe", source="x"), "mounts"),
    (_mounts(type="BIND", source="/etc"), "mounts"),
    (_mounts(type="volume", source="jobs-a", volume_options={"type": "none", "o": "bind", "device": "/"}), "mounts"),
    (_mounts(type="volume", source="jobs-a", driver_config={"name": "local"}), "mounts"),
    (_mounts(source="/etc", bind_options={"propagation": "rshared"}), "mounts"),
    ({"mounts": ["/:/host"]}, "mounts"),
    ({"mounts": {"source": "/", "target": "/x"}}, "mounts"),
    *(({name: True}, name) for name in ("privileged", "Privileged", "host_network", "TaskTemplate", "__class__")),
    *(({name: ["ALL"]}, name) for name in ("cap_add", "CapabilityAdd", "devices", "security_opt")),
    ({"configs": ["ALL"]}, "config ALL does not exist"),
]
"""Fields beside a good description, and a word of the reason."""

WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    1e300,
    "",
    ESCAPES,
    "x" * 5000,
    [ESCAPES],
    [[]],
    {},
    {ESCAPES: ESCAPES},
    {"a": {"b": [1]}},
)


def _refused_fields() -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each field of a description with each value of a wrong type that it does not take."""
    for name, value in itertools.product(sorted(JobSpec.model_fields), WRONG):
        fields = {**GOOD, name: value}
        try:
            JobSpec.parse(fields)
        except SpecError:
            yield {name: value}, name


class Case(NamedTuple):
    """Something that is put on the queue."""

    title: str
    entry: bytes
    task_id: str
    reason: str


def _case(title: str, spec: Any, reason: str) -> Case:
    made = message([[], {"spec": spec}, {}])
    return Case(title, json.dumps(made).encode(), made["headers"]["id"], reason)


class _Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, (f"open('/tmp/{PREFIX}-owned', 'w')",))


YAML = b"!!python/object/apply:os.system ['touch /tmp/hostile-owned']"
BIND = '"mounts": [{"source": "/", "target": "/x"}]'


def _raw() -> Iterator[Case]:
    """Yield messages whose body or envelope is hostile."""
    pickled = pickle.dumps(_Exploit())
    bodies: dict[str, tuple[bytes, str]] = {
        "keys twice": (b'[[],{"spec":{"image":"a","mounts":[],%s}},{}]' % BIND.encode(), "mounts"),
        "spec twice": (b'[[],{"spec":{"image":"a"},"spec":{"image":"a",%s}},{}]' % BIND.encode(), "mounts"),
        "NaN": (b'[[],{"spec":{"image":"a","input":NaN}},{}]', "input"),
        "Infinity": (b'[[],{"spec":{"image":"a","run_timeout":Infinity}},{}]', "run_timeout"),
        "-Infinity": (b'[[],{"spec":{"image":"a","limits":{"cpus":-Infinity}}},{}]', "cpus"),
        "1e999": (b'[[],{"spec":{"image":"a","limits":{"memory":1e999}}},{}]', "memory"),
        "a huge number": (b'[[],{"spec":{"image":"a","input":' + b"9" * 5000 + b"}},{}]", ""),
        "deep": (b'[[],{"spec":{"image":"a","input":' + b"[" * 70 + b"]" * 70 + b"}},{}]", ""),
        "deeper": (b'[[],{"spec":' + b'{"a":' * 50_000, ""),
        "wide": (b'[[],{"spec":{"image":"a","input":[' + b"0," * 300_000 + b"0]}},{}]", ""),
        "large": (b'[[],{"spec":{"image":"a","env":{"A":"' + b"x" * 1_000_000 + b'"}}},{}]', "env"),
        "a type of kombu's": (b'[[],{"spec":{"image":{"__type__":"os.system","__value__":"id"}}},{}]', ""),
        "pickle": (pickled, ""),
        "YAML": (YAML, ""),
        "escapes": (json.dumps([[], {"spec": {**GOOD, ESCAPES: 1}}, {}]).encode(), "no field"),
    }
    for title, (body, reason) in bodies.items():
        made = message(body)
        yield Case(title, json.dumps(made).encode(), made["headers"]["id"], reason)
    kinds = "application/x-python-serialize application/x-yaml application/x-msgpack application/data text/x\x1b[2J"
    for kind, body in itertools.product(
        kinds.split(" "), (pickled, YAML, json.dumps([[], {"spec": GOOD}, {}]).encode())
    ):
        made = {**message(body), "content-type": kind}
        yield Case(f"{body[:9]!r} as {kind}", json.dumps(made).encode(), made["headers"]["id"], "")
    for path, value in (
        ("headers.task", "os.system"),
        ("headers.task", f"jaas.run{ESCAPES}"),
        ("headers.compression", "application/x-gzip"),
        ("content-encoding", "rot13"),
        ("body", "%%%"),
    ):
        made = changed(path, value)
        yield Case(f"{path} {value}", json.dumps(made).encode(), made["headers"]["id"], "")


# -- tokens ------------------------------------------------------------------------------------------------------------


def _b64(data: Any) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _token(job_id: str, spec: Any, key: Any = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    now = int(time.time())
    head = {"typ": "jaas-description", "iss": "ops", "aud": PREFIX, "jti": job_id, "iat": now, "exp": now + 900}
    whole = {**head, "kid": "hs", **header}
    text = spec if isinstance(spec, bytes) else json.dumps(spec).encode()
    return jwt.PyJWS().encode(text, key, algorithm, headers={name: v for name, v in whole.items() if v is not ...})


MORE_HEADERS: tuple[tuple[str, Any], ...] = (("jwk", {}), ("jku", "http://x"), ("x5c", []))


def _forged(job_id: str) -> dict[str, tuple[str, str]]:
    """Return tokens that must not pass for this job, each with a word of the reason."""
    good = _token(job_id, GOOD)
    head, payload, signature = good.split(".")
    read = json.loads(base64.urlsafe_b64decode(head + "=="))
    evil = _b64({**GOOD, "image": "evil"})
    now = int(time.time())

    def headed(**more: Any) -> str:
        return f"{_b64({**read, **more})}.{payload}.{signature}"

    kids = (
        "",
        "no",
        "../../dev/null",
        "/dev/null",
        "hs\x00",
        "HS",
        "hs ",
        "' OR 1=1 --",
        ESCAPES,
        "k" * 300,
        ["hs"],
        1,
        None,
    )
    return {
        "alg none": ("algorithm", f"{_b64({**read, 'alg': 'none'})}.{payload}."),
        **{f"alg {name}": ("algorithm", headed(alg=name)) for name in ("None", "hs256", "HS512", "EdDSA", "RS256")},
        "the public key as a secret": ("algorithm", f"{_b64({**read, 'kid': 'ed'})}.{payload}.{signature}"),
        **{f"kid {kid!r}"[:30]: ("signature", _token(job_id, GOOD, kid=kid)) for kid in kids if isinstance(kid, str)},
        **{f"kid {kid!r}": ("format", headed(kid=kid)) for kid in kids if not isinstance(kid, str)},
        **{f"header {n}": ("format", _token(job_id, GOOD, **{n: v})) for n, v in MORE_HEADERS},
        "crit": ("format", headed(crit=["b64"], b64=False)),
        "another audience": ("audience", _token(job_id, GOOD, aud="other")),
        "several audiences": ("format", _token(job_id, GOOD, aud=[PREFIX, "other"])),
        "another producer": ("producer", _token(job_id, GOOD, iss="team")),
        "expired": ("expired", _token(job_id, GOOD, exp=now - 1)),
        "never expires": ("format", _token(job_id, GOOD, exp=...)),
        "from the future": ("early", _token(job_id, GOOD, iat=now + 3600, exp=now + 7200)),
        "of another job": ("job", _token(str(uuid.uuid4()), GOOD)),
        "of no job": ("format", _token(job_id, GOOD, jti=...)),
        "another typ": ("format", _token(job_id, GOOD, typ="JWT")),
        "another key": ("invalid", _token(job_id, GOOD, key="nobody knows this secret of mine!")),
        "edited payload": ("invalid", f"{head}.{evil}.{signature}"),
        "no signature": ("invalid", f"{head}.{payload}."),
        "four parts": ("", f"{good}.x"),
        "padded": ("format", f"{head}=.{payload}.{signature}"),
        "JSON within": ("", json.dumps({"payload": payload, "protected": head, "signature": signature})),
        "a name twice": ("twice", _token(job_id, b'{"image":"a","image":"evil"}')),
        "a bind, well signed": ("mounts.binds", _token(job_id, {**GOOD, **_mounts(source="/")})),
        "their secret, well signed": ("secrets", _token(job_id, {**GOOD, "secrets": ["theirs"]})),
        "the host's network, well signed": ("networks", _token(job_id, {**GOOD, "networks": ["host"]})),
        "no description": ("JSON object", _token(job_id, ["image"])),
    }


# -- the scene ---------------------------------------------------------------------------------------------------------


class _Swarm(FakeSwarm):
    """An engine with networks, secrets and volumes of others."""

    def __init__(self) -> None:
        super().__init__(auto_start=False)
        self.facts = {"shared": NetworkFacts("id-shared", "shared", "overlay", "swarm", True, {})}
        for name, driver, scope, attachable, labels in (
            ("host", "host", "local", False, {}),
            ("none", "null", "local", False, {}),
            ("bridge", "bridge", "local", False, {}),
            ("docker_gwbridge", "bridge", "local", False, {}),
            ("ingress", "overlay", "swarm", False, {}),
            ("control", "overlay", "swarm", True, {"jaas.control": ""}),
            ("jaas_control", "overlay", "swarm", True, {"jaas.control": "other"}),
            ("closed", "overlay", "swarm", False, {"jaas.jobs": "allow"}),
            ("lan", "macvlan", "swarm", True, {}),
        ):
            self.facts[name] = NetworkFacts(f"id-{name}", name, driver, scope, attachable, labels)
        self.networks = {one.id for one in self.facts.values()}
        names = ("theirs", "app_db_password", "jaas_redis_worker", "almost", "other.prefix_key", "open")
        self.secrets = {name: f"id-of-{name}" for name in names}
        self.labels_of = {"open": {"jaas.jobs": "allow"}, "almost": {"jaas.jobs": "Allow"}}

    def network(self, name: str) -> NetworkFacts | None:
        with self._call("network"):
            return self.facts.get(name)


@dataclass
class Scene:
    """A worker, its engine, and the client of an attacker who may write anything to Redis."""

    home: Installation
    engine: _Swarm
    client: Client
    keys: Path
    workers: list[WorkerProcess] = field(default_factory=list)

    def worker(self, **settings: object) -> WorkerProcess:
        """Start the worker, in place of the one before it."""
        for one in self.workers:
            one.stop()
        made = self.home.worker("", (), verify_keys=self.keys, **settings).start()
        self.workers.append(made)
        return made

    def put(self, cases: list[Case]) -> None:
        for one in cases:
            self.client.ledger.client.lpush(self.client.queue, one.entry.replace(b"QUEUE", PREFIX.encode()))

    def record(self, text: str, job_id: str = "", index: str = "ready", **more: str) -> str:
        """Write the record of a job that a worker has to take up; return its id."""
        job_id = job_id or str(uuid.uuid4())
        redis, ledger = self.client.ledger.client, self.client.ledger
        fields: dict[Any, Any] = {"state": "QUEUED", "spec": text, "queue": PREFIX, "task_id": job_id}
        fields |= {"attempt": "0", "attempts": "[]"}
        times: dict[Any, Any] = {"created_at": str(time.time()), "updated_at": str(time.time())}
        redis.hset(f"{PREFIX}:job:{job_id}", mapping=fields | times | more)
        redis.zadd(f"{PREFIX}:{index}", {job_id: 0})
        redis.publish(ledger.channel("available"), job_id)
        return job_id

    def check(self, wanted: Mapping[str, tuple[str, str]], seconds: float = 120.0) -> None:
        """Wait for the ends of jobs; each has failed with its reason.

        Args:
            wanted: job id -> title and a word of the reason.
            seconds: how long to wait.
        """

        def open_jobs() -> list[str]:
            assert self.workers[-1].alive, f"the worker has ended:\n{self.workers[-1].log[-3000:]}"
            ended = {one.id for one in self.client.ledger.queries.find(list(wanted)) if one.terminal}
            return [title for job_id, (title, _) in wanted.items() if job_id not in ended]

        eventually(lambda: not open_jobs(), seconds, lambda: f"the ends of {open_jobs()[:10]}")
        wrong = []
        for record in self.client.ledger.queries.find(list(wanted)):
            title, word = wanted[record.id]
            reason = record.last.reason if record.last else ""
            refused = record.last is not None and record.last.cause in {Cause.REFUSED, Cause.LAUNCH}
            bad = record.state is not JobState.FAILED or not refused or word not in reason or not reason
            if bad or not reason.isprintable() or len(reason) > 700 or (record.last and record.last.service):
                wrong.append((title, str(record.state), reason))
        assert not wrong, f"{len(wrong)} of {len(wanted)}: {wrong[:8]}"
        self.nothing_forbidden()

    def nothing_forbidden(self) -> None:
        own = {made[0] for made in self.engine.config_files.values()}
        found = [bad for one in self.engine.requests for bad in forbidden(one, {"id-shared"}, {"id-of-open"}, own)]
        assert not found
        assert "evil" not in json.dumps(self.engine.requests)

    def works(self, token: bool = False) -> None:
        """A good job runs."""
        job_id = str(uuid.uuid4())
        spec: Any = _token(job_id, GOOD) if token else {**GOOD, "networks": ["shared"], "secrets": ["open"]}
        made = message([[], {"spec": spec}, {}], task_id=job_id)
        self.put([Case("good", json.dumps(made).encode(), job_id, "")])
        self.runs(job_id)

    def state(self, job_id: str) -> str:
        """Return a job's state; empty for one that is not known."""
        return "".join(one.state for one in self.client.ledger.queries.find([job_id]))

    def starts(self, job_id: str) -> None:
        """Wait until a job has its service, and start the container."""
        eventually(lambda: self.state(job_id) == JobState.PENDING, 60, lambda: f"a service; it is {self.state(job_id)}")
        self.engine.start(job_id)

    def runs(self, job_id: str) -> None:
        """Wait for a job's service, run its container, and wait for its good end."""
        self.starts(job_id)  # and it ends at once
        ends = {JobState.SUCCEEDED, JobState.FAILED}
        eventually(lambda: self.state(job_id) in ends, 60, lambda: f"its end; it is {self.state(job_id)}")
        assert self.state(job_id) == JobState.SUCCEEDED


@pytest.fixture(scope="module")
def scene(module_redis: OwnRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("hostile")
    keys = folder / "keys.toml"
    keys.write_text(
        f"[hs]\nalgorithm = 'HS256'\nproducer = 'ops'\ntenant = 'blue'\nkey = '{SECRET}'\n"
        f"[ed]\nalgorithm = 'EdDSA'\nproducer = 'team'\nkey = '''{PUBLIC}'''\n",
        encoding="utf-8",
    )
    engine = _Swarm()
    with serving(engine, str(folder / "engine.sock")) as host:
        settings: dict[str, object] = {"policy": "baseline", "remove_delay": 0, "reconcile_interval": "1s"}
        home = Installation(module_redis.url, host, PREFIX, folder, **settings)
        with Client(module_redis.url, queue=PREFIX, prefix=PREFIX) as client:
            made = Scene(home, engine, client, keys)
            yield made
        home.close()
        for one in made.workers:
            assert not exceptions_in(one.log), one.log[-3000:]


# -- the tests ---------------------------------------------------------------------------------------------------------


def test_no_description_or_message_starts_what_the_policy_forbids(scene: Scene) -> None:
    scene.worker()
    cases = [
        *(_case(str(fields)[:80], {**GOOD, **fields, **more}, word) for fields, word in FORBIDDEN for more in TENANTS),
        *(_case(str(fields)[:80], {**GOOD, **fields}, word) for fields, word in _refused_fields()),
        *_raw(),
    ]
    assert len(cases) > 500
    scene.put(cases)
    scene.check({one.task_id: (one.title, one.reason) for one in cases})
    scene.works()
    assert not Path(f"/tmp/{PREFIX}-owned").exists()


def test_no_record_starts_what_the_policy_forbids(scene: Scene) -> None:
    wanted: dict[str, tuple[str, str]] = {}
    forged = {
        "image": "evil@sha256:" + "e" * 64,
        "producer": "ops",
        "labels": '{"jaas.tenant":"admin"}',
        "note": ESCAPES,
    }
    for (fields, word), index in zip(FORBIDDEN, itertools.cycle(("ready", "unowned"))):
        job_id = scene.record(json.dumps({**GOOD, **fields}), index=index, **(forged if index == "ready" else {}))
        wanted[job_id] = (f"record {fields}"[:80], word)
    scene.check(wanted)
    scene.works()


def test_a_record_that_names_another_image_runs_the_described_one(scene: Scene) -> None:
    job_id = scene.record(json.dumps(GOOD), image="evil@sha256:" + "e" * 64, attempt="1", platforms="linux/amd64")
    scene.runs(job_id)
    scene.nothing_forbidden()


def test_no_token_passes_that_was_not_signed_for_its_job(scene: Scene) -> None:
    """In messages and in records, where signatures are required and where they are not."""
    for required in ("false", "true"):
        scene.worker(require_signature=required)
        wanted: dict[str, tuple[str, str]] = {}
        for number in range(len(_forged("x"))):
            for by_record in (False, True):
                job_id = str(uuid.uuid4())
                title, (word, token) = list(_forged(job_id).items())[number]
                wanted[job_id] = (f"{title}, required {required}, record {by_record}", word)
                if by_record:
                    scene.record(token, job_id)
                else:
                    made = message([[], {"spec": token}, {}], task_id=job_id)
                    scene.put([Case(title, json.dumps(made).encode(), job_id, word)])
        scene.check(wanted)
        scene.works(token=True)


def test_where_signatures_are_required_nothing_unsigned_starts(scene: Scene) -> None:
    before = len(scene.engine.requests)
    cases = [_case(str(fields)[:80], {**GOOD, **fields}, "") for fields, _ in FORBIDDEN]
    cases += [_case("good, unsigned", {**GOOD, **more}, "signature.required") for more in TENANTS]
    scene.put(cases)
    scene.check({one.task_id: (one.title, one.reason) for one in cases})
    assert len(scene.engine.requests) == before


def test_a_token_that_is_sent_again_starts_nothing_again(scene: Scene) -> None:
    job_id = str(uuid.uuid4())
    made = message([[], {"spec": _token(job_id, GOOD)}, {}], task_id=job_id)
    before = len(scene.engine.requests)
    for _ in range(5):
        again = {**made, "properties": {**made["properties"], "delivery_tag": str(uuid.uuid4())}}
        scene.put([Case("again", json.dumps(again).encode(), job_id, "")])
    scene.runs(job_id)
    scene.works(token=True)
    assert len(scene.engine.requests) == before + 2


NONSENSE: tuple[Any, ...] = ("x", None, [], ESCAPES)


def test_a_forged_end_ends_no_job(scene: Scene) -> None:
    signer = Signer(SigningKey("HS256", SECRET.encode()), "hs", PREFIX, "ops")
    with Client(scene.home.redis_url, queue=PREFIX, prefix=PREFIX, signer=signer) as client:
        handle = client.submit(JobSpec(image="jaas-test", command=WAIT.command))
        find = client.ledger.queries.find
        scene.starts(handle.id)
        eventually(lambda: find([handle.id])[0].state is JobState.RUNNING, 60, "the container")
        task = scene.engine.job(handle.id)
        true = {
            "kind": "die",
            "service_id": task.service_id,
            "task_id": task.id,
            "job_id": handle.id,
            "container_id": task.container_id,
            "exit_code": 0,
            "at": "2026-11-30T12:00:00Z",
            "node": task.node_id,
        }
        changes: list[dict[str, Any]] = [
            {name: value} for name in true for value in NONSENSE if name != "exit_code" and value != true[name]
        ]
        for change in [*changes, {"exit_code": 256}, {"exit_code": -1}, {"exit_code": "0"}, {"exit_code": 137}]:
            wrong = {**true, "task_id": "x", **change}
            client.ledger.client.publish(client.ledger.channel("exits"), json.dumps(wrong))
        scene.works(token=True)
        assert find([handle.id])[0].state is JobState.RUNNING
        assert scene.engine.job(handle.id).state == "running"
        scene.engine.exit(handle.id, 0)
        eventually(lambda: find([handle.id])[0].terminal, 60, "the true end")
        assert find([handle.id])[0].state is JobState.SUCCEEDED


def test_what_redis_says_of_policy_and_agents_changes_nothing(scene: Scene) -> None:
    redis, holder = scene.client.ledger.client, scene.workers[-1].holder
    privileged = {"policy": {"text": '{"level": "privileged"}', "level": ESCAPES, "mode": "warn", "digest": ESCAPES}}
    redis.set(f"{PREFIX}:info:{holder}", json.dumps({**privileged, "host": ESCAPES, "queues": [ESCAPES]}))
    for key in ("policy", "policy_file", "settings", "verify_keys", f"policy:{PREFIX}"):
        redis.set(f"{PREFIX}:{key}", json.dumps({"level": "privileged", "require_signature": False}))
    redis.zadd(f"{PREFIX}:agents", {ESCAPES: time.time()})
    job_id = str(uuid.uuid4())
    made = message([[], {"spec": _token(job_id, {**GOOD, **_mounts(source="/")})}, {}], task_id=job_id)
    case = _case("unsigned", {**GOOD, **_mounts(source="/")}, "signature.required")
    scene.put([case, Case("signed", json.dumps(made).encode(), job_id, "mounts.binds")])
    scene.check({case.task_id: ("unsigned", case.reason), job_id: ("signed", "mounts.binds")})


SHOWN = """
import sys
from jaas_submit.cli.main import main
for words in {commands!r}:
    sys.argv = ["jaas", *words]
    try:
        main()
    except SystemExit:
        pass
"""

_COLOURED = re.compile(r"\x1b\[[0-9;]*m")


def test_no_command_prints_what_controls_the_terminal(scene: Scene) -> None:
    """Of a job whose record says everywhere what an attacker likes."""
    end = {"number": 1, "state": "FAILED", "cause": "exit", "exit_code": 1, "reason": ESCAPES, "node": ESCAPES}
    whole = {**end, "service": ESCAPES, "container_id": ESCAPES, "decision": ESCAPES, "image": ESCAPES}
    spec = {**GOOD, "command": ["echo", ESCAPES], "env": {"A": ESCAPES}, "workdir": f"/{ESCAPES}"}
    texts = dict.fromkeys(("detail", "note", "node", "by", "cancel", "queue", "image", "producer", "key"), ESCAPES)
    ids = []
    for state in ("FAILED", "RUNNING", "BACKOFF", ESCAPES):
        job_id = scene.record(
            json.dumps(spec), index="jobs", **{**texts, "state": state, "attempts": json.dumps([whole])}
        )
        ids.append(job_id)
    words = ("status", "explain", "audit", "logs", "rm")
    commands = [["list", "-n", "1000"], ["list", "-o", "wide"], ["list", "-o", "json"], ["list", "-o", "jsonl"]]
    commands += [["list", "-o", "name"], ["dead"], ["queue"], ["nodes"], ["workers"], ["policy", "show"]]
    commands += [[word, *more, job_id] for word in words for job_id in ids for more in ([], ["--json"], ["-q"])]
    settings = {"JAAS_REDIS_URL": scene.home.redis_url, "JAAS_PREFIX": PREFIX, "JAAS_QUEUE": PREFIX}
    printed = _COLOURED.sub("", in_terminal(SHOWN.format(commands=commands), **settings))
    assert "owned" in printed
    bad = [line for line in printed.split("\n") if not line.isprintable()]
    assert not bad, bad[:5]
    for job_id in ids:
        scene.client.ledger.client.delete(f"{PREFIX}:job:{job_id}")
        scene.client.ledger.client.zrem(f"{PREFIX}:jobs", job_id)


def test_the_worker_is_the_one_that_was_started_and_works(scene: Scene) -> None:
    scene.works(token=True)
    scene.nothing_forbidden()
    assert all(len(one.log) < 5_000_000 for one in scene.workers)
    assert ESCAPES[:4] not in scene.workers[-1].log

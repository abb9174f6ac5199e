"""Everything that can be configured, from environment variables named JAAS_... ; checked when the worker starts."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jaas_submit.connection.url import default_url
from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown
from jaas_submit.model.fields import parse_duration, parse_size
from jaas_submit.model.wire_names import DEFAULT_PREFIX, DEFAULT_QUEUE, FOREIGN_QUEUE, PREFIX_PATTERN, QUEUE_PATTERN
from jaas_submit.policy.containers import DEFAULT_CAPABILITIES
from jaas_submit.policy.document import Level

__all__ = ["LogFormat", "Settings"]

LogFormat = Literal["auto", "json", "console"]
Seconds = Annotated[float, BeforeValidator(parse_duration)]
Bytes = Annotated[int, BeforeValidator(parse_size)]


def _in_words(error: ErrorDetails) -> str:
    """Return what is wrong with a setting, and what it may be."""
    if error["type"] in {"bool_parsing", "bool_type"}:
        return "must be true or false"
    return error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")


def _options(value: object) -> object:
    """Accept ``name=value,name=value``."""
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise ValueError("write name=value,name=value, such as max-size=100m,max-file=2")
    return {name.strip(): text.strip() for name, _, text in pairs}


_PLAIN_CAPABILITIES = tuple(sorted(DEFAULT_CAPABILITIES - {"AUDIT_WRITE", "MKNOD", "NET_RAW"}))


def _capabilities(value: object) -> object:
    """Accept ``CHOWN,SETUID``."""
    if not isinstance(value, str):
        return value
    names = tuple(sorted({name.strip().upper().removeprefix("CAP_") for name in value.split(",") if name.strip()}))
    if names == ("ALL",):
        return tuple(sorted(DEFAULT_CAPABILITIES))
    for name in names:
        if name not in DEFAULT_CAPABILITIES:
            known = ", ".join(sorted(DEFAULT_CAPABILITIES))
            raise ValueError(f"{shown(name)} is none of the engine's default capabilities: {known}; or ALL")
    return names


class Settings(BaseSettings):
    """Settings of a worker. Each is an environment variable: ``max_in_flight`` is JAAS_MAX_IN_FLIGHT.

    Durations are seconds or texts such as ``1m30s``; sizes are bytes or texts such as ``1M``.

    Raises:
        SpecError: a value is not valid; the text names the variable.
    """

    model_config = SettingsConfigDict(env_prefix="JAAS_", frozen=True, extra="ignore")

    redis_url: str = Field(default_factory=default_url, repr=False)
    """Broker, result backend and ledger. JAAS_REDIS_URL_FILE may name a file that holds it (a swarm secret)."""

    docker_host: str = Field(
        default_factory=lambda: os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock", repr=False
    )
    """The engine of the manager node the worker runs on; DOCKER_HOST unless JAAS_DOCKER_HOST is set."""

    prefix: str = Field(DEFAULT_PREFIX, pattern=PREFIX_PATTERN)
    """First part of every key in Redis; one for each installation that shares a Redis or a swarm."""

    queue: str = Field(DEFAULT_QUEUE, pattern=QUEUE_PATTERN)
    """Celery queue of jobs."""

    take_default_queue: bool = True
    """Consume Celery's default queue ``celery`` too, so that a `jaas.run` sent without naming a queue arrives. If
    another application's task is there, the worker puts it back and stops consuming that queue."""

    policy: Level = "baseline"
    """What jobs may ask for, without a file: ``restricted``, ``baseline`` or ``privileged`` (docs/policy.md)."""

    policy_file: str = ""
    """File with the policy, in TOML, YAML or JSON, such as a swarm config; read once, when the worker starts. Empty:
    JAAS_POLICY says what holds."""
    remote_control: bool = True
    """Take Celery's commands (revoke, ping, inspections), and send the events that Flower shows. Whoever may publish in
    Redis may send commands. Without it only jaas itself cancels jobs, and Flower shows none."""

    max_in_flight: int = Field(1000, ge=1, le=100_000)
    """Jobs that one worker may hold at once; further ones wait in Redis."""

    max_starting: int = Field(0, ge=0, le=10_000)
    """Services that one worker may have between creation and a running container, at most. Starting containers is what
    limits a node: on 2 cores, 10 at once finished up to 1.4 times as many jobs a second as 40. Below this bound the
    worker finds out by itself how many are best (``decisions/launch_window.py``); 0 means no such bound. Running ones
    do not count, nor those that the swarm cannot place."""

    launch_threads: int = Field(4, ge=1, le=64)
    """Threads that create services; each waits for one answer of the engine at a time."""

    finish_threads: int = Field(4, ge=1, le=64)
    """Threads that read logs, store outcomes and remove services."""

    task_threads: int = Field(4, ge=1, le=256)
    """Threads for other Celery tasks, if the user's app adds some to this worker."""

    poll_interval: Seconds = Field(0.1, gt=0, le=60)
    """Seconds between two polls of ended tasks while jobs are in flight; one poll takes the engine 1-50 ms. For ten
    seconds after a change a job is polled every 20 ms if there are few such jobs. With a slow or busy engine the pauses
    grow to ten times the duration of a poll. In a swarm of one node the engine's events report exits, and ended tasks
    are polled once a second, unless something is being stopped."""

    idle_interval: Seconds = Field(2.0, gt=0, le=60)
    """Seconds between two checks of time limits while no job is in flight."""

    state_interval: Seconds = Field(1.0, gt=0, le=600)
    """Seconds between two polls of all tasks (pending, and why; running, and where). The pause grows to forty times the
    duration of a poll, so that ten thousand jobs in flight do not overload the engine."""

    engine_timeout: Seconds = Field(15.0, gt=0, le=600)
    """Seconds to wait for one answer of the engine; after it the answer is unknown, never a failure."""

    log_limit: Bytes = Field(1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    """Bytes kept of each of stdout and stderr: the first and the last half of it."""

    log_timeout: Seconds = Field(20.0, gt=0, le=600)
    """Seconds for reading a container's output; the engine's call hangs for ever when the node is away."""

    log_driver: str = Field("local", pattern=r"^([a-z0-9][a-zA-Z0-9_./:-]{0,127})?$")
    """Log driver of the jobs' containers, unless a job names one. ``local`` keeps every byte; ``json-file`` replaces
    what is no UTF-8. Empty: that of each node's engine."""

    log_options: Annotated[dict[str, str], NoDecode, BeforeValidator(_options)] = Field(
        default_factory=lambda: {"max-size": "100m", "max-file": "2", "compress": "false"}
    )
    """Options of that driver, as ``name=value,name=value``; the default is that of ``local`` alone. Followers of a log
    lose and repeat lines where it is rotated, and more where files are compressed, so its files are large."""

    pids_limit: int = Field(4096, ge=0, le=4_194_304)
    """Processes and threads that a job's container may have, so that a fork bomb does not stop its node; 0 sets no
    limit."""

    capabilities: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_capabilities)] = _PLAIN_CAPABILITIES
    """Those of the engine's default capabilities that a job's container keeps, with commas between: what plain images
    need (docs/policy.md). Empty: none; ``ALL``: all of them. A job may ask for the others, and a policy may let it keep
    them."""

    init: bool = False
    """Run the engine's small init (tini) as the first process of a job's container, unless the job says otherwise: a
    program without a handler then ends by its stop signal, and orphans are waited for. An image that has an init of its
    own may not run below it (docs/policy.md)."""

    no_new_privileges: bool = True
    """The processes of a job's container may gain no privileges, such as by sudo, where the manager and all nodes know
    that setting (Docker 25). Older engines do without."""

    env_secrets: str = ""
    """Folder with files whose contents jobs may have in their environment (``env_secrets``), where a policy allows it.
    No folder with other secrets, such as /run/secrets. Empty: none."""

    result_log_limit: Bytes = Field(64 * 1024, ge=0, le=16 * 1024 * 1024)
    """Bytes of each stream that go into Celery's result (all that was kept is in the ledger)."""

    live_output_share: float = Field(0.2, gt=0, le=0.8)
    """Part of Redis' ``maxmemory`` that the output of running jobs may use while somebody follows it."""

    output_limit: Bytes = Field(64 * 1024, ge=0, le=16 * 1024 * 1024)
    """Bytes of JSON that a job may return into Redis. A larger output goes to JAAS_STORE_URL; where that is empty, the
    job fails. What a job returns is read from its log, so that JAAS_LOG_LIMIT is a limit, too."""

    store_url: str = Field("", repr=False)
    """Store for values that are too large for Redis (outputs over JAAS_OUTPUT_LIMIT) or for a swarm config (what a
    reduce job reads): ``file:///srv/jaas`` on a file system that all nodes, workers and producers share,
    ``s3://bucket/jaas``, or any other URL of fsspec. They are removed when the job's record expires. Empty: there is no
    store, and larger values are refused. Needs jaas[store]."""

    stored_log_limit: Bytes = Field(64 * 1024 * 1024, ge=0, le=100 * 1024 * 1024)
    """Bytes of an attempt's output, from its beginning, that go into the store where ``log_limit`` cuts it; 0: none."""

    files_limit: Bytes = Field(1024**3, ge=0, le=1024**4)
    """Bytes of all files that an attempt hands out (``outputs``). Those beyond it stay behind; its result says so."""

    files_timeout: Seconds = Field(600.0, ge=1, le=86400)
    """Seconds for which the end of a job waits for its files to be copied to the store."""

    file_threads: int = Field(2, ge=1, le=64)
    """Threads that copy such files; each copies those of one job, and other jobs do not wait for them."""

    record_ttl: Seconds = Field(7 * 86400.0, ge=7200, le=3650 * 86400)
    """Seconds that records, logs and Celery's results are kept after the end of a job."""

    resolve_images: bool = True
    """Ask the image's registry for the digest of its tag, once for each job, so that all attempts run the
    same image. Where no registry answers, each node runs what it has under the tag. An answer is cached for 10 seconds,
    a missing answer for 60."""

    lease: Seconds = Field(15.0, ge=1, le=3600)
    """Seconds after which other workers adopt a silent worker's jobs; renewed three times as often."""

    lease_file: str = ""
    """File that is touched when the lease has been renewed: a health check only needs to look at its age. Empty:
    none."""

    reconcile_interval: Seconds = Field(0.5, gt=0, le=3600)
    """Seconds between two rounds of the reconciler, which takes over jobs without a holder and starts due retries."""

    republish_after: Seconds = Field(20.0, ge=1, le=86400)
    """Seconds after which the message of a QUEUED job that should have arrived counts as lost."""

    late_launch_grace: Seconds = Field(300.0, ge=0, le=86400)
    """Seconds for which the service of a job taken over in the middle of its launch is kept after its end. Its name
    prevents a suspended former holder from launching the attempt again."""

    remove_delay: Seconds = Field(2.0, ge=0, le=3600)
    """Seconds between recording an outcome and removing its service. Longer than Redis' fsync interval (1 second
    with ``appendfsync everysec``), so that an outcome that a crash of Redis loses can be read again; 0 is enough with
    ``appendfsync always``."""

    stop_timeout: Seconds = Field(30.0, ge=1, le=3600)
    """Seconds beyond the job's ``stop_grace`` to wait for a stopped container's end; then its service is removed."""

    log_format: LogFormat = "auto"
    """How the worker's log looks: ``json`` (one object a line), ``console`` (for people), or ``auto``: console on a
    terminal, JSON elsewhere."""

    metrics_port: int = Field(0, ge=0, le=65535)
    """TCP port of GET /metrics for Prometheus; 0 means none."""

    metrics_address: str = "127.0.0.1"
    """Address that the metrics' port listens on. The metrics name no job, but show how much runs; 0.0.0.0 in a
    container, where the network protects the port."""

    metrics_interval: Seconds = Field(5.0, ge=0.1, le=3600)
    """Seconds between two reads of the ledger for the metrics; six short commands each."""

    traces: bool = False
    """Send OpenTelemetry traces of all attempts by OTLP over HTTP, as the standard variables OTEL_EXPORTER_OTLP_...
    say. Needs jaas[otel]. Without it a job's container still gets its producer's trace."""

    verify_keys: str = ""
    """File with the keys that verify signed descriptions, in TOML: a table for each key id, with algorithm, key,
    producer and tenant. Read when the worker starts. Empty: signatures are not verified. Needs jaas[signing]."""

    require_signature: bool = False
    """Refuse jobs whose description is not signed with a key of JAAS_VERIFY_KEYS."""

    shutdown_timeout: Seconds = Field(60.0, ge=1, le=3600)
    """Limit of a shutdown in seconds. Releasing jobs takes a moment; a shutdown that hangs because Redis does not
    answer is cut off. Shorter than the time after which the swarm kills the worker (stop_grace_period)."""

    @field_validator("require_signature")
    @classmethod
    def _has_keys(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("verify_keys"):
            raise ValueError("needs JAAS_VERIFY_KEYS, the file with the keys that verify")
        return value

    @property
    def queues(self) -> list[str]:
        """The Celery queues that the worker consumes, its own first."""
        return list(dict.fromkeys([self.queue, *([FOREIGN_QUEUE] if self.take_default_queue else [])]))

    @property
    def driver_options(self) -> dict[str, str]:
        """Options of the log driver: those that are set, or the default ones if it is ``local``."""
        return self.log_options if self.log_driver == "local" or "log_options" in self.model_fields_set else {}

    def __init__(self, **values: Any) -> None:
        if "redis_url" not in values:  # the environment's Redis URL, for producers and workers
            values["redis_url"] = default_url()
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = "_".join(str(part) for part in first["loc"]).upper()
            raise SpecError(f"JAAS_{name}: {_in_words(first)}", field=name.lower()) from None

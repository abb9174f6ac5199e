"""PURE: a job description becomes the body of ``POST /services/create`` (Docker Engine API 1.41)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from jaas_submit.model.fields import Resources
from jaas_submit.model.files.inputs import FILES_FOLDER
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.service_options.mounts import Mount
from jaas_submit.model.wire_names import (
    ENV_ATTEMPT,
    ENV_FILE_URLS,
    ENV_FILES,
    ENV_INPUT,
    ENV_JOB_ID,
    ENV_NODE,
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_LEDGER,
    LABEL_PREFIX,
    LABEL_SPEC,
    LABEL_WORKER,
    service_name,
)
from jaas_submit.policy.facts import LABEL_TENANT
from jaas_worker.swarm.log_driver import LogDriver
from jaas_worker.swarm.request.healthcheck import healthcheck_part
from jaas_worker.swarm.request.literal import literal, nanoseconds, unescaped
from jaas_worker.swarm.request.mounts import mount_part
from jaas_worker.swarm.request.networks import network_part
from jaas_worker.swarm.request.options import set_options
from jaas_worker.swarm.request.references import file_part

if TYPE_CHECKING:
    from jaas_worker.settings import Settings

__all__ = [
    "NO_DEFAULTS",
    "FilePlace",
    "ServiceDefaults",
    "service_request",
    "spec_of_service",
    "with_files",
]

_MAX_LABEL_CHARS = 16 * 1024
"""Limit in characters for a description in a label, which is written to the raft log of every manager."""


_NODE: Final = "{{.Node.Hostname}}"
"""A template that the swarm fills in when it has placed the task. Source: moby/swarmkit, template/context.go."""


class FilePlace(NamedTuple):
    """Path or URL of a file that jaas itself gives a container, and what is to be put there, if anything."""

    path: str
    config_id: str = ""
    config_name: str = ""
    """A swarm config."""
    source: str = ""
    """A file on the host of every node, such as on a shared file system."""
    mode: int = 0o444
    """Of a config in the container."""


class ServiceDefaults(NamedTuple):
    """What every service that a worker asks for has, whatever the job. Only here settings become parts of a request."""

    installation: Mapping[str, str] = MappingProxyType({})
    """Labels that say whose services and containers they are."""
    worker: str = ""
    """The worker process, for a label; a service that another worker asked for keeps the other's."""
    log_driver: LogDriver = LogDriver()
    """What keeps the output, unless the job says otherwise."""
    pids_limit: int = 0
    """Processes and threads that a container may have; 0 sets no limit. Engine API 1.41 and newer know it."""

    @classmethod
    def of(cls, settings: Settings, ledger: str, worker: str) -> Self:
        """Return the defaults of a worker.

        Args:
            settings: its settings.
            ledger: identity of the ledger that it serves.
            worker: its name in the ledger.
        """
        driver = LogDriver(settings.log_driver, settings.driver_options)
        return cls({LABEL_PREFIX: settings.prefix, LABEL_LEDGER: ledger}, worker, driver, settings.pids_limit)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of such a service."""
        return {**self.installation, **({LABEL_WORKER: self.worker} if self.worker else {})}


NO_DEFAULTS: Final = ServiceDefaults()
NO_FILES: Final[Mapping[str, FilePlace]] = MappingProxyType({})


def service_request(
    spec: JobSpec,
    job_id: str,
    attempt: int,
    marks: Mapping[str, str],
    secret_ids: Mapping[str, str],
    defaults: ServiceDefaults = NO_DEFAULTS,
    platforms: Sequence[str] = (),
    config_ids: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the request that creates the service of one attempt, without the job's input and files (``with_files``).

    Args:
        spec: the description for this attempt.
        job_id: the job's id.
        attempt: counted from 1.
        marks: further labels: of which description it is (LABEL_SPEC_HASH), and what the job is in its batch.
        secret_ids: name -> id of (at least) the secrets that the description names.
        defaults: what every service of the worker has.
        platforms: what the image runs on, such as ``linux/amd64``; empty where that is not known.
        config_ids: name -> id of (at least) the configs that the description names.

    Raises:
        KeyError: the id of a secret or config is missing.
    """
    labels = {LABEL_JOB: job_id, LABEL_ATTEMPT: str(attempt), **defaults.labels, **marks}
    kept = json.dumps({name: value for name, value in spec.to_wire().items() if name != "env"})
    if len(kept) <= _MAX_LABEL_CHARS:
        labels[LABEL_SPEC] = kept
    limits = {**_resources(spec.limits), **({"Pids": defaults.pids_limit} if defaults.pids_limit else {})}
    container = _container(spec, job_id, attempt, {**_labels_of_user(spec), **defaults.installation})
    if spec.secrets:
        container["Secrets"] = [file_part("Secret", secret, secret_ids[secret.source]) for secret in spec.secrets]
    if spec.configs:
        container["Configs"] = [file_part("Config", config, config_ids[config.source]) for config in spec.configs]
    task: dict[str, Any] = {
        "ContainerSpec": container,
        "Resources": {"Limits": limits, "Reservations": _resources(spec.reservations)},
        "RestartPolicy": {"Condition": "none", "MaxAttempts": 0},
        "Placement": _placement(spec, platforms),
        "Networks": [network_part(network) for network in spec.networks],
        **defaults.log_driver.changed_by(spec).request,
    }
    set_options(task, spec)
    return {
        "Name": service_name(job_id, attempt),
        "Labels": labels,
        "TaskTemplate": task,
        "Mode": {"Replicated": {"Replicas": 1}},
        # A job is no server: without a virtual IP there is less to allocate and to clean up.
        "EndpointSpec": {"Mode": "dnsrr"},
    }


def _labels_of_user(spec: JobSpec) -> dict[str, str]:
    """Return a job's labels, but for names that jaas itself gives a meaning; a tenant's name is for everybody.

    They are the container's alone: other programs act on a service's labels, such as a proxy that makes routes of them.
    """
    return {name: value for name, value in spec.labels.items() if name == LABEL_TENANT or not name.startswith("jaas.")}


def _container(spec: JobSpec, job_id: str, attempt: int, labels: Mapping[str, str]) -> dict[str, Any]:
    container: dict[str, Any] = {
        "Image": spec.image,
        "Env": [literal(f"{name}={value}") for name, value in spec.env.items()]
        + [f"{ENV_JOB_ID}={job_id}", f"{ENV_ATTEMPT}={attempt}", f"{ENV_NODE}={_NODE}"],
        "Labels": {**labels, LABEL_JOB: job_id, LABEL_ATTEMPT: str(attempt)},
        "StopGracePeriod": nanoseconds(spec.stop_grace),
    }
    if spec.entrypoint is not None:
        container["Command"] = list(spec.entrypoint)
    if spec.command is not None:
        container["Args"] = list(spec.command)
    if spec.workdir:
        container["Dir"] = spec.workdir
    if spec.user:
        container["User"] = spec.user
    if spec.stop_signal:
        container["StopSignal"] = spec.stop_signal
    if spec.mounts:
        container["Mounts"] = [mount_part(mount) for mount in spec.mounts]
    if check := healthcheck_part(spec.healthcheck):
        container["Healthcheck"] = check
    return container


def with_files(
    request: Mapping[str, Any], place: FilePlace | None, files: Mapping[str, FilePlace] = NO_FILES
) -> dict[str, Any]:
    """Return a request with what jaas itself adds: the job's input and files. The policy has nothing to say about it.

    Args:
        request: what ``service_request`` returned; it is not changed.
        place: where the container finds the input; None where it has none.
        files: where it finds its files, by their names.
    """
    task = request["TaskTemplate"]
    container = dict(task["ContainerSpec"])
    env = [f"{ENV_INPUT}={place.path}"] if place is not None else []
    if files:
        env.append(f"{ENV_FILES}={FILES_FOLDER}")
        urls = {name: one.path for name, one in files.items() if not (one.config_id or one.source)}
        env += [f"{ENV_FILE_URLS}={json.dumps(urls)}"] if urls else []
    container["Env"] = [*container["Env"], *map(literal, env)]
    places = [*([place] if place is not None else []), *files.values()]
    if configs := [_config(one) for one in places if one.config_id]:
        container["Configs"] = [*container.get("Configs", ()), *configs]
    mounts = [mount_part(Mount(source=one.source, target=one.path, read_only=True)) for one in places if one.source]
    if mounts:
        container["Mounts"] = [*container.get("Mounts", ()), *mounts]
    return {**request, "TaskTemplate": {**task, "ContainerSpec": container}}


def spec_of_service(labels: Mapping[str, str], env: Sequence[str]) -> JobSpec | None:
    """Return the description that a service was made from; None when its labels do not hold it.

    Args:
        labels: the service's labels.
        env: the environment of its containers, as NAME=value.
    """
    if LABEL_SPEC not in labels:
        return None
    own = (ENV_JOB_ID, ENV_ATTEMPT, ENV_INPUT, ENV_FILES, ENV_FILE_URLS, ENV_NODE)
    described = json.loads(labels[LABEL_SPEC])
    secret = described.get("env_secrets") or {}  # their values must not get into a record
    pairs = [unescaped(text).partition("=") for text in env]
    kept = {name: value for name, _, value in pairs if name not in own and name not in secret}
    return JobSpec.parse({**described, "env": kept})


def _placement(spec: JobSpec, platforms: Sequence[str]) -> dict[str, Any]:
    made: dict[str, Any] = {"Constraints": [text.strip() for text in spec.constraints]}
    if platforms:
        pairs = [one.partition("/") for one in platforms]
        made["Platforms"] = [{"OS": os, "Architecture": arch} for os, _, arch in pairs]
    return made


def _config(place: FilePlace) -> dict[str, Any]:
    file = {"Name": place.path, "UID": "0", "GID": "0", "Mode": place.mode}
    return {"ConfigID": place.config_id, "ConfigName": place.config_name, "File": file}


def _resources(resources: Resources) -> dict[str, int]:
    made: dict[str, int] = {}
    if resources.cpus is not None:
        made["NanoCPUs"] = nanoseconds(resources.cpus)
    if resources.memory is not None:
        made["MemoryBytes"] = resources.memory
    return made

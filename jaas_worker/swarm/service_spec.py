"""PURE: a job description becomes the body of ``POST /services/create`` (Docker Engine API 1.41)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaas_submit.model.bounds import whole
from jaas_submit.model.ids import batch_job_id, copy_id_of
from jaas_submit.model.job_spec import JobSpec, Mount, Resources, SecretMount
from jaas_submit.model.records import JobRecord
from jaas_submit.model.wire_names import (
    ENV_ATTEMPT,
    ENV_INPUT,
    ENV_JOB_ID,
    LABEL_ATTEMPT,
    LABEL_BATCH,
    LABEL_COPY_OF,
    LABEL_INDEX,
    LABEL_JOB,
    LABEL_SPEC,
    service_name,
)

__all__ = ["InputPlace", "membership_labels", "membership_of", "service_request", "spec_of_service"]

_MAX_LABEL_CHARS = 16 * 1024
"""Characters of a description that go into a label; it is written to the raft log of every manager."""


class InputPlace(NamedTuple):
    """Where a container finds its input: a path (or URL), and what has to be put there, if anything."""

    path: str
    config_id: str = ""
    config_name: str = ""
    """A swarm config."""
    source: str = ""
    """A file on the host of every node, such as on a shared file system."""


def service_request(
    spec: JobSpec,
    job_id: str,
    attempt: int,
    marks: Mapping[str, str],
    secret_ids: Mapping[str, str],
    place: InputPlace | None = None,
) -> dict[str, Any]:
    """Return the request that creates the service of one attempt.

    Args:
        spec: the description, as it holds for this attempt.
        job_id: the job's id.
        attempt: counted from 1.
        marks: further labels: whose job it is (LABEL_PREFIX, LABEL_LEDGER) and LABEL_SPEC_HASH.
        place: where the container finds the job's input; None where it has none.
        secret_ids: name -> id of (at least) the secrets that the description names.

    Raises:
        KeyError: a secret's id is missing.
    """
    labels = {LABEL_JOB: job_id, LABEL_ATTEMPT: str(attempt), **marks}
    kept = json.dumps({name: value for name, value in spec.to_wire().items() if name != "env"})
    if len(kept) <= _MAX_LABEL_CHARS:
        labels[LABEL_SPEC] = kept
    container: dict[str, Any] = {
        "Image": spec.image,
        "Env": [_literal(f"{name}={value}") for name, value in spec.env.items()]
        + [f"{ENV_JOB_ID}={job_id}", f"{ENV_ATTEMPT}={attempt}"],
        "Labels": {LABEL_JOB: job_id, LABEL_ATTEMPT: str(attempt)},
        "StopGracePeriod": _nanoseconds(spec.stop_grace),
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
        container["Mounts"] = [_mount(mount) for mount in spec.mounts]
    if spec.secrets:
        container["Secrets"] = [_secret(secret, secret_ids[secret.source]) for secret in spec.secrets]
    if place is not None:
        container["Env"].append(_literal(f"{ENV_INPUT}={place.path}"))
        if place.config_id:
            file = {"Name": place.path, "UID": "0", "GID": "0", "Mode": 0o444}
            container["Configs"] = [{"ConfigID": place.config_id, "ConfigName": place.config_name, "File": file}]
        elif place.source:
            mount = Mount(source=place.source, target=place.path, read_only=True)
            container["Mounts"] = [*container.get("Mounts", ()), _mount(mount)]
    if not spec.healthcheck:
        # A failing HEALTHCHECK of the image would make the swarm kill the job.
        container["Healthcheck"] = {"Test": ["NONE"]}
    return {
        "Name": service_name(job_id, attempt),
        "Labels": labels,
        "TaskTemplate": {
            "ContainerSpec": container,
            "Resources": {"Limits": _resources(spec.limits), "Reservations": _resources(spec.reservations)},
            "RestartPolicy": {"Condition": "none", "MaxAttempts": 0},
            "Placement": {"Constraints": [text.strip() for text in spec.constraints]},
            "Networks": [{"Target": name} for name in spec.networks],
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        # A job serves nobody: without a virtual IP there is one thing less to allocate and to clean up.
        "EndpointSpec": {"Mode": "dnsrr"},
    }


def membership_labels(record: JobRecord) -> dict[str, str]:
    """Return the labels that say what a job is in its batch; none where it is in none."""
    if not record.batch or record.index is None:
        return {}
    copy = {LABEL_COPY_OF: record.copy_of} if record.copy_of else {}
    return {LABEL_BATCH: record.batch, LABEL_INDEX: str(record.index), **copy}


def membership_of(labels: Mapping[str, str], job_id: str) -> dict[str, Any]:
    """Return batch, index and copy_of that a service's labels tell; nothing where they do not belong to the job's id.

    Args:
        labels: the service's labels.
        job_id: the job's id, which follows from batch and index, or from the id of the job that it is a copy of.
    """
    batch, index, copy_of = labels.get(LABEL_BATCH, ""), labels.get(LABEL_INDEX, ""), labels.get(LABEL_COPY_OF, "")
    try:
        fits = job_id == (copy_id_of(copy_of) if copy_of else batch_job_id(batch, whole(index)))
    except ValueError:
        return {}
    return {"batch": batch, "index": whole(index), "copy_of": copy_of} if fits else {}


def spec_of_service(labels: Mapping[str, str], env: Sequence[str]) -> JobSpec | None:
    """Return the description that a service was made from; None when its labels do not hold it.

    Args:
        labels: the service's labels.
        env: the environment of its containers, as NAME=value.
    """
    if LABEL_SPEC not in labels:
        return None
    own = (ENV_JOB_ID, ENV_ATTEMPT, ENV_INPUT)
    pairs = [text.replace(_BRACES, "{{").partition("=") for text in env]
    kept = {name: value for name, _, value in pairs if name not in own}
    return JobSpec.parse({**json.loads(labels[LABEL_SPEC]), "env": kept})


_BRACES = '{{"{{"}}'


def _literal(text: str) -> str:
    """Return a text that the swarm hands on as it is: environment and mounts are Go templates to it."""
    return text.replace("{{", _BRACES)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


def _mount(mount: Mount) -> dict[str, Any]:
    made: dict[str, Any] = {"Type": mount.type, "Target": _literal(mount.target), "ReadOnly": mount.read_only}
    if mount.source:
        made["Source"] = _literal(mount.source)
    return made


def _secret(secret: SecretMount, secret_id: str) -> dict[str, Any]:
    file = {"Name": secret.target or secret.source, "UID": secret.uid, "GID": secret.gid, "Mode": secret.mode}
    return {"SecretID": secret_id, "SecretName": secret.source, "File": file}


def _resources(resources: Resources) -> dict[str, int]:
    made: dict[str, int] = {}
    if resources.cpus is not None:
        made["NanoCPUs"] = _nanoseconds(resources.cpus)
    if resources.memory is not None:
        made["MemoryBytes"] = resources.memory
    return made

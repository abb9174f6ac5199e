"""PURE: what a request may carry: a service that the policy allows, the stop of one, a job's input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from jaas_submit.model.bounds import read_json, shown
from jaas_submit.model.wire_names import LABEL_ATTEMPT, LABEL_FILE, LABEL_JOB, service_name
from jaas_submit.policy.decision import decide, decide_service
from jaas_submit.policy.document import Policy
from jaas_submit.policy.facts import Context, Facts, Reference
from jaas_submit.policy.shape import unknown_settings
from jaas_worker.admission.own_parts import without_own_parts
from jaas_worker.socket_proxy.routes import Forbidden
from jaas_worker.socket_proxy.store_binds import StoreBinds
from jaas_worker.swarm.files.shared_configs import NAMES_BEGIN

__all__ = [
    "MAX_BODY",
    "Proposal",
    "admitted",
    "config_body",
    "contexts",
    "is_file",
    "is_of_job",
    "may_be_like",
    "proposal",
    "stopped",
]

MAX_BODY: Final = 2 * 1024 * 1024
"""Bytes; the engine takes configs up to 1,000 KB, which are a third larger here."""

_STOPPED: Final = {"Constraints": ["node.id==none"]}
"""The only placement that an update may set: no node meets it."""

_SHORTEST_S: Final = 1e-9


class Proposal(NamedTuple):
    """A service that somebody wants to create."""

    asked: dict[str, Any]
    """The request without what jaas adds for a job's input and files."""
    configs: list[dict[str, Any]]
    """The configs that were left out: each has to be an input that was made for this job, or a file for jobs."""
    mounts: list[dict[str, Any]]
    """The mounts that were left out: files of the local store."""
    job: str
    remark: str = ""
    """Is added to a refusal."""


def contexts(policy: Policy, of_worker: Context, asked: Mapping[str, Any]) -> Iterator[Context]:
    """Yield as whose job a request is judged, until one may have it.

    A worker proves nothing about the job: it may name each tenant, and what it says of run times and attempts is its
    own to keep. So it may do what any tenant may, and no more.

    Args:
        policy: the proxy's.
        of_worker: queue and log driver of the worker.
        asked: the request. Its limit of processes counts as the job's own: the worker has lowered its setting by its
            policy, so the number is kept or refused, and not lowered once more without a word.
    """
    limits = (asked["TaskTemplate"].get("Resources") or {}).get("Limits") or {}
    plain = replace(of_worker, run_timeout=_SHORTEST_S, pids_limit=limits.get("Pids") or None)
    yield plain
    for tenant in policy.tenants:
        yield replace(plain, tenant=tenant, producer="any")


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = read_json(data, MAX_BODY)
    except ValueError as error:
        raise Forbidden(f"the body: {error}") from None
    if not isinstance(found, dict):
        raise Forbidden("the body must be an object of names and values")
    return found


def is_of_job(labels: object) -> bool:
    """Return whether labels say that something was made for a job."""
    return isinstance(labels, Mapping) and isinstance(labels.get(LABEL_JOB), str) and bool(labels[LABEL_JOB])


def is_file(labels: object) -> bool:
    """Return whether labels say that a config holds a file for jobs."""
    return isinstance(labels, Mapping) and isinstance(labels.get(LABEL_FILE), str) and bool(labels[LABEL_FILE])


def _is_named_as_file(name: str, _target: str) -> bool:
    return name.startswith(NAMES_BEGIN)


def proposal(data: bytes, store: StoreBinds) -> Proposal:
    """Return the service in the body of ``POST /services/create``.

    Args:
        data: the body.
        store: says which binds are those of files in the local store.

    Raises:
        Forbidden: it is no service of a job.
    """
    request = _object(data)
    if unknown := unknown_settings(request):  # afterwards each setting has the right type
        raise Forbidden(str(unknown[0]))
    container = _part(_part(request, "TaskTemplate"), "ContainerSpec")
    labels, inner = request.get("Labels") or {}, container.get("Labels") or {}
    if not is_of_job(labels) or not is_of_job(inner):
        raise Forbidden(f"a service and its containers must have the label {LABEL_JOB}")
    job, attempt = labels[LABEL_JOB], labels.get(LABEL_ATTEMPT, "")
    if inner[LABEL_JOB] != job or request.get("Name") != f"{service_name(job, 0)[:-1]}{attempt}" or not attempt:
        raise Forbidden("a service must have the name of the attempt in its labels, and its containers the same job")
    asked = without_own_parts(request, store.is_own, _is_named_as_file)
    kept = asked["TaskTemplate"]["ContainerSpec"]
    configs = [one for one in container.get("Configs") or () if one not in kept["Configs"]]
    mounts = [one for one in container.get("Mounts") or () if one not in kept["Mounts"]]
    return Proposal(asked, configs, mounts, job, store.remark(kept["Mounts"]))


def _part(whole: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = whole.get(name)
    if not isinstance(found, dict):
        raise Forbidden(f"{name} is missing, or no object")
    return found


def admitted(wanted: Proposal, facts: Facts, policy: Policy, of_worker: Context) -> tuple[dict[str, Any], str]:
    """Return the request as it may be sent, and what the policy only warns of.

    Args:
        wanted: the service.
        facts: what the engine says of what the request refers to, the configs of the job's input included.
        policy: the proxy's.
        of_worker: queue and log driver of the worker.

    Raises:
        Forbidden: the policy does not allow it.
    """
    for config in wanted.configs:
        found = (facts.configs or {}).get(str(config.get("ConfigID")))
        if found is None:  # the engine's words: a worker then makes it again
            raise Forbidden(f"config not found: {shown(config.get('ConfigName'))}")
        if found.labels.get(LABEL_JOB) != wanted.job and not is_file(found.labels):
            raise Forbidden(f"the config {shown(config.get('ConfigName'))} was not made for this job")
    refused = ""
    for context in contexts(policy, of_worker, wanted.asked):
        decision = decide(wanted.asked, facts, policy, context)
        if not decision.refused:
            return _with_own_parts(decision.request, wanted), decision.reason
        refused = refused or decision.reason
    raise Forbidden(refused + wanted.remark)


def _with_own_parts(request: Mapping[str, Any], wanted: Proposal) -> dict[str, Any]:
    task = request["TaskTemplate"]
    container = dict(task["ContainerSpec"])
    container["Configs"] = [*container["Configs"], *wanted.configs]
    container["Mounts"] = [*container["Mounts"], *wanted.mounts]
    return {**request, "TaskTemplate": {**task, "ContainerSpec": container}}


def may_be_like(service: Mapping[str, Any], policy: Policy, of_worker: Context) -> bool:
    """Return whether a job may be like a service, so that a worker may look it up.

    Args:
        service: its ``Spec``.
        policy: the proxy's.
        of_worker: queue and log driver of the worker.
    """
    found = Reference(str(service.get("Name")), service.get("Labels") or {})
    judged = (decide_service(found, policy, context) for context in contexts(policy, of_worker, service))
    return any(not one.refused for one in judged)


def stopped(data: bytes, present: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that stops a service, of the service as the engine has it.

    Args:
        data: the body of ``POST /services/ID/update``.
        present: the service's ``Spec``.

    Raises:
        Forbidden: the service is not a job's; or the body would change anything but the placement, or set another one.
    """
    if not is_of_job(present.get("Labels")):  # other services may be looked at
        raise Forbidden("only a job's service may be updated")
    task = _part(_object(data), "TaskTemplate")
    made = {**present, "TaskTemplate": {**_part(present, "TaskTemplate"), "Placement": _STOPPED}}
    if task.get("Placement") != _STOPPED or _object(data) != made:
        raise Forbidden("an update may set the constraint node.id==none in the place of all others, and nothing else")
    return made


def config_body(data: bytes) -> dict[str, Any]:
    """Return the config in the body of ``POST /configs/create``.

    Args:
        data: the body.

    Raises:
        Forbidden: it is not for a job.
    """
    found = _object(data)
    if set(found) != {"Name", "Labels", "Data"} or not (is_of_job(found["Labels"]) or is_file(found["Labels"])):
        said = f"a config must have Name, Labels and Data alone, and the label {LABEL_JOB} or {LABEL_FILE}"
        raise Forbidden(said)
    if not isinstance(found["Name"], str) or not isinstance(found["Data"], str):
        raise Forbidden("a config's Name and Data must be texts")
    return found

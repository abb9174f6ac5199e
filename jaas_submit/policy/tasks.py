"""PURE: what a task may use and where it may run; and what the policy adds to its request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from jaas_submit.model.bounds import shown
from jaas_submit.model.fields import Constraint
from jaas_submit.policy.facts import Context, Refusal
from jaas_submit.policy.names import matches
from jaas_submit.policy.rules import Memory, Resource, Rules

__all__ = ["check_task", "completed"]


class _Kind(NamedTuple):
    name: str
    key: str
    unit: float
    """How many of the request's units are one of the policy's."""
    field: str
    """Of the description: its limit."""


_KINDS: Final = (
    _Kind("cpus", "NanoCPUs", 1e9, "limits.cpus"),
    _Kind("memory", "MemoryBytes", 1, "limits.memory"),
    _Kind("pids", "Pids", 1, "pids_limit"),
)

_STOPPED: Final = "node.id==none"
"""What jaas puts in the place of all constraints when it stops a service."""


def completed(request: Mapping[str, Any], rules: Rules, own_pids: int | None = None) -> dict[str, Any]:
    """Return a request with the limits, constraints and settings that the policy adds.

    Args:
        request: body of ``POST /services/create``; it is not changed.
        rules: those that hold.
        own_pids: the job's own limit of processes; None: that of the request is the worker's setting.
    """
    task = dict(request["TaskTemplate"])
    resources = dict(task.get("Resources") or {})
    limits = dict(resources.get("Limits") or {})
    reserved = resources.get("Reservations") or {}
    for kind in _KINDS:
        default = getattr(rules.resources, kind.name).default
        if default is not None and not limits.get(kind.key):
            limits[kind.key] = max(int(default * kind.unit), reserved.get(kind.key) or 0)
    if own_pids is None and (processes := _processes(limits.get("Pids") or 0, rules.resources.pids)):
        limits["Pids"] = processes
    if limits != (resources.get("Limits") or {}):
        task["Resources"] = {**resources, "Limits": limits}
    placement = task.get("Placement") or {}
    named = list(placement.get("Constraints") or ())
    more = [text for text in rules.placement.add if text not in named]
    if more and named != [_STOPPED]:
        task["Placement"] = {**placement, "Constraints": [*named, *more]}
    container = task.get("ContainerSpec") or {}
    privileges = container.get("Privileges") or {}
    if rules.no_new_privileges and privileges.get("NoNewPrivileges") is None:
        task["ContainerSpec"] = {**container, "Privileges": {**privileges, "NoNewPrivileges": True}}
    return {**request, "TaskTemplate": task}


def _processes(setting: int, rule: Resource) -> int:
    """Return how many processes a container of a job that asks for no number may have; 0 where nothing limits them.

    That of the request is the worker's own setting, so the least of all numbers holds.
    """
    numbers = [number for number in (setting, rule.default, rule.maximum) if number is not None and number > 0]
    return max(int(min(numbers)), 1) if numbers else 0


def check_task(task: Mapping[str, Any], rules: Rules, context: Context) -> Iterator[Refusal]:
    """Yield what a task may not use, and where it may not run.

    Args:
        task: the request's ``TaskTemplate``, with what the policy adds.
        rules: those that hold.
        context: what else is known of the job.
    """
    resources = task.get("Resources") or {}
    limits, reserved = resources.get("Limits") or {}, resources.get("Reservations") or {}
    for kind in _KINDS:
        yield from _resource(kind, limits.get(kind.key) or 0, reserved.get(kind.key) or 0, rules)
    yield from _placement(task.get("Placement") or {}, rules)
    yield from _log_driver(task.get("LogDriver") or {}, rules, context)
    if rules.run_timeout is not None and not (context.run_timeout and context.run_timeout <= rules.run_timeout):
        said = f"must be given, and {rules.run_timeout:g} s at most; rules.run_timeout says so"
        yield Refusal("run_timeout", "run_timeout", said)
    if rules.attempts is not None and context.attempts > rules.attempts:
        said = f"may be {rules.attempts} at most; rules.attempts says so"
        yield Refusal("attempts", "retry.max_attempts", said)


def _resource(kind: _Kind, limit: float, reserved: float, rules: Rules) -> Iterator[Refusal]:
    rule: Resource | Memory = getattr(rules.resources, kind.name)
    most = rule.maximum
    if not limit and (rule.required or most is not None):
        said = f"must be given; or rules.resources.{kind.name}.default gives one"
        yield Refusal(f"resources.{kind.name}", kind.field, said)
    for where, value in ((kind.field, limit), (f"reservations.{kind.name}", reserved)):
        if most is not None and value > most * kind.unit:
            said = f"may be {most:,g} at most; rules.resources.{kind.name}.maximum says so"
            yield Refusal(f"resources.{kind.name}", where, said)


def _placement(placement: Mapping[str, Any], rules: Rules) -> Iterator[Refusal]:
    added = {_same(text) for text in rules.placement.add}
    for number, text in enumerate(placement.get("Constraints") or ()):
        plain = _same(str(text))
        # jaas' own: a retry that avoids a node, and a stop. Both leave fewer nodes.
        own = plain == _STOPPED or plain.startswith("node.id!=")
        if not own and plain not in added and not matches(plain, rules.placement.allow):
            said = f"{shown(plain)} is not allowed; rules.placement.allow lists constraints"
            yield Refusal("placement.allow", f"constraints.{number}", said)


def _same(text: str) -> str:
    """Return a constraint in one form of writing."""
    try:
        found = Constraint.parse(text)
    except ValueError:
        return text
    key = found.key if ".labels." in found.key.lower() else found.key.lower()
    return f"{key}{'==' if found.equal else '!='}{found.value.strip()}"


def _log_driver(driver: Mapping[str, Any], rules: Rules, context: Context) -> Iterator[Refusal]:
    name, options = str(driver.get("Name") or ""), driver.get("Options") or {}
    if (name, options) == (context.log_driver, dict(context.log_options)) or not driver:
        return
    if not matches(name, rules.log_drivers):
        what = f"{shown(name)} is not allowed" if name else "options of the engine's own driver are not allowed"
        yield Refusal("log_drivers", "log_driver", f"{what}; rules.log_drivers lists drivers")

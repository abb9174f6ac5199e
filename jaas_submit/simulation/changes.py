"""PURE: the rules and the cluster of a simulation, and what is changed in them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Final

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown
from jaas_submit.queues.rules import GroupRules, QueueRules, Rules, TenantRules

__all__ = ["ModelNodes", "changed_nodes", "changed_rules", "read_rules"]

_PARTS: Final[dict[str, tuple[str, type[Any]]]] = {
    "queue": ("queues", QueueRules),
    "tenant": ("tenants", TenantRules),
    "group": ("groups", GroupRules),
}
_WHOLE: Final = tuple(field.name for field in fields(Rules) if field.default is not MISSING)
"""Fields of ``Rules`` that are one value."""


@dataclass(frozen=True, slots=True)
class ModelNodes:
    """The nodes of a model cluster, all alike."""

    count: int
    cpus: float
    memory: int
    """Bytes of each."""


def read_rules(said: Mapping[str, Any]) -> Rules:
    """Return the rules in a JSON object.

    Args:
        said: such as ``{"queues": {"payroll": {"priority": 9}}, "groups": {"db": {"capacity": 2}}, "look_ahead": 4}``.

    Raises:
        SpecError: a name or value is wrong.
    """
    rules: dict[str, Any] = {}
    kinds = dict(_PARTS.values())
    for name, value in said.items():
        if name in kinds:
            if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
                raise SpecError(f"{name}: must be an object of objects", field=name)
            rules[name] = {one: _made(f"{name}.{one}", kinds[name], each) for one, each in value.items()}
        elif name in _WHOLE:
            rules[name] = value
        else:
            raise SpecError(f"{shown(str(name))}: is no rule; there are {', '.join([*kinds, *_WHOLE])}")
    return Rules(**rules)


def _made(where: str, kind: type[Any], said: Mapping[str, Any]) -> Any:
    known = [field.name for field in fields(kind)]
    if unknown := said.keys() - set(known):
        raise SpecError(f"{shown(where)}: has no field {shown(min(unknown))}; it has {', '.join(known)}")
    try:
        return kind(**said)
    except TypeError:
        needed = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]
        raise SpecError(f"{shown(where)}: needs {', '.join(needed)}") from None


def changed_rules(rules: Rules, changes: Sequence[str]) -> Rules:
    """Return rules with some values replaced.

    Args:
        rules: the rules before.
        changes: such as ``queue.crawl.priority=1``, ``tenant.research.weight=3``, ``group.db.capacity=2`` or
            ``look_ahead=8``. The value is JSON, or a text.

    Raises:
        SpecError: a change names nothing that there is, or the value is wrong.
    """
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals:
            raise SpecError(f"--set: {shown(change)} has no '='; write queue.NAME.priority=1")
        value = _value(text)
        if path in _WHOLE:
            rules = replace(rules, **{path: value})
            continue
        kind, _, rest = path.partition(".")
        name, _, field = rest.rpartition(".")  # names may have dots
        if kind not in _PARTS or not name or not field:
            known = "queue.NAME.FIELD, tenant.NAME.FIELD, group.NAME.FIELD"
            raise SpecError(f"--set: {shown(path)} is no rule; there are {known}, {', '.join(_WHOLE)}")
        part, made = _PARTS[kind]
        before = getattr(rules, part)
        now = {each.name: getattr(before[name], each.name) for each in fields(made)} if name in before else {}
        part_now: dict[str, Any] = {part: {**before, name: _made(f"{kind}.{name}", made, {**now, field: value})}}
        rules = replace(rules, **part_now)
    return rules


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def changed_nodes(nodes: ModelNodes, changes: Sequence[str]) -> ModelNodes:
    """Return a cluster with more or fewer nodes.

    Args:
        nodes: the cluster before.
        changes: ``+2``, ``-1``, or ``10`` for so many in all.

    Raises:
        SpecError: it is no number, or no node is left.
    """
    for change in changes:
        if not re.fullmatch(r"[+-]?[0-9]{1,5}", change):
            raise SpecError(f"--nodes: {shown(change)} is no number of nodes; write 10, +2 or -1", field="nodes")
        count = nodes.count + int(change) if change[0] in "+-" else int(change)
        nodes = replace(nodes, count=count)
    if nodes.count < 1:
        raise SpecError("--nodes: no node is left; give 1 at least", field="nodes")
    return nodes

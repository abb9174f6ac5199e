"""PURE: the table of a container's options, as a request has them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from jaas_submit.model.service_options.fields import ServiceOptions
from jaas_submit.model.service_options.table import CONTAINER_OPTIONS, Shape
from jaas_submit.model.service_options.values import Ulimit

__all__ = ["set_options"]


def _same(value: Any) -> Any:
    return value


def _host_lines(hosts: Sequence[str]) -> list[str]:
    """Return lines of /etc/hosts: the address comes first there."""
    pairs = [host.partition(":") for host in hosts]
    return [f"{address} {name}" for name, _, address in pairs]


def _limits(ulimits: Mapping[str, Ulimit]) -> list[dict[str, Any]]:
    return [{"Name": name, "Soft": one.soft, "Hard": one.hard} for name, one in ulimits.items()]


def _counts(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"DiscreteResourceSpec": {"Kind": kind, "Value": count}} for kind, count in counts.items()]


_WRITERS: Final[Mapping[Shape, Callable[[Any], Any]]] = {
    "texts": list,
    "map": dict,
    "truth": _same,
    "number": _same,
    "text": _same,
    "hosts": _host_lines,
    "ulimits": _limits,
    "counts": _counts,
}


@functools.cache
def _defaults(kind: type[ServiceOptions]) -> Mapping[str, Any]:
    fields = kind.model_fields
    return {one.field: fields[one.field].get_default(call_default_factory=True) for one in CONTAINER_OPTIONS}


def set_options(task: dict[str, Any], spec: ServiceOptions) -> None:
    """Put a container's options into a request; those with their default stay out of it.

    Args:
        task: its ``TaskTemplate``, which is changed. What a map there has already stays: jaas' own labels.
        spec: the description.
    """
    defaults = _defaults(type(spec))
    for option in CONTAINER_OPTIONS:
        value = getattr(spec, option.field)
        if value == defaults[option.field]:
            continue
        *parents, name = option.place.split(".")
        part = task
        for parent in parents:
            part = part.setdefault(parent, {})
        written = _WRITERS[option.shape](value)
        part[name] = {**written, **part.get(name, {})} if option.shape == "map" else written

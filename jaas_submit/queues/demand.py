"""PURE: what a job asks for, as far as it decides when the job may start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown
from jaas_submit.queues.rates import Rate

__all__ = ["Demand"]

_MOST_KEYS = 16


@dataclass(frozen=True, slots=True)
class Demand:
    """What all jobs of one line ask for; ``of`` checks what users wrote."""

    cpus: float = 0.0
    """Cores that must be free."""
    memory: int = 0
    """Bytes of memory that must be free."""
    nodes: str = ""
    """Class of nodes that may take it, by its constraints and its image's platforms (``Nodes.classes``)."""
    kind: str = ""
    """What its run time is measured by: its image, and a label if one is set."""
    groups: tuple[tuple[str, int], ...] = ()
    """Concurrency groups, each with how much of it the job holds."""
    rates: tuple[tuple[str, Rate], ...] = ()
    """Keys of rate limits."""
    singleton: str = ""
    """Key of which one job at a time is active; empty for none."""
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Demands are parts of keys, which are looked up for every decision.
        parts = (self.cpus, self.memory, self.nodes, self.kind, self.groups, self.rates, self.singleton)
        object.__setattr__(self, "_hash", hash(parts))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(
        cls,
        *,
        cpus: float | None = None,
        memory: int | None = None,
        nodes: str = "",
        kind: str = "",
        groups: Mapping[str, int] | None = None,
        rates: Mapping[str, str] | None = None,
        singleton: str | None = None,
    ) -> Self:
        """Return what a job asks for.

        Args:
            cpus: cores that it reserves.
            memory: bytes that it reserves.
            nodes: its class of nodes.
            kind: its image and label.
            groups: ``{"db": 1}``.
            rates: ``{"example.com": "10/s"}``.
            singleton: its key.

        Raises:
            SpecError: groups, rates or the key are wrong; the text names the field and the fix.
        """
        for name, given in (("groups", groups), ("rate", rates)):
            if given and len(given) > _MOST_KEYS:
                raise SpecError(f"{name}: has {len(given)} entries; give at most {_MOST_KEYS}", field=name)
        for name, weight in (groups or {}).items():
            if not isinstance(weight, int) or isinstance(weight, bool) or weight < 1:
                raise SpecError(
                    f"groups: the weight of {shown(name)} must be a whole number of 1 or more", field="groups"
                )
        return cls(
            cpus=cpus or 0.0,
            memory=memory or 0,
            nodes=nodes,
            kind=kind,
            groups=tuple(sorted((groups or {}).items())),
            rates=tuple(sorted(((key, Rate.parse(text)) for key, text in (rates or {}).items()), key=lambda p: p[0])),
            singleton=singleton or "",
        )

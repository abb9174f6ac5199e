"""PURE: placement constraints, by the swarm's own grammar: what it would refuse is refused before it is asked."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from jaas_submit.model.bounds import bounded, shown

__all__ = ["Constraint"]

_MAX_CHARS: Final = 4096
_QUOTES: Final = frozenset("\"'`\u2018\u2019\u201c\u201d")

# Source: moby/swarmkit, manager/constraint/constraint.go, ``Parse``: case does not count, and only ASCII is taken.
_CONSTRAINT = re.compile(
    r"([a-zA-Z_][a-zA-Z0-9_.-]++)[ \t\n\f\r]*+(==|!=)[ \t\n\f\r]*+([a-zA-Z0-9:_ \t\n\f\r.*()?+\[\]\\^$|/-]++)\Z"
)
_KEY = re.compile(r"(?:node\.(?:id|hostname|role|ip|platform\.(?:os|arch)|labels\..++)|engine\.labels\..++)\Z")


class Constraint(NamedTuple):
    """What a node must be, or must not be, to be given a job."""

    key: str
    """As it was written: the name of a label keeps its case."""
    equal: bool
    """Whether the node's value must be this one, or any other."""
    value: str

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Return the constraint that a text holds.

        Args:
            text: such as ``node.labels.disk==ssd``.

        Raises:
            ValueError: the swarm would refuse it, or no node could ever meet it, as nothing has such a key.
        """
        found = _CONSTRAINT.match(bounded(text, _MAX_CHARS).strip())
        if found is None or not _KEY.match(found[1].lower()):
            fix = "leave the quotes out" if _QUOTES & set(text) else "write KEY==VALUE or KEY!=VALUE"
            raise ValueError(
                f"'{shown(text)}' is no placement constraint; {fix}, such as node.role==worker or "
                "node.labels.disk==ssd (a value may have ASCII letters, digits, blanks and :-_.*()?+[]\\^$|/)"
            )
        return cls(found[1], found[2] == "==", found[3])

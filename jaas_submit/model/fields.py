"""Field types of a job description, and the small objects that it is made of."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from jaas_submit.model.bounds import bounded, parse_duration, parse_size, shown
from jaas_submit.model.logs import LogStatus
from jaas_submit.model.states import read_as

__all__ = [
    "AbsolutePath",
    "Constraint",
    "Duration",
    "Gather",
    "LogDriverName",
    "Model",
    "Name",
    "PositiveDuration",
    "Resources",
    "Size",
    "StoredLogStatus",
    "Text",
    "Words",
    "parse_duration",
    "parse_size",
]


def _words(value: object) -> object:
    if isinstance(value, str):
        raise ValueError('give a list of words, such as ["sh", "-c", "echo hello"], so that nothing is split by guess')
    return value


StoredLogStatus = Annotated[LogStatus, BeforeValidator(partial(read_as, LogStatus))]
"""A newer version may have written it: an unknown word is kept."""
Duration = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=float | str)]
PositiveDuration = Annotated[
    float, BeforeValidator(parse_duration, json_schema_input_type=float | str), Field(gt=0, description="seconds")
]
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$")]
LogDriverName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-zA-Z0-9_./:-]{0,127}$")]
"""Also that of a plugin, such as ``grafana/loki-docker-driver:main``."""
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
Words = Annotated[
    tuple[Annotated[str, StringConstraints(max_length=128 * 1024)], ...],
    BeforeValidator(_words),
    Field(max_length=4096),
]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00]*$", max_length=4096)]


class Model(BaseModel):
    """A part of a job description: immutable, without unknown fields.

    Raises:
        pydantic.ValidationError: a field is wrong, if a part is made alone; ``JobSpec`` raises SpecError.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False, hide_input_in_errors=True)


class Resources(Model):
    """Resources that the container may use (limits), or that must be free on its node (reservations)."""

    cpus: float | None = Field(default=None, ge=0.001, le=4096, description="CPU cores, such as 0.5")
    memory: Size | None = Field(default=None, ge=6 * 1024**2, description="bytes, or a text such as 512M; at least 6M")


class Gather(Model):
    """Which outputs a reduce job gets: those of some consecutive jobs of a batch."""

    batch: Name
    first: int = Field(default=0, ge=0, description="index of the first job")
    count: int = Field(ge=0, le=100_000, description="how many jobs")


_MAX_CONSTRAINT: Final = 4096
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
        found = _CONSTRAINT.match(bounded(text, _MAX_CONSTRAINT).strip())
        if found is None or not _KEY.match(found[1].lower()):
            fix = "leave the quotes out" if _QUOTES & set(text) else "write KEY==VALUE or KEY!=VALUE"
            raise ValueError(
                f"'{shown(text)}' is no placement constraint; {fix}, such as node.role==worker or "
                "node.labels.disk==ssd (a value may have ASCII letters, digits, blanks and :-_.*()?+[]\\^$|/)"
            )
        return cls(found[1], found[2] == "==", found[3])

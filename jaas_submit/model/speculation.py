"""When a slow job of a batch is started a second time. jaas_worker/decisions/speculation.py decides by it.

The rule is that of Spark's ``spark.speculation`` (quantile and multiplier) and of MapReduce's backup tasks (Dean and
Ghemawat, "MapReduce: Simplified Data Processing on Large Clusters", 2004, section 3.6).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationError

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown
from jaas_submit.model.fields import Duration, Model
from jaas_submit.model.validation import spec_error

__all__ = ["Speculation", "in_full"]


class Speculation(Model):
    """Whether and when the slowest jobs of a batch are started a second time; the first success counts.

    Raises:
        pydantic.ValidationError: a field is wrong.
    """

    factor: float = Field(
        default=2.0,
        gt=1,
        le=1000,
        description="a job is slow that has run so many times as long as half of those that succeeded",
    )
    after: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.75, description="part of the batch's jobs that must have ended before any is started a second time"
    )
    least: Duration = Field(default=10.0, description="seconds that a job must have run in any case")
    most: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="part of the batch's jobs that may run twice at the same time; one always may"
    )

    @classmethod
    def of(cls, value: Speculation | float | dict[str, object] | None) -> Speculation | None:
        """Return what a producer asks for.

        Args:
            value: the object, or only the factor; None or False for no speculation, True for the defaults.

        Raises:
            SpecError: it is not valid.
        """
        try:
            return None if (fields := in_full(value)) is None else cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = ".".join(["speculate", *(shown(str(part)) or "''" for part in first["loc"])])
            found = spec_error(error)
            text = str(found).removeprefix(f"{found.field}: ")
            if first["type"] == "extra_forbidden":
                text = f"is no field of it; there are {', '.join(cls.model_fields)}"
            raise SpecError(f"{name}: {text}", field=name) from None


def in_full(value: object) -> object:
    """Return an object if only the factor, or yes or no, is given."""
    if value is None or value is False:
        return None
    return {} if value is True else value if isinstance(value, dict | Speculation) else {"factor": value}

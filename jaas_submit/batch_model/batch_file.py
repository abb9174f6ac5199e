"""What a batch file may hold."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from jaas_submit.batch_model.failure_limit import max_failures_text
from jaas_submit.errors import SpecError
from jaas_submit.model.speculation import Speculation, in_full

__all__ = ["BatchFile"]


def _limit(value: Any) -> str | None:
    try:
        return max_failures_text(value)
    except SpecError as error:
        raise ValueError(str(error).removeprefix("max_failures: ")) from None


class BatchFile(BaseModel):
    """What a batch file may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: dict[str, Any] = Field(default_factory=dict, description="the description of each job (`jaas schema`)")
    inputs: list[Any] | None = None
    inputs_file: str | None = Field(None, description="relative to the batch file")
    reduce: dict[str, Any] | None = Field(None, description="the description of the reduce jobs")
    name: str = ""
    max_parallel: int | None = Field(None, ge=1)
    min_success: float | None = Field(
        None, ge=0, le=1, description="part of the jobs that must succeed; the batch stops when it cannot be reached"
    )
    max_failures: Annotated[str | None, BeforeValidator(_limit, json_schema_input_type=int | float | str | None)] = (
        Field(None, description="how many jobs may fail, such as 3 or 10%; one more stops the batch")
    )
    speculate: Annotated[
        Speculation | None,
        BeforeValidator(in_full, json_schema_input_type=Speculation | float | bool | None),
    ] = Field(None, description="when slow jobs are started a second time: the factor alone, or an object")
    key: str | None = None
    as_file: bool | None = None
    fan_in: int = Field(256, ge=2)

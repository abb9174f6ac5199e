"""What a batch file may hold."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from jaas_submit.model.speculation import Speculation, in_full

__all__ = ["BatchFile"]


class BatchFile(BaseModel):
    """What a batch file may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: dict[str, Any] = Field(default_factory=dict, description="the description of each job (`jaas schema`)")
    inputs: list[Any] | None = None
    inputs_file: str | None = Field(None, description="relative to the batch file")
    reduce: dict[str, Any] | None = Field(None, description="the description of the reduce jobs")
    name: str = ""
    max_parallel: int | None = Field(None, ge=1)
    min_success: float = Field(1.0, ge=0, le=1)
    speculate: Annotated[
        Speculation | None,
        BeforeValidator(in_full, json_schema_input_type=Speculation | float | bool | None),
    ] = Field(None, description="when slow jobs are started a second time: the factor alone, or an object")
    key: str | None = None
    as_file: bool | None = None
    fan_in: int = Field(256, ge=2)

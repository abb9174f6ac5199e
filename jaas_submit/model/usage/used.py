"""PURE: what the container of an attempt used, as its node's agent measured it."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from jaas_submit.model.usage import MOST_POINTS

__all__ = ["Usage", "UsagePoint", "Used"]

# Agents write these numbers: what no container can have used is refused.
_Seconds = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]
_Bytes = Annotated[int, Field(ge=0, lt=2**63)]


class UsagePoint(NamedTuple):
    """One point of a series."""

    seconds: _Seconds
    """Since the container was first measured."""
    cpu_seconds: _Seconds
    """Processor time until then."""
    memory: _Bytes
    """Bytes of memory at that time."""


class Used(BaseModel):
    """What a container used until its last sample. Null where it was not measured, never 0 in its stead."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cpu_seconds: _Seconds | None = Field(None, description="processor time of all its processes, on all cores")
    peak_memory: _Bytes | None = Field(
        None, description="most bytes of memory at once, with cached files that the kernel counts to the container"
    )
    read_bytes: _Bytes | None = Field(None, description="bytes read from block devices")
    written_bytes: _Bytes | None = Field(None, description="bytes written to block devices")
    received_bytes: _Bytes | None = Field(None, description="bytes received over networks")
    sent_bytes: _Bytes | None = Field(None, description="bytes sent over networks")
    sample_age: _Seconds | None = Field(
        None, description="seconds between the last sample and the container's end; 0 when it was taken at the end"
    )
    series: tuple[UsagePoint, ...] = Field(
        (),
        max_length=MOST_POINTS,
        description="of a longer run: seconds since the first sample, processor time until then, bytes of memory then",
    )


class Usage(Used):
    """What the last attempt's container used, beside what the job had reserved."""

    reserved_cpus: float | None = Field(None, description="cores that the description reserves")
    reserved_memory: int | None = Field(None, description="bytes of memory that the description reserves")

    @classmethod
    def of(cls, used: Used, cpus: float | None, memory: int | None) -> Usage:
        """Return what was used, beside what was reserved.

        Args:
            used: by the container.
            cpus: cores reserved.
            memory: bytes reserved.
        """
        return cls.model_validate({**used.model_dump(), "reserved_cpus": cpus, "reserved_memory": memory})

"""What a job may request when an attempt fails. jaas_worker/decisions/retry.py decides by it.

The rules follow AWS Batch's ``evaluateOnExit`` and Kubernetes' ``podFailurePolicy``: an ordered list, the first match
decides.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from jaas_submit.model.bounds import bounded
from jaas_submit.model.causes import CLUSTER_CAUSES, Cause
from jaas_submit.model.fields import Duration, Model, Size

__all__ = ["MAX_ATTEMPTS", "Backoff", "RetryPolicy", "RetryRule"]

MAX_ATTEMPTS = 1000
"""The maximum number of attempts of a job, whatever its rules say."""

_RANGE = re.compile(r"(\d{1,3})(?:\s*+-\s*+(\d{1,3}))?\Z")


def _code_range(value: object) -> object:
    """Return a whole number, or a text such as ``64-78``, as (first, last)."""
    if isinstance(value, bool):
        raise ValueError("give an exit code such as 4, or a range such as 64-78")
    if isinstance(value, int):
        value = str(value) if 0 <= value <= 999 else ""
    if isinstance(value, str):
        match = _RANGE.match(bounded(value, 16).strip())
        if not match:
            raise ValueError("give an exit code such as 4, or a range such as 64-78")
        return int(match[1]), int(match[2] or match[1])
    return value


def _one_or_more(value: object) -> object:
    """Accept one value where a list is meant."""
    return [value] if isinstance(value, str | int) and not isinstance(value, bool) else value


CodeRange = Annotated[
    tuple[Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]],
    BeforeValidator(_code_range, json_schema_input_type=int | str | tuple[int, int]),
]


class RetryRule(Model):
    """One rule: all its fields must match; an omitted field matches everything."""

    action: Literal["retry", "fail", "ignore"] = Field(
        description="retry: again while the budget lasts; fail: give up at once; ignore: again, without counting "
        "the attempt"
    )
    causes: Annotated[tuple[Cause, ...], BeforeValidator(_one_or_more)] = Field(
        default=(), description="which causes; empty: any"
    )
    exit_codes: Annotated[tuple[CodeRange, ...], BeforeValidator(_one_or_more)] = Field(
        default=(), max_length=64, description="which exit codes, such as [4, '64-78']; empty: any, or no exit code"
    )
    # No regular expression: a backtracking one could block every worker that takes the job.
    reason: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="text to be found in the reason; * stands for any text, upper and lower case are the same",
    )

    @field_validator("exit_codes")
    @classmethod
    def _ranges_ascend(cls, value: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        for first, last in value:
            if first > last:
                raise ValueError(f"{first}-{last} is empty; write the smaller exit code first")
        return value


class Backoff(Model):
    """How long to wait before the next attempt."""

    kind: Literal["constant", "exponential"] = "exponential"
    delay: Duration = Field(default=1.0, le=7 * 86400, description="seconds before the first retry")
    factor: float = Field(
        default=2.0, ge=1, le=100, description="exponential: the delay grows so many times with each retry"
    )
    cap: Duration = Field(default=300.0, le=7 * 86400, description="seconds that no delay exceeds")
    jitter: Literal["full", "none"] = Field(
        default="full", description="full: a random part of the delay, so that many jobs do not come back at once"
    )


class RetryPolicy(Model):
    """When a job is attempted again. By default never: nothing runs twice unless requested."""

    max_attempts: int = Field(
        default=1, ge=1, le=MAX_ATTEMPTS, description="attempts that may end by the job's own fault, the first included"
    )
    max_cluster_retries: int = Field(
        default=0,
        ge=0,
        le=MAX_ATTEMPTS,
        description="further attempts after those that ended by the cluster's fault: "
        + ", ".join(sorted(CLUSTER_CAUSES)),
    )
    rules: tuple[RetryRule, ...] = Field(default=(), max_length=64, description="the first that matches decides")
    backoff: Backoff = Backoff()
    avoid_failed_nodes: bool = Field(
        default=False, description="the next attempt goes to another node, if there is one"
    )
    memory_factor: float | None = Field(
        default=None, gt=1, le=16, description="after an attempt that ran out of memory, the limit grows so many times"
    )
    memory_cap: Size | None = Field(default=None, description="bytes that the memory limit never grows beyond")

    @model_validator(mode="after")
    def _cap_needs_factor(self) -> Self:
        if self.memory_cap is not None and self.memory_factor is None:
            raise ValueError("memory_cap: means nothing without memory_factor; set that too, such as 2")
        return self

"""What a job may come after, and on which outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from jaas_submit.client.batch import BatchReference
from jaas_submit.client.job_handle import JobReference
from jaas_submit.errors import SpecError

__all__ = ["Dependency", "On", "dependencies"]

Dependency = JobReference | BatchReference | str
"""What a job may come after: a handle, a batch (of either client), or a job's id."""

On = Literal["success", "failure", "finish"]
"""The outcome of a job or batch that its dependents require."""


def dependencies(after: Sequence[Dependency], on: On) -> tuple[tuple[str, str], ...]:
    """Return a job's dependencies for the ledger: id (or ``batch:ID``) and required outcome of each.

    Args:
        after: what the job comes after.
        on: the required outcome of all of them.

    Raises:
        SpecError: one of the two is invalid.
    """
    if on not in get_args(On):
        raise SpecError(f"on: must be success, failure or finish, not {on!r}", field="on")
    if isinstance(after, Dependency):
        raise SpecError("after: give a list, such as [handle]", field="after")
    return tuple((_named(one), on) for one in after)


def _named(one: Dependency) -> str:
    if isinstance(one, BatchReference):
        return f"batch:{one.id}"
    return one.id if isinstance(one, JobReference) else str(one)

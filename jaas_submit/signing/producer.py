"""PURE: who has submitted a job, where that is proven."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Producer"]


class Producer(NamedTuple):
    """A producer whose signature has been verified.

    Args:
        name: as the verifying keys' file has it.
        tenant: to which it belongs, for the policy, whatever the job's label says; empty for none.
    """

    name: str
    tenant: str = ""

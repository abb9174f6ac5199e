"""PURE: who has submitted a job, as far as that is proven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["LABEL_TENANT", "Producer", "tenant_of"]

LABEL_TENANT: Final = "jaas.tenant"
"""Label by which an unsigned job names its tenant."""


class Producer(NamedTuple):
    """A producer whose signature has been verified.

    Args:
        name: as the verifying keys' file has it.
        tenant: to which it belongs; empty for none.
    """

    name: str
    tenant: str = ""


def tenant_of(producer: Producer | None, labels: Mapping[str, str], *, required: bool) -> str:
    """Return the tenant of a job; empty for none.

    Args:
        producer: whose signature was verified; None for an unsigned job.
        labels: the job's, which anybody may have written: they count only for an unsigned job.
        required: whether signatures are required, so that labels never count.
    """
    if producer is not None:
        return producer.tenant
    return "" if required else labels.get(LABEL_TENANT, "")

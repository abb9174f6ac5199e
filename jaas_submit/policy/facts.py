"""PURE: what a decision is made of, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from jaas_submit.errors import PermanentError

__all__ = [
    "LABEL_TENANT",
    "Context",
    "Decision",
    "EngineAge",
    "Facts",
    "NetworkFacts",
    "PolicyRefused",
    "Reference",
    "Refusal",
    "is_for_jobs",
    "is_of_jaas",
]

LABEL_TENANT: Final = "jaas.tenant"
"""Label of a job: whose it is, by its producer's own words."""

_LABEL_JOBS: Final = "jaas.jobs"
_LABEL_CONTROL: Final = "jaas.control"
_ALLOW: Final = "allow"


class PolicyRefused(PermanentError):
    """The policy does not allow what a job asks for; the text names the field, the rule and what would allow it."""


class Reference(NamedTuple):
    """A secret or a config of the swarm."""

    name: str
    labels: Mapping[str, str]


class NetworkFacts(NamedTuple):
    """A network, as the engine describes it."""

    id: str
    name: str
    driver: str
    scope: str
    attachable: bool
    labels: Mapping[str, str]


class EngineAge(NamedTuple):
    """An engine that has to understand the request."""

    where: str
    """Such as ``the manager`` or ``node a``."""
    api: tuple[int, int] | None
    """The newest API version that it knows; None if that is not known."""


@dataclass(frozen=True)
class Facts:
    """What the swarm says of the things that a request refers to. None: nobody has asked."""

    secrets: Mapping[str, Reference] | None = None
    """By id."""
    configs: Mapping[str, Reference] | None = None
    networks: Mapping[str, NetworkFacts] | None = None
    """By the name or id in the request."""
    engines: Sequence[EngineAge] = ()
    """The manager that is asked, and the nodes that may get the job."""


@dataclass(frozen=True)
class Context:
    """What is known of a job beside its request."""

    queue: str = ""
    """By which the job came, as workers have noted it; else the worker's own."""
    besides: tuple[str, ...] = ()
    """Further queues whose rules hold in addition: nobody knows by which one the job came."""
    tenant: str | None = None
    """By the job's own label."""
    producer: str | None = None
    """Who signed the description, where that was verified; then ``tenant`` is what that producer maps to."""
    run_timeout: float | None = None
    attempts: int = 1
    env_secrets: Mapping[str, str] = field(default_factory=dict)
    """Variable -> name of the secret that the worker puts in after the check."""
    pids_limit: int | None = None
    """The job's own; None: the request has the worker's setting."""
    log_driver: str = ""
    """The worker's own."""
    log_options: Mapping[str, str] = field(default_factory=dict)


class Refusal(NamedTuple):
    """One thing that the policy does not allow."""

    rule: str
    """Dotted name of the rule, such as ``mounts.binds``."""
    field: str
    """What it is about, such as ``mounts.0.source``."""
    sentence: str
    """Why, and the one setting that would allow it."""

    def __str__(self) -> str:
        return f"{self.field}: {self.sentence} (policy rule {self.rule})"


class Decision(NamedTuple):
    """What follows from a policy for one request."""

    request: dict[str, Any]
    """With the defaults and constraints that the policy adds, and networks by id."""
    refusals: tuple[Refusal, ...] = ()
    enforced: bool = True
    """False: the refusals are only to be told."""

    @property
    def refused(self) -> bool:
        """Whether the request must not be carried out."""
        return self.enforced and bool(self.refusals)

    @property
    def reason(self) -> str:
        """The first refusal, and how many more there are; empty without any."""
        if not self.refusals:
            return ""
        more = len(self.refusals) - 1
        return f"{self.refusals[0]}{f' (and {more} more)' if more else ''}"


def is_for_jobs(labels: Mapping[str, str]) -> bool:
    """Return whether something carries the label that opens it to jobs."""
    return labels.get(_LABEL_JOBS) == _ALLOW


def is_of_jaas(labels: Mapping[str, str]) -> bool:
    """Return whether something belongs to jaas itself: it has the label ``jaas.control``, as Redis' network has."""
    return _LABEL_CONTROL in labels

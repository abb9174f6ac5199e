"""PURE: what groups of jobs used, beside what they reserved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from jaas_submit.errors import SpecError
from jaas_submit.model.records import Attempt, JobRecord
from jaas_submit.placement.placement import size
from jaas_submit.usage.spread import Spread

__all__ = ["MOST_GROUPS", "NONE", "OTHERS", "Quantiles", "UsageGroup", "UsageReport", "group_key", "report"]

OTHERS: Final = "(others)"
"""The group of all that came after the first groups."""

NONE: Final = "(none)"
"""The group of jobs without such a label, or without a batch."""

MOST_GROUPS: Final = 1000

_FEW: Final = 5
"""Attempts that must have been measured before anything is advised."""

_MUCH: Final = 2.0
"""So many times as much as was needed is too much to reserve."""

_LITTLE_MEMORY, _LITTLE_CPUS = 64 * 2**20, 0.25
"""What is not worth advice."""

_SPARE: Final = 1.25
"""Part of the highest use that is advised."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Quantiles(_Model):
    """How a number is spread over attempts; null where none was measured."""

    p50: float | None = Field(None, description="half of them had no more, within 2 %")
    p95: float | None = Field(None, description="95 % of them had no more, within 2 %")
    max: float | None = Field(None, description="the highest")


class UsageGroup(_Model):
    """What one group of jobs used."""

    name: str = Field(description="its image, the label's value, its queue or its batch")
    attempts: int = Field(description="attempts that ran a container")
    measured: int = Field(description="those of them that were measured; all sums are of these")
    cpu_seconds: float = Field(description="processor time in all")
    read_bytes: int = Field(description="bytes read from block devices in all")
    written_bytes: int = Field(description="bytes written to block devices in all")
    received_bytes: int = Field(description="bytes received over networks in all")
    sent_bytes: int = Field(description="bytes sent over networks in all")
    cpu: Quantiles = Field(description="processor time of an attempt, in seconds")
    cores: Quantiles = Field(description="cores that an attempt used on average")
    memory: Quantiles = Field(description="peak memory of an attempt, in bytes")
    reserved_cpus: float | None = Field(None, description="most cores that one of them had reserved")
    reserved_memory: int | None = Field(None, description="most bytes that one of them had reserved")
    advice: tuple[str, ...] = Field((), description="what to reserve instead, where it differs much")


class UsageReport(_Model):
    """What groups of jobs used."""

    by: str = Field(description="image, queue, batch, or label=NAME")
    since: datetime = Field(description="only jobs that have ended since, and whose records are kept")
    jobs: int = Field(description="how many these are")
    groups: tuple[UsageGroup, ...] = Field((), description="those that used most processor time first")


def group_key(by: str) -> Callable[[JobRecord], str]:
    """Return what names a job's group.

    Args:
        by: ``image``, ``queue``, ``batch``, or ``label=NAME``.

    Raises:
        SpecError: it is none of these.
    """
    kind, _, label = by.partition("=")
    if by == "image":
        return lambda record: (record.spec.image if record.spec else "") or NONE
    if by == "queue":
        return lambda record: record.queue
    if by == "batch":
        return lambda record: record.batch or NONE
    if kind == "label" and label:
        return lambda record: record.spec.labels.get(label, NONE) if record.spec else NONE
    raise SpecError(f"by: must be image, queue, batch or label=NAME, not {by[:60]!r}", field="by")


def report(records: Iterable[JobRecord], by: str, since: datetime) -> UsageReport:
    """Return what jobs used, in groups.

    Args:
        records: of jobs that have ended, any number.
        by: see ``group_key``.
        since: of the report.

    Raises:
        SpecError: there is no such way to group.
    """
    key, groups, jobs = group_key(by), dict[str, _Group](), 0
    for record in records:
        jobs += 1
        name = key(record)
        if name not in groups and len(groups) >= MOST_GROUPS:
            name = OTHERS
        groups.setdefault(name, _Group()).add(record)
    found = sorted((group.told(name) for name, group in groups.items()), key=lambda one: (-one.cpu_seconds, one.name))
    return UsageReport(by=by, since=since, jobs=jobs, groups=tuple(found))


class _Group:
    """Adds up one group."""

    def __init__(self) -> None:
        self._attempts = 0
        self._measured = 0
        self._cpu, self._cores, self._memory = Spread(), Spread(), Spread()
        self._bytes = dict.fromkeys(("read_bytes", "written_bytes", "received_bytes", "sent_bytes"), 0)
        self._reserved_cpus: float | None = None
        self._reserved_memory: int | None = None

    def add(self, record: JobRecord) -> None:
        for attempt in record.attempts:
            if attempt.container_id is not None:
                self._attempts += 1
                self._add(attempt)
        if record.spec is not None:
            reserved = record.spec.reservations
            self._reserved_cpus = max(filter(None, (self._reserved_cpus, reserved.cpus)), default=None)
            self._reserved_memory = max(filter(None, (self._reserved_memory, reserved.memory)), default=None)

    def _add(self, attempt: Attempt) -> None:
        used = attempt.usage
        if used is None:
            return
        self._measured += 1
        self._cpu.add(used.cpu_seconds)
        self._memory.add(used.peak_memory)
        if used.cpu_seconds is not None and attempt.duration:
            self._cores.add(used.cpu_seconds / attempt.duration)
        for name in self._bytes:
            self._bytes[name] += getattr(used, name) or 0

    def told(self, name: str) -> UsageGroup:
        return UsageGroup(
            name=name,
            attempts=self._attempts,
            measured=self._measured,
            cpu_seconds=round(self._cpu.total, 3),
            **self._bytes,
            cpu=_quantiles(self._cpu),
            cores=_quantiles(self._cores),
            memory=_quantiles(self._memory),
            reserved_cpus=self._reserved_cpus,
            reserved_memory=self._reserved_memory,
            advice=tuple(self._advice()),
        )

    def _advice(self) -> Iterator[str]:
        if self._measured < _FEW:
            return
        reserved, used = self._reserved_memory or 0, self._memory.highest
        if used is not None and abs(reserved - used) > _LITTLE_MEMORY:
            enough = size(used * _SPARE)
            if reserved > _MUCH * used:
                yield f"reserves {size(reserved)} of memory and uses {size(used)} at most: {enough} would do"
            elif reserved and used > reserved:
                yield f"reserves {size(reserved)} of memory and uses up to {size(used)}: reserve {enough}"
        cpus, cores = self._reserved_cpus or 0.0, self._cores.at(0.95)
        if cores is not None and abs(cpus - cores) > _LITTLE_CPUS:
            if cpus > _MUCH * cores:
                yield f"reserves {cpus:g} cores and uses {cores:.2f} on average"
            elif cpus and cores > _MUCH * cpus:
                yield f"reserves {cpus:g} cores and uses {cores:.2f} on average: reserve more"


def _quantiles(spread: Spread) -> Quantiles:
    return Quantiles(p50=_rounded(spread.at(0.5)), p95=_rounded(spread.at(0.95)), max=_rounded(spread.highest))


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)

"""Which jobs of the ledger a command is about: by label, cause, batch, queue, time and fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from jaas_submit.cli.job_options import split_label
from jaas_submit.cli.listing import Listing
from jaas_submit.model.causes import Cause
from jaas_submit.model.states import JobState

if TYPE_CHECKING:
    from jaas_submit.client.client import Client
    from jaas_submit.model.records import JobRecord

__all__ = ["Selection", "batch_option", "cause_option", "find_jobs", "label_option"]

_CAUSES: Final = [str(cause) for cause in Cause]

label_option = click.option("--label", multiple=True, metavar="KEY[=VALUE]", help="Only jobs with this label.")
cause_option = click.option("--cause", type=click.Choice(_CAUSES), help="Only jobs that ended for this cause.")
batch_option = click.option("--batch", metavar="ID", help="Only jobs of this batch.")


class Selection(NamedTuple):
    """What was asked for."""

    labels: Sequence[str] = ()
    cause: str | None = None
    batch: str | None = None
    queue: str | None = None
    listing: Listing | None = None

    def checked(self, client: Client) -> Selection:
        """Return the same with the batch's whole id.

        Raises:
            UnknownJob: the batch is not known; an empty list would say that it has no such jobs.
        """
        if self.batch is None:
            return self
        whole = client.ledger.queries.full_id(self.batch, "batch")
        client.ledger.batches.get(whole)
        return self._replace(batch=whole)

    def matches(self, record: JobRecord) -> bool:
        """Return whether a job has all the labels, with any value where none is named, the cause, batch and queue."""
        if self.batch is not None and record.batch != self.batch:
            return False
        if self.queue is not None and record.queue != self.queue:
            return False
        if self.listing is not None and not self.listing.takes(record.created_at, _values(record)):
            return False
        has = record.spec.labels if record.spec else {}
        for text in self.labels:
            name, value = split_label(text)
            if name not in has or ("=" in text and has[name] != value):
                return False
        return self.cause is None or (record.last is not None and record.last.cause == self.cause)


def find_jobs(
    client: Client, state: JobState | None, wanted: Selection, limit: int | None = None
) -> Iterator[JobRecord]:
    """Yield up to ``limit`` jobs, youngest first, page by page."""
    page, offset = max(limit or 0, 100), 0
    seen: set[str] = set()
    while ids := client.ledger.queries.ids(state, page, offset):
        offset += page
        # While this reads, younger jobs move the others down the list.
        fresh = [job_id for job_id in ids if job_id not in seen]
        seen.update(fresh)
        for record in client.ledger.queries.find(fresh):
            if wanted.matches(record):
                yield record
                if limit is not None:
                    limit -= 1
                    if not limit:
                        return


def _values(record: JobRecord) -> dict[str, str]:
    """Return what ``--filter`` compares; labels are chosen as by --label."""
    spec, last = record.spec, record.last
    return {
        "state": record.state,
        "cause": str(last.cause) if last else "",
        "name": (spec and spec.name) or "",
        "image": spec.image if spec else "",
        "node": record.node or "",
        "queue": record.queue,
        "batch": record.batch,
        "exit": "" if last is None or last.exit_code is None else str(last.exit_code),
        "key": record.key,
        "id": record.id,
    }

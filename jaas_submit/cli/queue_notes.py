"""What the commands say at once about a queue whose jobs no worker takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from jaas_submit.cli.output import Progress
from jaas_submit.model.states import JobState

if TYPE_CHECKING:
    from jaas_submit.client.client import Client
    from jaas_submit.model.records import JobRecord

__all__ = ["say_of_queued", "say_why_not_taken"]


def say_why_not_taken(client: Client, queue: str, progress: Progress) -> None:
    """Say why no worker takes a queue's next job, if none does; the same sentence once.

    Args:
        client: which Redis and prefix.
        queue: the Celery queue.
        progress: where it is said.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    from jaas_submit.client.queries import why_not_taken

    if why := why_not_taken(client.ledger, queue):
        progress.say_once(f"queued, but {why}")


def say_of_queued(client: Client, records: Iterable[JobRecord], progress: Progress) -> None:
    """Say for each queue in a list of jobs why nobody takes what is QUEUED there.

    Args:
        client: which Redis and prefix.
        records: the jobs of the list.
        progress: where it is said.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    for queue in sorted({record.queue for record in records if record.state is JobState.QUEUED}):
        say_why_not_taken(client, queue, progress)

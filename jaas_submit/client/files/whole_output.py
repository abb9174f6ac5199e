"""The captured output of a job, with what the store has of it where the record has only head and tail."""

from __future__ import annotations

from jaas_submit.client import queries
from jaas_submit.client.session import Session
from jaas_submit.errors import JaasError
from jaas_submit.model.files.stored_logs import completed, logs_name
from jaas_submit.model.logs import Logs, LogStatus

__all__ = ["whole_output"]


def whole_output(session: Session, job_id: str, attempt: int | None) -> Logs:
    """Return the captured output of an attempt; see ``Client.logs``.

    Args:
        session: the connections.
        job_id: the job's id.
        attempt: which attempt; None means the last one.
    """
    number, kept = queries.numbered_logs(session.ledger, job_id, attempt)
    if session.store is None or kept.status is not LogStatus.TRUNCATED:
        return kept
    try:
        with session.store.opened(job_id, logs_name(number)) as file:
            return completed(kept, Logs.unpack(file.read()))
    except (JaasError, ValueError):  # it is not there, not whole, or the store does not answer: head and tail are true
        return kept

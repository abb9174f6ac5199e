"""Lines of the log about who did what, with actions that do not change."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from jaas_submit.model.records import AuditEntry
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["log_acts"]

logger = logging.getLogger(__name__)

_ACTIONS = {"submit": Action.AUDIT_SUBMIT, "cancel": Action.AUDIT_CANCEL}


def log_acts(job_id: str, acts: Iterable[AuditEntry]) -> None:
    """Write a line for each submission and cancellation.

    Args:
        job_id: the job's id.
        acts: what was done; other acts are left out.
    """
    for act in acts:
        if act.what in _ACTIONS:
            who = act.producer or act.by or "unknown"
            told = {"by": act.by, "producer": act.producer, "trust": act.trust, "detail": act.detail}
            what = "job %s: %s by %s (%s)"
            logger.info(what, job_id, act.what, who, act.trust, extra=action(_ACTIONS[act.what], job_id=job_id, **told))

"""PURE: what a job is in its batch, as labels of its services: a record that Redis has lost is made again from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaas_submit.model.bounds import whole
from jaas_submit.model.ids import copy_id_of, replaced_by
from jaas_submit.model.records import JobRecord
from jaas_submit.model.wire_names import LABEL_BATCH, LABEL_COPY_OF, LABEL_INDEX

__all__ = ["membership_labels", "membership_of"]


def membership_labels(record: JobRecord) -> dict[str, str]:
    """Return the labels of a job's place in its batch; none without a batch."""
    if not record.batch or record.index is None:
        return {}
    copy = {LABEL_COPY_OF: record.copy_of} if record.copy_of else {}
    return {LABEL_BATCH: record.batch, LABEL_INDEX: str(record.index), **copy}


def membership_of(labels: Mapping[str, str], job_id: str) -> dict[str, Any]:
    """Return batch, index, copy_of and replaces from a service's labels; nothing if they do not match the job's id.

    Args:
        labels: the service's labels.
        job_id: the job's id, which follows from batch and index, from the id of the job that it is a copy of, or from
            that of the job whose place in the batch it took.
    """
    batch, index, copy_of = labels.get(LABEL_BATCH, ""), labels.get(LABEL_INDEX, ""), labels.get(LABEL_COPY_OF, "")
    try:
        if copy_of:
            replaces = "" if job_id == copy_id_of(copy_of) else None
        else:
            replaces = replaced_by(job_id, batch, whole(index))
        if replaces is None:
            return {}
        return {"batch": batch, "index": whole(index), "copy_of": copy_of, "replaces": replaces}
    except ValueError:
        return {}

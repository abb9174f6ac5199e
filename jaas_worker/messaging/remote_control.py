"""Celery's remote control for jobs that no worker holds: revoke."""

from __future__ import annotations

from typing import Any

import kombu.matcher
from celery.worker import control

from jaas_submit.model.wire_names import job_id_of

__all__ = ["revoke"]

# A command may have a pattern for workers' names; as a regular expression it could take for ever.
kombu.matcher.unregister("pcre")


@control.control_command(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **more: Any) -> Any:
    """Do what Celery does, and cancel the jobs that wait (for a worker, for other jobs, for the next attempt).

    Celery only remembers the id, in this process, until it handles a message of the task. A job whose next
    attempt is due tomorrow would be shown as RETRY until then, and a restart of the workers would forget it.
    """
    ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
    answer = control.revoke(state, ids, terminate, signal, **more)  # type: ignore[attr-defined] # not in the stubs
    pool = state.app.jaas.pool
    for one in ids:
        pool.withdraw(job_id_of(one), terminate=terminate)
    return answer

"""Celery's remote control: revoke, also for jobs that no worker holds, and refusals of commands that cannot work.

Commands about the processes of a pool get an answer in one sentence; Celery's own commands fail with a traceback.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import kombu.matcher
from celery.worker import control

from jaas_submit.model.wire_names import TASK_RUN, job_id_of

__all__ = ["revoke", "time_limit"]

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


def _no_processes(command: str, _state: Any, **_: Any) -> Any:
    why = f"{command}: a worker of jaas has no pool of processes; JAAS_MAX_IN_FLIGHT says how many jobs it may run"
    return control.nok(why)  # type: ignore[attr-defined] # not in the stubs


for _command in ("pool_grow", "pool_shrink", "pool_restart", "autoscale"):
    _known = control.Panel.meta[_command]
    control.control_command(name=_command, help=_known.help, signature=_known.signature, args=_known.args)(
        partial(_no_processes, _command)
    )


@control.control_command(
    name="time_limit",
    args=[("task_name", str), ("soft", float), ("hard", float)],
    signature="<task_name> <soft_secs> [hard_secs]",
)
def time_limit(state: Any, task_name: Any = None, hard: Any = None, soft: Any = None, **more: Any) -> Any:
    """Do what Celery does for a task that is no job; a job's limits are in its description."""
    if task_name == TASK_RUN:
        why = f"time_limit: it would not reach the container of a {TASK_RUN}; set run_timeout in the job's description"
        return control.nok(why)  # type: ignore[attr-defined] # not in the stubs
    return control.time_limit(state, task_name, hard, soft, **more)  # type: ignore[attr-defined] # not in the stubs

"""Celery's remote control, cut down to revoke (also of jobs that no worker holds), ping, events and inspections.

Whoever can publish in Redis can send a command to all workers. All other commands get an answer in one sentence. The
setting JAAS_REMOTE_CONTROL turns all of it off.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import kombu.matcher
from celery.worker import control

from jaas_submit.model.wire_names import TASK_RUN, job_id_of

__all__ = ["ALLOWED", "REFUSED", "hello", "revoke", "time_limit"]

ALLOWED: Final = frozenset(
    (
        *("revoke", "revoke_by_stamped_headers", "terminate"),
        *("ping", "enable_events", "disable_events", "heartbeat"),
        *("active", "active_queues", "clock", "conf", "query_task", "registered", "report", "reserved", "revoked"),
        *("scheduled", "stats", "hello", "time_limit"),
    )
)
"""Commands that a worker carries out."""

_NO_POOL: Final = "a worker of jaas has no pool of processes; JAAS_MAX_IN_FLIGHT says how many jobs it may run"
_QUEUES: Final = "JAAS_QUEUE and JAAS_TAKE_DEFAULT_QUEUE say which queues a worker of jaas takes"
_DEBUG: Final = "a worker of jaas shows nothing of its memory"

REFUSED: Final = {
    **dict.fromkeys(("pool_grow", "pool_shrink", "pool_restart", "autoscale"), _NO_POOL),
    **dict.fromkeys(("add_consumer", "cancel_consumer"), _QUEUES),
    **dict.fromkeys(("memdump", "memsample", "objgraph"), _DEBUG),
    "shutdown": "a worker of jaas is stopped by a signal, or as a service of the swarm, and not through Redis",
    "rate_limit": "it would not slow jobs down; JAAS_MAX_IN_FLIGHT does, and max_parallel of a batch",
    "election": "the workers of jaas elect nobody",
}
"""Commands that a worker answers with a sentence, and does not carry out."""

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


def _refuse(command: str, why: str, _state: Any, **_: Any) -> Any:
    return control.nok(f"{command}: {why}")  # type: ignore[attr-defined] # not in the stubs


for _command, _why in REFUSED.items():
    _known = control.Panel.meta[_command]
    _register = control.control_command if _known.type == "control" else control.inspect_command
    _register(name=_command, help=_known.help, signature=_known.signature, args=_known.args)(
        partial(_refuse, _command, _why)
    )


@control.inspect_command(name="hello", visible=False)
def hello(_state: Any, **_: Any) -> None:
    """Answer nothing to the workers of other applications, which ask all workers for their revoked tasks."""


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

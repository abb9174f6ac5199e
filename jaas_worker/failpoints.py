"""Places at which a test can kill the worker: right before and right after each durable step.

JAAS_FAILPOINT=LABEL kills the process with SIGKILL the first time it reaches that label; LABEL:N the Nth time. Without
the variable a failpoint costs one comparison.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

__all__ = ["FAILPOINTS", "failpoint"]

FAILPOINTS: Final = (
    "intake.before",
    "intake.after",
    "claim.before",
    "claim.after",
    "accept.after",
    "create.before",
    "create.after",
    "pending.after",
    "running.before",
    "running.after",
    "files.before",
    "files.after",
    "finish.before",
    "finish.after",
    "remove.after",
    "report.before",
    "chord.before",
    "chord.after",
    "report.after",
    "reported.after",
    "retry.before",
    "retry.after",
    "stop.before",
    "stop.after",
    "release.before",
    "release.after",
)
"""Every label, in the order in which a job reaches them."""

_label, _, _count = os.environ.get("JAAS_FAILPOINT", "").partition(":")
_left = int(_count or 1)
_lock = threading.Lock()


def failpoint(label: str) -> None:
    """Kill this process here if JAAS_FAILPOINT names the label.

    Args:
        label: one of FAILPOINTS.
    """
    global _left  # noqa: PLW0603 (counts down over the whole process, on purpose)
    if label != _label:
        return
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

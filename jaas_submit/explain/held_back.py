"""PURE: why a job is not started, whoever has room for it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from jaas_submit.model.states import JobState

__all__ = ["NOT_STARTED", "HeldBack"]

NOT_STARTED: Final = frozenset({JobState.WAITING, JobState.QUEUED, JobState.BACKOFF})
"""States of a job that waits to be started, for the first time or once more."""


class HeldBack(BaseModel):
    """What holds a job back, and who did it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: str = Field(description="one of the codes in docs/queues.md, such as queue_paused")
    reason: str = Field(description="the same in words, with what to do")
    by: str = Field("", description="who did it, as the client says of itself; empty where that is not known")
    at: datetime | None = None

    def sentence(self) -> str:
        """Return it for people."""
        who = f" by {self.by}" if self.by else ""
        when = f" at {self.at:%Y-%m-%d %H:%M:%S} UTC" if self.at else ""
        done = f" (done{who}{when})" if who or when else ""
        return f"It is not started: {self.reason}{done}."

"""PURE: whether an engine that gives the same answer again and again refuses, although its status does not say so."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["NO_ANSWER", "REPEATS", "SPAN_S", "SameAnswer", "may_refuse", "refuses"]

REPEATS: Final = 5
SPAN_S: Final = 30.0
"""So often, and over so many seconds, the same answer must have come before it is taken for a refusal."""

_INTERNAL_ERROR: Final = 500
"""The only status that counts: 503 says that the engine cannot serve now, and a proxy answers 502 and 504."""

_PASSES: Final = (
    "leader",
    "raft:",
    "quorum",
    "deadline",
    "timeout",
    "timed out",
    "cancel",
    "unavailable",
    "connect",
    "transport",
)
"""In texts that come with status 500 while the cluster or a connection is in trouble: none of them is about the job."""


class SameAnswer(NamedTuple):
    """How often an engine has answered a job's launch with the same error."""

    text: str = ""
    times: int = 0
    since: float = 0.0
    """When it came first, by the monotonic clock."""

    def again(self, text: str, now: float) -> SameAnswer:
        """Return it with one more answer; another text begins anew."""
        return self._replace(times=self.times + 1) if text == self.text else SameAnswer(text, 1, now)


NO_ANSWER: Final = SameAnswer()


def may_refuse(status: int | None, text: str) -> bool:
    """Return whether an answer may be about the request, and not about the state of engine or cluster.

    Args:
        status: HTTP status of the answer; None where there was none.
        text: the answer.
    """
    said = text.lower()
    return status == _INTERNAL_ERROR and not any(word in said for word in _PASSES)


def refuses(answer: SameAnswer, now: float, created_at: float) -> bool:
    """Return whether the engine will never do what it is asked for.

    Args:
        answer: what it has answered to this job.
        now: the present moment, by the monotonic clock.
        created_at: when this engine last created a service for another job: it creates some, but not this one.
    """
    return answer.times >= REPEATS and now - answer.since >= SPAN_S and created_at > answer.since

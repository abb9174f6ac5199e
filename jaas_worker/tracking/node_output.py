"""What the agent of a container's node found of it: its output, and how it ended."""

from __future__ import annotations

from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.model.records import Outcome
from jaas_submit.model.states import read_as
from jaas_submit.model.usage.used import Used
from jaas_submit.output import WholeOutput
from jaas_worker.swarm.engine import ContainerTimes

__all__ = ["logs_of", "times_with", "was_scrubbed", "with_usage"]


def logs_of(whole: WholeOutput | None) -> Logs | None:
    """Return the output that an agent found; None if it found none that can be read.

    Args:
        whole: what it found.
    """
    if whole is None:
        return None
    if not whole.logs:
        return Logs(status=read_as(LogStatus, whole.status), reason=whole.reason)
    try:
        return Logs.unpack(whole.logs)
    except ValueError:  # another version has written it
        return None


def was_scrubbed(whole: WholeOutput | None) -> bool:
    """Return whether the values of secrets were looked for in all of the output that an agent found.

    Args:
        whole: what it found.
    """
    return whole is not None and whole.scrubbed is True


def times_with(times: ContainerTimes | None, whole: WholeOutput | None) -> ContainerTimes | None:
    """Return what is known of how a container ended.

    Args:
        times: as the worker knows it.
        whole: as the agent of its node knows it.
    """
    if whole is None or not whole.started_at:
        return times
    usage = _usage_of(whole)
    if times is None:
        return ContainerTimes(
            whole.started_at, whole.finished_at, bool(whole.oom_killed), heard=whole.heard, usage=usage
        )
    oom = times.oom_killed or bool(whole.oom_killed)
    return times._replace(oom_killed=oom, heard=whole.heard, usage=usage)


def with_usage(outcome: Outcome, times: ContainerTimes | None) -> Outcome:
    """Return an outcome with what the container used.

    Args:
        outcome: how the attempt ended.
        times: what is known of its container's end.
    """
    return outcome if times is None else outcome.model_copy(update={"usage": times.usage})


def _usage_of(whole: WholeOutput) -> Used | None:
    try:
        return None if whole.usage is None else Used.model_validate(whole.usage)
    except ValueError:  # no agent of jaas has measured that
        return None

"""The worker's log: one line an event, as JSON or for people, with the job's id and attempt on each line about a job.

All code logs through the standard library, ours, Celery's and kombu's alike; structlog only renders, so that a program
that imports jaas keeps its own logging. Our lines carry a stable ``action`` (``extra={"action": "job.launched"}``) for
alerts and searches; the sentence in ``event`` is for people and may change. docs/operations.md lists the actions.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import IO, Any, Final, Literal, Protocol

import structlog
from celery import signals
from structlog.typing import EventDict

from jaas_submit.model.wire_names import TASK_RUN, job_id_of
from jaas_worker.settings import LogFormat

__all__ = ["Action", "Subject", "about", "action", "formatter", "install", "mask", "set_up"]


class Subject(Protocol):
    """What a line can be about."""

    @property
    def job_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...


class Action(StrEnum):
    """What a line of ours tells: stable, for alerts and searches."""

    JOB_LAUNCHED = "job.launched"  # its service exists
    JOB_RUNNING = "job.running"  # its container runs
    JOB_ENDED = "job.ended"  # its outcome is in the ledger and with Celery
    JOB_RETRYING = "job.retrying"  # an attempt ended, another follows
    JOB_OVERDUE = "job.overdue"  # nobody has started it in the time it had
    JOB_REFUSED = "job.refused"  # a message that cannot become a job
    BROADCAST_DROPPED = "broadcast.dropped"  # what was published for all workers and cannot be read
    JOB_ADOPTED = "job.adopted"  # its former worker went away; this one goes on
    JOB_OWNERSHIP_LOST = "job.ownership_lost"  # another worker has it by now
    JOB_VERSION_TOO_NEW = "job.version_too_new"  # only a newer version can read its description
    JOB_NODE_LOST = "job.node_lost"  # the node it runs on is down
    JOB_STOPPING = "job.stopping"  # jaas asks for its container's end: cancelled, or a time limit is over
    JOB_STOP_FAILED = "job.stop_failed"  # its container could not be stopped, or not in time
    JOB_COPY_SUBMITTED = "job.copy_submitted"  # it runs for long: its copy was written down (speculation)
    JOB_SUPERSEDED = "job.superseded"  # its copy succeeded first: what still runs for it is removed
    JOB_RESTORED = "job.restored"  # Redis had lost its record
    IMAGE_DIFFERS = "image.differs"  # this engine has another image of that tag than the registry
    STEP_REPEATED = "step.repeated"  # something did not work now and is tried again
    STEP_FAILED = "step.failed"  # an error that nobody expected
    RESULT_NOT_STORED = "result.not_stored"  # Celery's result backend did not take a result
    SERVICE_REMOVED = "service.removed"  # the reconciler removed a service that was left behind
    SERVICE_REMOVAL_FAILED = "service.removal_failed"  # a service could not be removed; the reconciler will
    SERVICE_UNKNOWN = "service.unknown"  # a service of which no record knows
    RECORD_UNREADABLE = "record.unreadable"  # what Redis holds of a job, batch or worker is not what it should be
    LEASE_LOST = "lease.lost"  # others may have taken this worker's jobs over
    LEASE_NOT_RENEWED = "lease.not_renewed"  # Redis did not answer
    REDIS_UNAVAILABLE = "redis.unavailable"  # the worker waits for Redis
    REDIS_MASTER_CHANGED = "redis.master_changed"  # Sentinel has made another server the master
    ENGINE_UNAVAILABLE = "engine.unavailable"  # the worker cannot see its jobs for now, or takes no new ones
    ENGINE_AVAILABLE = "engine.available"  # it takes new jobs again
    AGENT_FORWARDING = "agent.forwarding"  # a node without a worker: the ends of its containers are passed on
    RECONCILE_TOOK_OVER = "reconcile.took_over"  # jobs that nobody held
    RECONCILE_FAILED = "reconcile.failed"  # a round did not work; the next one may
    QUEUE_FOREIGN = "queue.foreign"  # somebody else's tasks in Celery's default queue
    WORKER_SHUTDOWN_TIMEOUT = "worker.shutdown_timeout"  # its shutdown hung, most likely for want of Redis
    METRICS_STARTED = "metrics.started"  # where Prometheus finds this worker
    METRICS_FAILED = "metrics.failed"  # the port is taken; jobs run all the same
    WORKER_HANDED_OVER = "worker.handed_over"  # shutdown: the jobs go on without this worker


def action(what: Action, **fields: object) -> dict[str, object]:
    """Return the ``extra`` of a line.

    Args:
        what: the action.
        fields: more that machines shall find, such as ``service``.
    """
    return {"action": str(what), **fields}


_subject: ContextVar[Subject | None] = ContextVar("jaas_log_subject", default=None)

_WORD: Final = re.compile(r"\S+")

_PASSWORD: Final = re.compile(r"(://[^\s:/@]*+:)[^\s@]++(?=@)")
"""A URL's password; it goes up to the next @, as passwords may hold slashes. Only texts that end with an @ are
searched: each place where one may begin then has its end, so that nothing is looked at twice."""

_SENTINEL_PASSWORD: Final = re.compile(r"(sentinel_password=)[^\s&]+", re.IGNORECASE)

_CELERY_TASK: Final = re.compile(re.escape(TASK_RUN) + r"\[([^\]\s]{1,255})\]")
"""How Celery's own lines name a task."""

_SERVICE: Final = re.compile(r"-([0-9]{1,9})\Z")
"""The end of a service's name: which attempt."""

_INSTALL_UID: Final = "jaas-logs"


@contextmanager
def about(subject: Subject) -> Iterator[None]:
    """Say that everything logged meanwhile, on this thread, is about one job."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


def mask(text: str) -> str:
    """Return a text without the passwords of the URLs in it."""
    if "://" not in text and "=" not in text:  # nearly always, and the pattern looks at each character
        return text
    return _WORD.sub(lambda word: _mask_word(word[0]), text)


def _mask_word(text: str) -> str:
    if "://" in text:
        before, at, after = text.rpartition("@")
        text = _PASSWORD.sub(r"\1***", before + at) + after
    return _SENTINEL_PASSWORD.sub(r"\1***", text) if "=" in text else text


# -- processors: each takes and returns the fields of a line --------------------------------------------------------


def _add_job(_logger: Any, _method: str, event: EventDict) -> EventDict:
    subject = _subject.get()
    if subject is not None:
        event.setdefault("job_id", subject.job_id)
        if event["job_id"] == subject.job_id:
            event.setdefault("attempt", subject.attempt)
    elif "job_id" not in event and (match := _CELERY_TASK.search(str(event.get("event", "")))):
        event["job_id"] = job_id_of(match[1])
    if "job_id" in event and "attempt" not in event:
        # Nobody holds the job here: the service says which attempt it is, and before there is one, nothing does.
        match = _SERVICE.search(str(event.get("service", "")))
        event["attempt"] = int(match[1]) if match else 0
    return event


def _add_extra(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Take over ``extra``, but of Celery's nothing: its ``data`` holds results and arguments."""
    record: logging.LogRecord = event["_record"]
    for name, value in record.__dict__.items():
        if name not in _STANDARD and name != "data":
            event.setdefault(name, value)
    return event


_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def _mask_all(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = mask(value)
    return event


def _in_order(_logger: Any, _method: str, event: EventDict) -> MutableMapping[str, Any]:
    first = ("timestamp", "level", "event", "action", "job_id", "attempt")
    return {**{name: event[name] for name in first if name in event}, **event}


def formatter(kind: Literal["json", "console"], *, colours: bool = False) -> logging.Formatter:
    """Return a formatter for handlers of the standard library.

    Args:
        kind: one JSON object a line, or text for people with tracebacks as Python prints them.
        colours: of the text for people.
    """
    before: list[Any] = [
        _add_extra,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_job,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if kind == "json":
        # A traceback is one field: a line that is cut in pieces cannot be searched.
        last: list[Any] = [
            structlog.processors.format_exc_info,
            _mask_all,
            _in_order,
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ]
    else:
        last = [
            structlog.processors.format_exc_info,
            _mask_all,
            _in_order,
            structlog.dev.ConsoleRenderer(colors=colours, sort_keys=False, pad_event_to=0, pad_level=False),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )


def set_up(wanted: LogFormat, level: int | str, file: str | None = None) -> None:
    """Set up logging in this process.

    Args:
        wanted: auto is console on a terminal and JSON elsewhere.
        level: the least that is shown.
        file: what is appended to; None means standard error.
    """
    stream: IO[str] = open(file, "a", encoding="utf-8") if file else sys.stderr  # noqa: SIM115 (for good)
    terminal = stream.isatty()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        formatter("console" if wanted == "console" or (wanted == "auto" and terminal) else "json", colours=terminal)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def install(wanted: LogFormat) -> None:
    """Have Celery set up logging in this process our way: `jaas worker` and `celery -A jaas_worker.app worker` alike.

    Args:
        wanted: see ``set_up``.
    """

    def begin(loglevel: int, logfile: str | None = None, **_: Any) -> None:
        set_up(wanted, loglevel, logfile)

    def no_banner(instance: Any = None, **_: Any) -> None:
        # Celery prints its banner on standard output: nothing that reads JSON lines can use it.
        if wanted == "json" or (wanted == "auto" and not sys.stderr.isatty()):
            instance.quiet = True

    signals.setup_logging.connect(begin, weak=False, dispatch_uid=_INSTALL_UID)
    signals.celeryd_after_setup.connect(no_banner, weak=False, dispatch_uid=_INSTALL_UID)

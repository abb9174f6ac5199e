"""The worker's log: one line an event, as JSON or for people, with the job's id and attempt on each line about a job.

All code logs through the standard library, ours, Celery's and kombu's alike; structlog only renders, so a program that
imports jaas keeps its own logging. Our lines carry a stable ``action`` (``extra={"action": "job.launched"}``) for
alerts and searches; the sentence in ``event`` is for people and may change. docs/operations.md lists the actions.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import IO, TYPE_CHECKING, Any, Final, Literal

import structlog
from structlog.typing import EventDict

from jaas_submit.model.wire_names import TASK_RUN, job_id_of
from jaas_worker.telemetry.log_actions import current_subject

if TYPE_CHECKING:
    from jaas_worker.settings import LogFormat

__all__ = ["formatter", "install", "mask", "set_up"]

_WORD: Final = re.compile(r"\S+")

_PASSWORD: Final = re.compile(r"(://[^\s:/@]*+:)[^\s@]++(?=@)")
"""A URL's password, up to the next @, as passwords may contain slashes. Only texts that end with an @ are searched:
then each possible start has an end, so no character is read twice."""

_SECRET_PARAMETER: Final = re.compile(r"((?:password|passwd|secret|token|access_key)=)[^\s&]+", re.IGNORECASE)
"""A parameter of a URL, such as ``sentinel_password`` or ``ssl_password``."""

_CELERY_TASK: Final = re.compile(re.escape(TASK_RUN) + r"\[([^\]\s]{1,255})\]")
"""How Celery's own lines name a task."""

_SERVICE: Final = re.compile(r"-([0-9]{1,9})\Z")
"""The attempt's number at the end of a service's name."""

_INSTALL_UID: Final = "jaas-logs"


def mask(text: str) -> str:
    """Return a text without the passwords of the URLs in it."""
    if "://" not in text and "=" not in text:  # the usual case; the pattern would read each character
        return text
    return _WORD.sub(lambda word: _mask_word(word[0]), text)


def _mask_word(text: str) -> str:
    if "://" in text:
        before, at, after = text.rpartition("@")
        text = _PASSWORD.sub(r"\1***", before + at) + after
    return _SECRET_PARAMETER.sub(r"\1***", text) if "=" in text else text


# -- processors: each takes and returns the fields of a line --------------------------------------------------------


def _add_job(_logger: Any, _method: str, event: EventDict) -> EventDict:
    job = current_subject()
    if job is not None:
        event.setdefault("job_id", job.job_id)
        if event["job_id"] == job.job_id:
            event.setdefault("attempt", job.attempt)
    elif "job_id" not in event and (match := _CELERY_TASK.search(str(event.get("event", "")))):
        event["job_id"] = job_id_of(match[1])
    if "job_id" in event and "attempt" not in event:
        # This worker does not hold the job: the attempt's number is in the service's name, if there is one.
        match = _SERVICE.search(str(event.get("service", "")))
        event["attempt"] = int(match[1]) if match else 0
    return event


def _add_extra(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Copy ``extra``, except for Celery's lines: their ``data`` has results and arguments."""
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
        # A traceback is one field: a line in pieces cannot be searched.
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
        level: the lowest level that is shown.
        file: to append to; None means standard error.
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
    """Let Celery use jaas' logging in this process: for `jaas worker` and `celery -A jaas_worker.app worker`.

    Args:
        wanted: see ``set_up``.
    """
    from celery import signals  # here: an agent alone has no Celery

    def begin(loglevel: int, logfile: str | None = None, **_: Any) -> None:
        set_up(wanted, loglevel, logfile)

    def no_banner(instance: Any = None, **_: Any) -> None:
        # Celery prints its banner on standard output, which readers of JSON lines cannot use.
        if wanted == "json" or (wanted == "auto" and not sys.stderr.isatty()):
            instance.quiet = True

    signals.setup_logging.connect(begin, weak=False, dispatch_uid=_INSTALL_UID)
    signals.celeryd_after_setup.connect(no_banner, weak=False, dispatch_uid=_INSTALL_UID)

"""PURE: checks of everything that other programs send: size, depth and shape. All incoming data passes here.

Celery and kombu trust what arrives: a list for a task id, a text for a time limit, JSON nested 10,000 deep or 3 KB that
decompress to a gigabyte end the worker (measured with Celery 5.7.0; tests/integration/test_worker_bad_messages.py has
the shapes). Queue entries, broadcasts and notices are read here first. The error texts show nothing of the content.
Source of the shapes: Celery's "Message Protocol" (version 2, and 1 with all in the body), kombu's virtual
transport.
"""

from __future__ import annotations

import base64
import bz2
import lzma
import re
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from jaas_submit.model.bounds import MAX_JSON_BYTES, read_json, shown

__all__ = [
    "DEFECT",
    "MAX_DELIVERIES",
    "MAX_ENTRY_BYTES",
    "MAX_REASON",
    "TOO_LARGE",
    "UUID_ID",
    "broadcast_message",
    "is_task_id",
    "queue_message",
    "task_defect",
    "task_name",
]

MAX_ENTRY_BYTES: Final = MAX_JSON_BYTES
"""Size of a queue entry or a broadcast."""

MAX_REASON: Final = 400
"""Characters that are quoted of why something cannot be taken."""

DEFECT: Final = "jaas-defect"
"""Header of the placeholder message for an invalid queue entry: the reason."""

UUID_ID: Final = "jaas-uuid-id"
"""Header of a message whose task id was sent as a UUID object: its result must have the same object."""

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Size of a message's body, decoded and decompressed."""

MAX_DELIVERIES: Final = 2
"""Number of workers that a message may end before it is refused."""

TOO_LARGE: Final = "jaas-too-large"
"""First word of the placeholder for an entry that is too large, made by the fetching script. Its size follows, and
after a newline the last part of the entry, where Celery writes the headers."""

_XZ_MEMORY: Final = 128 * 1024 * 1024
"""Limit in bytes for the dictionary that the sender chooses; the largest preset takes 65 MiB."""

_CUT: Final = re.compile(rb"jaas-too-large (\d{1,12})\n")
_ID_IN_PART: Final = re.compile(rb'"id": ?"([^"\\]{1,1024})"')
_TASK_IN_PART: Final = re.compile(rb'"task": ?"([^"\\]{1,1024})"')
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}")

_MAX_ID_CHARS: Final = 1024
_LONGEST_TEXT: Final = 64 * 1024

Check = Callable[[Any], bool]


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # an unpaired surrogate, which JSON can hold and Redis cannot
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 2**53


def is_task_id(value: object) -> bool:
    """Return whether a value can be a task's id."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID_CHARS and _is_text(value)


def _is_time(value: object) -> bool:
    """Return whether a value is a valid time in every time zone."""
    if not isinstance(value, str):
        return False
    try:
        moment = datetime.fromisoformat(value)
        moment.astimezone(UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        return False
    return 1 < moment.year < 9999


def _is_signature(value: object) -> bool:
    return isinstance(value, dict) and _is_text(value.get("task"))


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list | tuple) and all(map(check, value))


def _or_nothing(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_pair_of_limits(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_or_nothing(_is_number), value))


# The checked fields of a task: name, expected type in words, and the check.
_FIELDS: Final[tuple[tuple[str, str, Check], ...]] = (
    ("task", "a text", _is_text),
    ("id", f"a text of 1 to {_MAX_ID_CHARS:,} characters", is_task_id),
    *((name, "a text", _or_nothing(_is_text)) for name in ("root_id", "parent_id", "group", "shadow", "origin")),
    ("eta", "a time such as 2030-01-31T12:00:00+00:00", _or_nothing(_is_time)),
    ("expires", "a time such as 2030-01-31T12:00:00+00:00", _or_nothing(_is_time)),
    ("timelimit", "a pair of seconds", _or_nothing(_is_pair_of_limits)),
    ("retries", "a number", _or_nothing(_is_number)),
    ("stamped_headers", "a list of texts", _or_nothing(_list_of(_is_text))),
    ("stamps", "an object", _or_nothing(lambda value: isinstance(value, dict))),
)

_AFTERWARDS: Final[tuple[tuple[str, str, Check], ...]] = (
    ("callbacks", "a list of signatures", _or_nothing(_list_of(_is_signature))),
    ("errbacks", "a list of signatures", _or_nothing(_list_of(_is_signature))),
    ("chain", "a list of signatures", _or_nothing(_list_of(_is_signature))),
    ("chord", "a signature", _or_nothing(_is_signature)),
)


def _entry_defects(entry: Any) -> Iterator[str]:
    """Yield the errors; use only the first, because each check relies on those before it."""
    if not isinstance(entry, dict):
        yield "it is no object"
    properties = entry.get("properties")
    if not isinstance(properties, dict):
        yield "its properties are no object"
    if not isinstance(entry.get("headers") or {}, dict):
        yield "its headers are no object"
    for name in ("content-type", "content-encoding"):
        if not isinstance(entry.get(name) or "", str):
            yield f"its {name} is no text"
    body, encoding = entry.get("body"), properties.get("body_encoding")
    if not isinstance(body, str):
        yield "its body is no text"
    if encoding not in (None, "base64", "utf-8"):
        yield "its body is encoded in a way that is not known here"
    if encoding == "base64" and not _is_base64(body):
        yield "its body is no base64"


def _is_base64(body: str) -> bool:
    try:
        base64.b64decode(body.encode())
    except ValueError:  # binascii's error is one
        return False
    return True


# -- a message's body -------------------------------------------------------------------------------------------------


def _gzip() -> Any:
    return zlib.decompressobj()


def _bzip2() -> Any:
    return bz2.BZ2Decompressor()


def _xz() -> Any:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


_DECOMPRESSORS: Final[dict[str, Callable[[], Any]]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), _gzip),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), _bzip2),
    **dict.fromkeys(("application/x-lzma", "lzma", "xz"), _xz),
}
"""By kombu's names. kombu reads others if their packages are installed; jaas does not."""


def _decompressed(data: bytes, name: object) -> bytes:
    make = _DECOMPRESSORS.get(name) if isinstance(name, str) else None
    if make is None:
        raise ValueError("its compression is not known here; gzip, bzip2 and lzma are")
    opened = make()
    try:
        text: bytes = opened.decompress(data, MAX_BODY_BYTES + 1)  # never more, whatever it contains
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
        raise ValueError("it is not compressed as its header says") from error
    if len(text) > MAX_BODY_BYTES:
        raise ValueError(f"decompressed it has more than {MAX_BODY_BYTES:,} bytes")
    if not opened.eof:
        raise ValueError("its compressed body is cut off")
    return text


def _body(entry: dict[str, Any]) -> bytes:
    """Return a message's body as checked JSON text.

    Raises:
        ValueError: why it cannot be read.
    """
    kind, encoding = entry.get("content-type"), entry.get("content-encoding") or "utf-8"
    if kind != "application/json":
        named = f" {kind}" if isinstance(kind, str) and _MEDIA_TYPE.fullmatch(kind) else ""
        raise ValueError(f"its content type{named} is not taken; send application/json (task_serializer='json')")
    if encoding.lower() not in {"utf-8", "utf8", "us-ascii", "ascii"}:
        raise ValueError("its content encoding is not taken; send utf-8")
    body = entry["body"].encode()
    if entry["properties"].get("body_encoding") == "base64":
        body = base64.b64decode(body)
    if compression := (entry.get("headers") or {}).get("compression"):
        body = _decompressed(body, compression)
    read_json(body, MAX_BODY_BYTES, typed=True)
    return bytes(body)


# -- input of kombu's Message --------------------------------------------------------------------------------------


def queue_message(item: bytes, queue: str, tag: str, ended: int = 0, *, again: bool = False) -> dict[str, Any]:
    """Return kombu's input for any queue entry: the entry, or a placeholder for an invalid one.

    Args:
        item: the entry.
        queue: where it was found; the entry's own field is ignored.
        tag: its delivery tag here; the entry's own field is ignored.
        ended: number of workers that it has ended.
        again: it was delivered before, and returned to its queue.
    """
    about: Mapping[str, Any] | None = None
    wrong = f"refused: it ended {ended} workers" if ended >= MAX_DELIVERIES else ""
    if cut := _CUT.match(item):
        about = _headers_in_part(item)
        size = f"the queue entry has {int(cut[1]):,} bytes, of which at most {MAX_ENTRY_BYTES:,} are taken"
        wrong = wrong or f"{size}; pass large data by a mount, a secret or a URL"
    elif ended <= MAX_DELIVERIES:  # otherwise its id may have been the cause
        try:
            entry = read_json(item)
            about = _headers(entry)
            if not wrong:
                return _addressed(_taken(entry), queue, tag, again=again)
        except ValueError as error:
            wrong = wrong or shown(error, MAX_REASON)
            if about is None:  # whoever waits for this id shall learn of it
                about = _headers_in_part(item)
    about = about or {}
    kept = {name: about[name] for name in ("id", "task") if is_task_id(about.get(name))}
    stand_in = {"headers": {**kept, DEFECT: wrong}, "body": "", "properties": {}}
    return _addressed({**stand_in, "content-type": "application/json", "content-encoding": "utf-8"}, queue, tag)


def broadcast_message(data: bytes) -> dict[str, Any]:
    """Return kombu's input for a broadcast.

    Args:
        data: as it was published.

    Raises:
        ValueError: why it is invalid.
    """
    entry = _taken(read_json(data))
    info = entry["properties"].get("delivery_info")
    info = info if isinstance(info, dict) else {}
    where = {name: shown(info.get(name) or "", MAX_REASON) for name in ("exchange", "routing_key")}
    return {**entry, "properties": {**entry["properties"], "delivery_tag": "", "delivery_info": where}}


def _taken(entry: Any) -> dict[str, Any]:
    """Return a decoded entry whose body is no longer compressed.

    Raises:
        ValueError: it is no message, or its body is unreadable.
    """
    if wrong := next(_entry_defects(entry), ""):
        raise ValueError(f"the queue entry is no message of Celery: {wrong}")
    try:
        body = _body(entry)
    except ValueError as error:
        raise ValueError(f"the message cannot be decoded: {error}") from error
    sent = entry.get("headers") or {}
    headers = {name: _id_as_text(value) for name, value in sent.items() if name not in _OURS}
    if headers.get("id") != sent.get("id"):
        headers[UUID_ID] = True
    properties = {name: _id_as_text(value) for name, value in entry["properties"].items()}
    if "compression" not in sent:
        return {**entry, "headers": headers, "properties": properties}
    properties["body_encoding"] = "base64"
    return {**entry, "headers": headers, "properties": properties, "body": base64.b64encode(body).decode()}


def _id_as_text(value: Any) -> Any:
    """Return a UUID object, as kombu writes it in JSON, as the text by which Celery names its result; others as is."""
    if isinstance(value, dict) and value.keys() == {"__type__", "__value__"} and value["__type__"] == "uuid":
        try:
            return str(uuid.UUID(**value["__value__"]))
        except (TypeError, ValueError, AttributeError):  # it may be anything
            return value
    return value


_OURS: Final = frozenset({DEFECT, UUID_ID, "compression"})
"""Headers that are dropped."""


def _addressed(entry: dict[str, Any], queue: str, tag: str, *, again: bool = False) -> dict[str, Any]:
    where = {"exchange": "", "routing_key": queue, **({"redelivered": True} if again else {})}
    return {**entry, "properties": {**entry["properties"], "delivery_tag": tag, "delivery_info": where}}


def _headers(entry: object) -> Mapping[str, Any]:
    headers = entry.get("headers") if isinstance(entry, dict) else None
    return {name: _id_as_text(value) for name, value in headers.items()} if isinstance(headers, dict) else {}


def _headers_in_part(item: bytes) -> dict[str, str]:
    """Return id and task from an entry that is unreadable or incomplete, if they can be found."""
    found = {"id": _ID_IN_PART.search(item), "task": _TASK_IN_PART.search(item)}
    return {name: match[1].decode(errors="replace") for name, match in found.items() if match}


def task_name(headers: Mapping[str, Any], payload: object) -> object:
    """Return the name of a message's task; None if it has none.

    Args:
        headers: the message's.
        payload: its decoded body.
    """
    if "task" in headers:
        return headers["task"]
    return payload.get("task") if isinstance(payload, dict) else None


def task_defect(headers: Mapping[str, Any], payload: object) -> str:
    """Return the error of a message that names a task; empty if Celery can make a request of it.

    Args:
        headers: the message's.
        payload: its decoded body.
    """
    return next(_task_defects(headers, payload), "")


def _task_defects(headers: Mapping[str, Any], payload: Any) -> Iterator[str]:
    """Yield the errors; as in ``_entry_defects`` only the first counts."""
    fields = {**payload, **headers} if isinstance(payload, dict) else headers
    for name, kind, check in _FIELDS:
        if not check(fields.get(name)):
            yield f"its {name} is not {kind}"
    if isinstance(payload, dict) and "args" in payload:  # as in version 1, possibly incomplete
        args, kwargs, afterwards = payload["args"], payload.get("kwargs", {}), payload
    elif isinstance(payload, list | tuple) and len(payload) == 3:
        args, kwargs, afterwards = payload
    else:
        yield "its body is no list of arguments, keyword arguments, and what is to happen afterwards"
    if not isinstance(args, list | tuple):
        yield "its arguments are no list"
    if not isinstance(kwargs, dict):
        yield "its keyword arguments are no object"
    if not isinstance(afterwards or {}, dict):
        yield "what is to happen afterwards is no object"
    for name, kind, check in _AFTERWARDS:
        if not check((afterwards or {}).get(name)):
            yield f"its {name} is not {kind}"

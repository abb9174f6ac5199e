"""PURE: which requests to the engine's API are let through, by their method, path and query."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from jaas_submit.model.bounds import read_json, shown

__all__ = ["MAX_TARGET", "TABLE", "Check", "Forbidden", "Request", "Row", "allowed_request", "has_our_label"]

MAX_TARGET: Final = 64 * 1024
"""Characters of path and query: filters may name hundreds of services."""

_OURS: Final = "jaas."
"""What the labels begin with that a worker gives to services, configs and containers of jobs."""


class Forbidden(Exception):
    """The request does not go through; the text is one sentence for who sent it."""


class Check(Enum):
    """What else has to be found out before a request goes through."""

    NOTHING = auto()
    SERVICE = auto()  # the service is of a job
    CONTAINER = auto()  # the container is of a job
    CONFIG = auto()  # the config is of a job
    LABEL = auto()  # the list is limited by a label of jaas
    TASKS = auto()  # without such a label the answer goes without what the containers were asked for
    NO_DATA = auto()  # the answer goes without the contents
    CREATE = auto()  # the body is a service that the policy allows
    UPDATE = auto()  # the body is the service as it is, with a placement that stops it
    CREATE_CONFIG = auto()  # the body is a job's input


class Row(NamedTuple):
    """Requests that may go through."""

    method: str
    path: str
    """Without the API's version. ID is one name or id, IMAGE a reference of an image."""
    query: tuple[str, ...] = ()
    """The parameters that it may have."""
    check: Check = Check.NOTHING


class Request(NamedTuple):
    """A request as it goes to the engine."""

    method: str
    version: str
    """Such as ``/v1.41``; empty where none was given."""
    path: str
    query: Mapping[str, str]
    check: Check
    subject: str = ""
    """The ID in the path."""

    def target(self, subject: str = "", **more: str) -> str:
        """Return path and query.

        Args:
            subject: in the place of the ID in the path: an id cannot become another one's, as a name can.
            more: further parameters.
        """
        path = self.path.replace(f"/{self.subject}", f"/{subject}", 1) if subject else self.path
        query = urlencode({**self.query, **more})
        return f"{self.version}/{path}{f'?{query}' if query else ''}"


_LOGS: Final = ("follow", "stdout", "stderr", "timestamps", "tail", "since")

TABLE: Final = (
    Row("GET", "version"),
    Row("GET", "info"),
    Row("GET", "nodes"),
    Row("GET", "nodes/ID"),
    Row("GET", "tasks", ("filters",), Check.TASKS),
    Row("GET", "services", ("filters",), Check.LABEL),
    Row("POST", "services/create", (), Check.CREATE),
    Row("GET", "services/ID", (), Check.SERVICE),
    Row("GET", "services/ID/logs", _LOGS, Check.SERVICE),
    Row("POST", "services/ID/update", ("version",), Check.UPDATE),
    Row("DELETE", "services/ID", (), Check.SERVICE),
    Row("GET", "configs", ("filters",), Check.NO_DATA),
    Row("POST", "configs/create", (), Check.CREATE_CONFIG),
    Row("DELETE", "configs/ID", (), Check.CONFIG),
    Row("GET", "secrets", ("filters",), Check.NO_DATA),
    Row("GET", "networks/ID"),
    Row("GET", "events", ("filters",)),
    Row("GET", "containers/json", ("all", "filters"), Check.LABEL),
    Row("GET", "containers/ID/json", (), Check.CONTAINER),
    Row("GET", "containers/ID/logs", _LOGS, Check.CONTAINER),
    Row("GET", "containers/ID/stats", ("stream", "one-shot"), Check.CONTAINER),
    Row("GET", "containers/ID/archive", ("path",), Check.CONTAINER),
    Row("GET", "images/json"),
    Row("GET", "images/IMAGE/json"),
    Row("GET", "distribution/IMAGE/json"),
)
"""All that a worker (jaas_worker/swarm/docker_engine.py) and an agent (jaas_worker/agent/node_engine.py) ask for."""

_ID: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}"
_IMAGE: Final = r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,1023}"
_VERSION: Final = re.compile(r"(/v[0-9]\.[0-9]{1,3})?/(.*)", re.DOTALL)
_SWITCH: Final = re.compile("0|1|true|false")
_QUERY: Final[Mapping[str, re.Pattern[str]]] = {
    "version": re.compile(r"[0-9]{1,20}"),
    "since": re.compile(r"[0-9]{0,20}(?:\.[0-9]{0,20})?"),
    "tail": re.compile(r"all|[0-9]{1,10}"),
    "path": re.compile(r"/[^\0]{0,4095}"),
    **dict.fromkeys(("follow", "stdout", "stderr", "timestamps", "all", "stream", "one-shot"), _SWITCH),
}


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.escape(path).replace("ID", f"(?P<id>{_ID})").replace("IMAGE", f"(?P<image>{_IMAGE})"))


_ROWS: Final = [(row, _pattern(row.path)) for row in TABLE]


def allowed_request(method: str, target: str) -> Request:
    """Return what a request line asks for, if that may go through.

    Args:
        method: such as GET.
        target: path and query, as they were received.

    Raises:
        Forbidden: it may not.
    """
    if len(target) > MAX_TARGET:
        raise Forbidden(f"path and query have more than {MAX_TARGET:,} characters")
    raw, _, query = target.partition("?")
    found = _VERSION.fullmatch(raw)
    path = (found[2] if found else raw).replace("%2B", "+")  # in the tag of an image
    # The engine decodes a path, and goes up at "..": what is left here means what it says.
    if found and not re.search(r"%|//|(?:^|/)\.{1,2}(?:/|$)", path):
        for row, pattern in _ROWS:
            if row.method == method and (match := pattern.fullmatch(path)):
                given = dict(_parameters(query, row))
                return Request(method, found[1] or "", path, given, row.check, match.groupdict().get("id") or "")
    raise Forbidden(f"{shown(method)} {shown(raw)} is nothing that jaas asks for")


def _parameters(query: str, row: Row) -> Iterator[tuple[str, str]]:
    seen = set()
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise Forbidden(f"{row.path}: the parameters are too many, or no UTF-8") from None
    for name, value in pairs:
        if name not in row.query or name in seen:
            raise Forbidden(f"{row.path}: the parameter {shown(name)} may not be given, or not twice")
        seen.add(name)
        if name == "filters":
            yield name, json.dumps(_filters(value, row))
        elif _QUERY[name].fullmatch(value):
            yield name, value
        else:
            raise Forbidden(f"{row.path}: the parameter {name} has no valid value")
    if row.check is Check.LABEL and "filters" not in seen:
        raise Forbidden(f"{row.path}: only what has a label of jaas may be listed")


def _filters(text: str, row: Row) -> dict[str, list[str]]:
    try:
        found = read_json(text.encode())
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(
        isinstance(values, list) and all(isinstance(one, str) for one in values) for values in found.values()
    ):
        raise Forbidden(f"{row.path}: filters must be an object of lists of texts")
    if row.check is Check.LABEL and not has_our_label(found):
        raise Forbidden(f"{row.path}: only what has a label of jaas may be listed")
    return found


def has_our_label(filters: Mapping[str, Sequence[str]]) -> bool:
    """Return whether a list is limited to what has a label of jaas: of several labels each has to be there."""
    return any(one.startswith(_OURS) for one in filters.get("label", ()))

"""All requests and streams to a Docker engine's API. The ONLY module that imports docker.

docker-py opens the connections (unix sockets, TCP, TLS, SSH) and finds the credentials of registries. The requests go
straight over its urllib3 connections: measured, a call through docker-py takes 2 ms of the worker's processor time, the
same one here 0.3 ms. There are about five for each job, and up to ten more a second while jobs are in flight.

Errors of all these libraries become temporary or permanent errors of jaas here.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

import docker
import docker.auth
import docker.errors
import pydantic
import requests
import urllib3
import urllib3.exceptions

from jaas_submit.errors import AnswerTooLong, EngineNotFound, EngineRefused, EngineUnavailable
from jaas_submit.placement.logins import ANY_HOST, login_for
from jaas_worker.swarm.engine import TOO_LONG, Frame
from jaas_worker.swarm.frames import FrameParser

__all__ = ["EngineAnswer", "EngineHTTP", "demultiplex", "json_lines", "known_logins", "mapped"]

_MOST_LOGINS: Final = 50  # that are told
_API_VERSION: Final = "1.41"
"""Given to docker-py, so that it does not ask for the version itself."""

_REFUSED_AS_500: Final = re.compile(
    "|".join(
        (
            r"network \S{1,255} not found",
            r"constraint expected one operator",
            r"desc = (?:key|value) '",
            r"desc = invalid expr: ",
            r"raft message is too large",
            r"trying to send message larger than max",
            r"received message larger than max",
        )
    )
)
"""What an engine answers with status 500 although the request itself is wrong.

Source: moby, daemon/cluster/helpers.go, and moby/swarmkit, manager/constraint and manager/state/raft, whose errors have
no code; the same from Docker 20.10 to 28.5. The last two are gRPC's, between the engine and the swarm's leader.
"""

_CONFIG_GONE: Final = re.compile(r"(?:rpc error: code = [A-Za-z]{1,30} desc = |socket proxy: )?configs? not found: ")
"""How an engine's answer begins if a service has a config that is not there. Only its beginning is the engine's own:
what follows may be a description's words. Source: moby/swarmkit, manager/controlapi/service.go; seen on Docker 20.10.
The socket proxy says it in the same words."""

_VERSION_REFUSED: Final = re.compile(r"client version \S{1,20} is too (?:old|new)")
"""How an engine's answer begins, with status 400, that was exchanged since its API's version was asked for. Source:
moby, api/server/middleware/version.go; seen on Docker 28.5."""

_PIECE: Final = 2**16
"""Bytes of a stream that are read at once, at most."""


class EngineAnswer(Exception):
    """The engine answered with an error status."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(status, said)
        self.status = status
        self.said = said

    @property
    def version_refused(self) -> bool:
        """Whether the engine speaks no such version of its API."""
        return bool(_VERSION_REFUSED.match(self.said))

    @property
    def config_gone(self) -> bool:
        """Whether a config that the service should have is not there, where this answers the creation of a service."""
        return bool(_CONFIG_GONE.match(self.said))


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Convert the errors of a request, or of reading its answer, into errors of jaas.

    Args:
        what: what is being done, for the text.

    Raises:
        EngineNotFound: the requested object does not exist.
        EngineRefused: it refuses permanently.
        EngineUnavailable: it does not answer, refuses temporarily, or its answer is invalid.
    """
    try:
        yield
    except EngineAnswer as error:
        raise _refusal(what, error) from error
    except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineUnavailable(f"{what}: the engine does not answer ({_plain(error)})") from error
    except json.JSONDecodeError as error:
        raise EngineUnavailable(f"{what}: its answer is not valid in Docker's API (not JSON)") from error
    except pydantic.ValidationError as error:  # its text would show the answer
        problem = "its answer is not valid in Docker's API"
        raise EngineUnavailable(f"{what}: {problem} ({error.error_count()} errors)") from None


def _refusal(what: str, error: EngineAnswer) -> EngineRefused | EngineUnavailable:
    status, said = error.status, error.said
    if status == 404:
        return EngineNotFound(f"{what}: {said}")
    if status == TOO_LONG:
        return AnswerTooLong(f"{what}: {said}", status)
    if error.version_refused:  # says nothing about the request itself
        return EngineUnavailable(f"{what}: no version of its API is accepted: {said}")
    # 4xx: the engine understood and refuses. 503: the node is not a manager, or has no leader.
    if (400 <= status < 500 and status not in {408, 429}) or _REFUSED_AS_500.search(said):
        return EngineRefused(f"{what}: {said}")
    return EngineUnavailable(f"{what}: {said}", status)


class _Session:
    """One thread's connections to the engine."""

    def __init__(self, host: str, timeout: float) -> None:
        self.docker: Any = docker.APIClient(base_url=host, version=_API_VERSION, timeout=int(max(timeout, 1)))
        prepared = requests.Request("GET", self.docker.base_url).prepare()
        adapter: Any = self.docker.get_adapter(self.docker.base_url)  # the stubs lack the method that returns a pool
        self._pool: urllib3.HTTPConnectionPool = adapter.get_connection_with_tls_context(
            prepared, self.docker.verify, cert=self.docker.cert
        )
        self.version = self.ask_version(timeout)

    def ask_version(self, timeout: float) -> str:
        """Return the newest version of the API that the engine speaks now."""
        return str(self.send("GET", "/version", timeout).json()["ApiVersion"])

    def send(
        self,
        method: str,
        path: str,
        timeout: float | urllib3.Timeout,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        answer = self._pool.urlopen(
            method,
            path,
            body,
            dict(headers or ()),
            retries=False,
            redirect=False,
            timeout=timeout,
            preload_content=not stream,
        )
        if answer.status >= 400:
            raise EngineAnswer(answer.status, _said(answer.data))
        return answer

    def close(self) -> None:
        self.docker.close()


class EngineHTTP:
    """An engine's API. Threads may share it; each gets its own connections.

    Args:
        host: URL of the API, such as ``unix:///var/run/docker.sock`` or ``tcp://...``.
        timeout: seconds to wait for the connection, and for each piece of an answer.
    """

    def __init__(self, host: str, timeout: float) -> None:
        self.host = host
        self.timeout = timeout
        self._local = threading.local()

    @property
    def _session(self) -> _Session:
        found: _Session | None = getattr(self._local, "session", None)
        if found is None:
            found = self._local.session = _Session(self.host, self.timeout)
        return found

    @property
    def version(self) -> str:
        """The version of the API that the engine speaks."""
        return self._session.version

    def credentials(self, image: str, registry: str | None) -> dict[str, str]:
        """Return the header with the credentials of an image's registry; empty if there are none.

        Args:
            image: the image's name.
            registry: the login's name; None means the one of the image's own registry.

        Raises:
            ImageRefused: there is no such login, or it is for another host.
        """
        host, _ = docker.auth.resolve_repository_name(image)
        if registry is None:
            header = docker.auth.get_config_header(self._session.docker, host)
        else:
            logins = docker.auth.load_config()
            stored = {host} if logins.creds_store else set()
            name = login_for(registry, host, {*logins.auths, *(logins.cred_helpers or ()), *stored})
            found = logins.auths.get(name) or docker.auth.resolve_authconfig(logins, name)
            header = docker.auth.encode_header(found) if found else None
        return {"X-Registry-Auth": header.decode("ascii")} if header else {}

    def ask(
        self,
        method: str,
        path: str,
        *,
        timeout: float = 0.0,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request. It is repeated only if the engine speaks another version of its API by now.

        Args:
            method: such as GET.
            path: without the API's version, such as ``services/create``.
            timeout: seconds; 0 means those of this engine.
            query: values that are not text are sent as JSON.
            body: sent as JSON; None sends none.
            headers: further ones.
            stream: the caller reads the answer's body and closes the answer.

        Raises:
            EngineAnswer: its status is an error.
            urllib3.exceptions.HTTPError: there was no answer.
            docker.errors.DockerException: the connection cannot be made.
        """
        session = self._session
        sent, data = dict(headers or ()), None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        used = session.version
        try:
            return session.send(method, _url(used, path, query), timeout or self.timeout, data, sent, stream=stream)
        except EngineAnswer as error:
            if not error.version_refused:
                raise
            session.version = session.ask_version(self.timeout)
            if session.version == used:
                raise
        return session.send(
            method, _url(session.version, path, query), timeout or self.timeout, data, sent, stream=stream
        )

    def read(self, path: str, query: Mapping[str, Any], most: int) -> Any:
        """Return what is in a list, which is read only as long as it is not too long.

        Args:
            path: as for ``ask``.
            query: as for ``ask``.
            most: bytes; 0 means any length.

        Raises:
            AnswerTooLong: it has more.
            EngineAnswer, urllib3.exceptions.HTTPError, docker.errors.DockerException: as for ``ask``.
        """
        answer = self.ask("GET", path, query=query, stream=True)
        data = bytearray()
        try:
            while piece := answer.read1(_PIECE):
                data += piece
                if 0 < most < len(data):
                    raise AnswerTooLong(f"{path}: the engine's answer has more than {most:,} bytes")
        finally:
            answer.close()
        return json.loads(data)

    def follow(self, path: str, query: Mapping[str, Any], silence: float) -> Iterator[Any]:
        """Yield the JSON objects of an endless answer, on a separate connection.

        Args:
            path: as for ``ask``.
            query: as for ``ask``.
            silence: seconds without an object after which it ends: nothing else tells of a host that is gone.

        Raises:
            urllib3.exceptions.ReadTimeoutError: it was silent for so long; nothing may have happened.
            EngineAnswer, urllib3.exceptions.HTTPError, docker.errors.DockerException: as for ``ask``.
        """
        session = _Session(self.host, self.timeout)
        try:
            patience = urllib3.Timeout(connect=self.timeout, read=silence)
            answer = session.send("GET", _url(session.version, path, query), patience, stream=True)
            try:
                yield from json_lines(answer)
            finally:
                answer.close()
        finally:
            session.close()


def _url(version: str, path: str, query: Mapping[str, Any] | None) -> str:
    url = f"/v{version}/{path}"
    if not query:
        return url
    return f"{url}?{urlencode({k: v if isinstance(v, str) else json.dumps(v) for k, v in query.items()})}"


def _said(data: bytes) -> str:
    """Return the text in an error's body, which is JSON, unless another program answers in the engine's place."""
    text = data.decode(errors="replace").strip()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return text


def json_lines(raw: urllib3.BaseHTTPResponse) -> Iterator[Any]:
    """Yield the objects of a stream of JSON lines; an incomplete last line is ignored."""
    rest = b""
    while piece := raw.read1(_PIECE):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (json.loads(line) for line in lines if line.strip())


def demultiplex(raw: urllib3.BaseHTTPResponse, deadline: float) -> Iterator[Frame]:
    """Yield the frames of a multiplexed stream.

    Args:
        raw: the engine's answer.
        deadline: when it has to end, by the monotonic clock.

    Raises:
        EngineUnavailable: it does not end in time, or is cut off.
    """
    parser = FrameParser()
    while True:
        if time.monotonic() > deadline:
            raise EngineUnavailable("reading logs: the time limit has passed")
        data = raw.read1(_PIECE)
        if not data:
            yield from parser.end()
            return
        yield from parser.feed(data)


def _plain(error: BaseException) -> str:
    """Return the innermost error in words: requests and urllib3 wrap the system's in two texts of their own."""
    seen: list[object] = [error]
    for one in seen:
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
        if isinstance(one, BaseException):
            seen += [*one.args, one.__cause__, one.__context__][:10]
        elif isinstance(one, tuple):
            seen += one[:10]
        if len(seen) > 50:
            break
    return str(error)


def known_logins() -> list[str]:
    """Return the names of the logins that this process has, some dozen, for those who want to know which there are."""
    logins = docker.auth.load_config()
    names = sorted({*logins.auths, *(logins.cred_helpers or ())})[:_MOST_LOGINS]
    return [*names, ANY_HOST] if logins.creds_store else names

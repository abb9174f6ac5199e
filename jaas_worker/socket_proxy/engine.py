"""The engine behind the proxy, at its unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from jaas_submit.errors import AnswerTooLong, EngineUnavailable
from jaas_submit.policy.ages import api_of_engine, newest_setting
from jaas_submit.policy.facts import EngineAge, Facts, NetworkFacts, Reference
from jaas_worker.swarm.responses import network_in

__all__ = ["Answer", "Upstream"]

_MAX_ANSWER: Final = 64 * 2**20
"""Bytes of an answer that is looked into: ten thousand tasks have some 20 MB."""

_PIECE: Final = 2**16
_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 60.0
"""Seconds for an answer that is looked into. A stream may be silent for any time."""


class Answer(NamedTuple):
    """An answer that was read."""

    status: int
    kind: str
    """Its Content-Type."""
    body: bytes

    def json(self) -> Any:
        """Return what is in it.

        Raises:
            EngineUnavailable: it is no JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise EngineUnavailable("the engine's answer is no JSON") from None


class Upstream:
    """Sends requests to the engine, and asks it for what a decision needs.

    Args:
        socket: path of the engine's unix socket.
    """

    def __init__(self, socket: str) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(socket, limit=0),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_PIECE,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    @asynccontextmanager
    async def stream(
        self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; its answer is read by the caller.

        Args:
            method: such as GET.
            target: path and query.
            body: sent as JSON; None sends none.
            headers: further ones.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        sent = dict(headers or ())
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        patience = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        try:
            async with self._session.request(
                method, URL(f"http://engine{target}", encoded=True), data=data, headers=sent, timeout=patience
            ) as answer:
                yield answer
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnavailable(f"the engine does not answer ({error or type(error).__name__})") from error

    async def ask(self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request, and return its answer; the arguments are those of ``stream``.

        Raises:
            EngineUnavailable: the engine does not answer in time, or at too great length.
        """
        try:
            async with asyncio.timeout(_ANSWER_S), self.stream(method, target, body, headers) as answer:
                parts: list[bytes] = []
                size = 0
                async for piece in answer.content.iter_chunked(_PIECE):
                    parts.append(piece)
                    size += len(piece)
                    if size > _MAX_ANSWER:
                        raise AnswerTooLong(f"the engine's answer has more than {_MAX_ANSWER:,} bytes")
                return Answer(answer.status, answer.headers.get("Content-Type", ""), b"".join(parts))
        except TimeoutError:
            raise EngineUnavailable("the engine does not answer in time") from None

    async def facts(self, version: str, request: Mapping[str, Any], configs: list[str]) -> Facts:
        """Return what the swarm says of all that a request for a service refers to.

        Args:
            version: of the API, such as ``/v1.41``.
            request: body of ``POST /services/create``, whose settings have the right types.
            configs: ids of further configs.

        Raises:
            EngineUnavailable: it does not say.
        """
        task = request["TaskTemplate"]
        container = task["ContainerSpec"]
        secrets = [str(one.get("SecretID")) for one in container.get("Secrets") or ()]
        configs = [*configs, *(str(one.get("ConfigID")) for one in container.get("Configs") or ())]
        networks: dict[str, NetworkFacts] = {}
        for target in {str(one.get("Target")) for one in task.get("Networks") or ()}:
            if (found := await self._network(version, target)) is not None:
                networks[target] = found
        return Facts(
            await self._references(version, "secrets", secrets),
            await self._references(version, "configs", configs),
            networks,
            await self._engines(version) if newest_setting(request) else (),
        )

    async def _json(self, target: str) -> Any:
        answer = await self.ask("GET", target)
        if answer.status >= 400:
            raise EngineUnavailable(f"the engine answers {answer.status}")
        return answer.json()

    async def _references(self, version: str, kind: str, ids: list[str]) -> dict[str, Reference]:
        if not ids:
            return {}
        query = urlencode({"filters": json.dumps({"id": ids})})
        found = await self._json(f"{version}/{kind}?{query}") or ()
        # The filter matches prefixes; only whole ids count.
        known = {item["ID"]: item["Spec"] for item in found if item["ID"] in ids}
        return {one: Reference(spec["Name"], spec.get("Labels") or {}) for one, spec in known.items()}

    async def _network(self, version: str, name: str) -> NetworkFacts | None:
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii():
            return None  # no network is named so, which the engine will say
        answer = await self.ask("GET", f"{version}/networks/{name}")
        if answer.status == 404:
            return None
        if answer.status >= 400:
            raise EngineUnavailable(f"the engine answers {answer.status}")
        return network_in(answer.body)

    async def _engines(self, version: str) -> tuple[EngineAge, ...]:
        # All nodes: a proxy does not work out which of them may get the job.
        manager = str((await self._json("/version"))["ApiVersion"]).split(".")
        known = (int(manager[0]), int(manager[1])) if len(manager) == 2 and all(map(str.isdecimal, manager)) else None
        nodes = [item["Description"] for item in await self._json(f"{version}/nodes") or ()]
        return (
            EngineAge("the manager", known),
            *(
                EngineAge(f"node {one.get('Hostname', '')}", api_of_engine(one["Engine"]["EngineVersion"]))
                for one in nodes
            ),
        )

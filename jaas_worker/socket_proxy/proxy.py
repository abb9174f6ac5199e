"""Answers requests: asks the pure rules, and the engine where they need to know more; then passes them on."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from aiohttp import web

from jaas_submit.errors import AnswerTooLong, EngineUnavailable
from jaas_submit.policy.document import Policy
from jaas_submit.policy.facts import Context
from jaas_worker.socket_proxy.bodies import (
    MAX_BODY,
    admitted,
    config_body,
    is_file,
    is_of_job,
    may_be_like,
    proposal,
    stopped,
)
from jaas_worker.socket_proxy.engine import Answer, Upstream
from jaas_worker.socket_proxy.routes import Check, Forbidden, Request, allowed_request, has_our_label
from jaas_worker.socket_proxy.store_binds import StoreBinds
from jaas_worker.swarm.engine import TOO_LONG
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["SocketProxy"]

logger = logging.getLogger(__name__)

_LOGIN: Final = "X-Registry-Auth"
"""The header with the login of a registry: the only one that goes through."""

_MAX_REQUESTS: Final = 2000
"""At once: an agent has a connection for each container that it follows."""


class SocketProxy:
    """Passes requests on, or refuses them.

    Args:
        upstream: the engine.
        policy: what a job may ask for.
        of_worker: queue and log driver of the workers.
        store: says which binds are those of files in the workers' local store.
    """

    def __init__(self, upstream: Upstream, policy: Policy, of_worker: Context, store: StoreBinds) -> None:
        self._upstream = upstream
        self._policy = policy
        self._of_worker = of_worker
        self._store = store
        self._open = 0

    def application(self) -> web.Application:
        """Return what a web server runs."""
        made = web.Application(client_max_size=MAX_BODY)
        made.router.add_route("*", "/{all:.*}", self.answer)
        return made

    async def answer(self, received: web.Request) -> web.StreamResponse:
        """Answer a request."""
        if self._open >= _MAX_REQUESTS:
            return _error(503, f"more than {_MAX_REQUESTS:,} requests at once")
        self._open += 1
        try:
            request = allowed_request(received.method, received.raw_path)
            return await self._pass(request, received)
        except Forbidden as error:
            where = received.raw_path.partition("?")[0]
            logger.warning("%s %s: %s", received.method, where[:200], error, extra=action(Action.PROXY_REFUSED))
            return _error(403, str(error))
        except AnswerTooLong as error:
            return _error(TOO_LONG, str(error))
        except EngineUnavailable as error:
            return _error(503, str(error))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            return _error(503, f"the engine's answer is not valid in Docker's API ({type(error).__name__})")
        finally:
            self._open -= 1

    async def _pass(self, request: Request, received: web.Request) -> web.StreamResponse:
        login = {_LOGIN: received.headers[_LOGIN]} if _LOGIN in received.headers else {}
        if request.method == "POST":
            return _whole(await self._post(request, await received.read(), login))
        if request.check in {Check.SERVICE, Check.CONTAINER, Check.CONFIG}:
            found, subject = await self._of_job(request)
            return _whole(found) if found else await self._stream(request.method, request.target(subject), received)
        if names := _left_out(request):
            return await self._without(request, names)
        return await self._stream(request.method, request.target(), received, login)

    async def _post(self, request: Request, data: bytes, login: dict[str, str]) -> Answer:
        if request.check is Check.CREATE:
            return await self._create(request, data, login)
        if request.check is Check.UPDATE:
            return await self._update(request, data)
        return await self._upstream.ask("POST", request.target(), config_body(data))

    async def _of_job(self, request: Request) -> tuple[Answer | None, str]:
        """Return the id of what is a job's; or the answer, if that is what the request asks for, or an error."""
        kind, _, rest = request.path.partition("/")
        what = f"{kind}/{request.subject}{'/json' if kind == 'containers' else ''}"
        answer = await self._upstream.ask("GET", f"{request.version}/{what}")
        if answer.status >= 400:
            return answer, ""
        found = answer.json()
        labels = found["Config" if kind == "containers" else "Spec"].get("Labels")
        same = request.method == "GET" and rest in {request.subject, f"{request.subject}/json"}
        shown = kind == "services" and same and may_be_like(found["Spec"], self._policy, self._of_worker)
        if not is_of_job(labels) and not (kind == "configs" and is_file(labels)) and not shown:
            raise Forbidden(f"{what.removesuffix('/json')} is not of a job")
        return (answer if same else None), str(found["Id"] if kind == "containers" else found["ID"])

    async def _create(self, request: Request, data: bytes, login: dict[str, str]) -> Answer:
        wanted = proposal(data, self._store)
        own = [str(one.get("ConfigID")) for one in wanted.configs]
        facts = await self._upstream.facts(request.version, wanted.asked, own)
        body, warning = admitted(wanted, facts, self._policy, self._of_worker)
        if warning:
            logger.warning("%s: %s", body["Name"], warning, extra=action(Action.POLICY_WARNED))
        return await self._upstream.ask("POST", request.target(), body, login)

    async def _update(self, request: Request, data: bytes) -> Answer:
        if "version" not in request.query:
            raise Forbidden("services/ID/update: the parameter version is missing")
        found, _ = await self._of_job(request._replace(method="GET", path=f"services/{request.subject}"))
        if found is None or found.status >= 400:
            return found or Answer(404, "", b"")
        present = found.json()
        return await self._upstream.ask("POST", request.target(str(present["ID"])), stopped(data, present["Spec"]))

    async def _without(self, request: Request, names: tuple[str, ...]) -> web.StreamResponse:
        """Pass a list on without parts of each item's ``Spec``."""
        answer = await self._upstream.ask(request.method, request.target())
        if answer.status >= 400:
            return _whole(answer)
        items = answer.json() or []
        for item in items:
            for name in names:
                (item.get("Spec") or {}).pop(name, None)
        return web.json_response(items)

    async def _stream(
        self, method: str, target: str, received: web.Request, headers: dict[str, str] | None = None
    ) -> web.StreamResponse:
        async with self._upstream.stream(method, target, headers=headers) as answer:
            made = web.StreamResponse(status=answer.status)
            for name in ("Content-Type", "Content-Length"):
                if name in answer.headers:
                    made.headers[name] = answer.headers[name]
            await made.prepare(received)
            while piece := await answer.content.readany():
                await made.write(piece)
            await made.write_eof()
            return made


def _left_out(request: Request) -> tuple[str, ...]:
    """Return the parts of each ``Spec`` in a list that are nobody's business."""
    if request.check is Check.NO_DATA:
        return ("Data",)
    if request.check is Check.TASKS and not has_our_label(json.loads(request.query.get("filters", "{}"))):
        return ("ContainerSpec", "PluginSpec", "NetworkAttachmentSpec")
    return ()


def _whole(answer: Answer) -> web.Response:
    made = web.Response(status=answer.status, body=answer.body)
    if answer.kind:
        made.headers["Content-Type"] = answer.kind
    return made


def _error(status: int, said: str) -> web.Response:
    body: dict[str, Any] = {"message": f"socket proxy: {said}"}
    return web.json_response(body, status=status)

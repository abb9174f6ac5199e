"""What jaas adds to Flower's pages: no frames, a pause after wrong passwords, a login for metrics and health check."""

from __future__ import annotations

import logging
import os
import time
from typing import Any, Final

import flower.urls
import tornado.web
from flower.views import BaseHandler
from flower.views.monitor import Healthcheck, Metrics
from tornado.httputil import HTTPHeaders
from tornado.options import options
from tornado.routing import URLSpec

from jaas_submit.dashboard.wrong_passwords import WrongPasswords
from jaas_submit.errors import SpecError

__all__ = ["HEADERS", "OPEN_METRICS", "guard_flower"]

OPEN_METRICS: Final = "JAAS_FLOWER_OPEN_METRICS"
HEADERS: Final = {
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer carries: a page of another site that shows Flower in a frame could make its user press a button."""

_logger = logging.getLogger(__name__)
_wrong_passwords: Final = WrongPasswords()


def guard_flower() -> None:
    """Change Flower's list of pages and its settings. Call it before ``flower.app.Flower`` is made.

    Raises:
        SpecError: the variable ``JAAS_FLOWER_OPEN_METRICS`` is neither ``true`` nor ``false``.
    """
    text = os.environ.get(OPEN_METRICS) or "false"
    if text.lower() not in {"true", "false"}:
        raise SpecError(f"{OPEN_METRICS} must be true or false", field=OPEN_METRICS)
    flower.urls.settings["transforms"] = [_Headers]
    # In place, because flower.app has the list under a name of its own.
    flower.urls.handlers[:] = [_guarded(entry, text.lower() == "true") for entry in flower.urls.handlers]


class _Headers(tornado.web.OutputTransform):
    """Tornado calls it for every answer: pages, static files, errors."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in HEADERS.items():
            headers[name] = value
        return super().transform_first_chunk(status_code, headers, chunk, finishing)


class _Guard(tornado.web.RequestHandler):
    """Looks at the password before anything else does, whatever the page."""

    def prepare(self) -> Any:
        if options.basic_auth and "Authorization" in self.request.headers and not self._may_go_on():
            return None  # the answer is finished, so Tornado does not go on
        return super().prepare()

    def _may_go_on(self) -> bool:
        address, now = str(self.request.remote_ip), time.monotonic()
        if wait := _wrong_passwords.wait_s(address, now):
            self.set_status(429)
            self.set_header("Retry-After", str(wait))
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish(f"Too many wrong passwords from your address. Try again in {wait} s.\n")
            return False
        try:
            _ = self.current_user
        except (tornado.web.HTTPError, TypeError):  # TypeError: Flower cannot compare what is not ASCII
            if pause := _wrong_passwords.note(address, now):
                _logger.warning("wrong password from %s: the next one is looked at in %d s", address, pause)
            raise tornado.web.HTTPError(401) from None
        return True


def _guarded(entry: Any, open_metrics: bool) -> URLSpec:
    """Return an entry of Flower's list with a handler that asks ``_Guard`` first."""
    spec = entry if isinstance(entry, URLSpec) else URLSpec(*entry)
    handler = spec.handler_class
    if issubclass(handler, BaseHandler):
        more: dict[str, Any] = {}
        if handler in {Metrics, Healthcheck} and not open_metrics:
            more["get"] = tornado.web.authenticated(handler.get)
        handler = type(handler.__name__, (_Guard, handler), {"__module__": handler.__module__, **more})
    return URLSpec(spec.regex.pattern, handler, spec.kwargs, spec.name)

"""The one Redis URL for everything: the ledger's connections, Celery's broker and its results.

Two forms::

    redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]      one server
    rediss://...[?ssl_cert_reqs=required|optional|none][&ssl_ca_certs=FILE][&ssl_...]      the same with TLS
    sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/DB]?master=NAME
        [&sentinel_username=USER][&sentinel_password=PASSWORD][&replicas=N]
    sentinels://...&ssl_ca_certs=FILE[&ssl_...]      the same with TLS, at the Sentinels and at the servers

With the last two, Sentinel (https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/) is asked for the
present master at each new connection. User and password before the hosts are those of the data servers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import bounded

__all__ = ["SentinelAddress", "default_url", "masked", "sentinel_address", "server_url"]

_PORT: Final = 26379
"""Sentinel's own."""

_PARAMETERS: Final = ("master", "sentinel_username", "sentinel_password", "replicas")

_EXAMPLE: Final = "sentinel://host1:26379,host2:26379,host3:26379/0?master=mymaster"

_MAX_URL: Final = 8192
"""Characters: room for many Sentinels."""

_SINGLE: Final = "redis://host:6379/0"

_TLS_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password")
"""Parameters of TLS that redis-py, kombu and Celery read alike."""

_SHOWN: Final = frozenset({"master", "replicas", "ssl_cert_reqs", *_TLS_FILES}) - {"ssl_password"}
"""Parameters whose values are no secrets."""

_CERT_REQS: Final = {
    **{word: word for word in ("required", "optional", "none")},
    **{f"CERT_{word.upper()}": word for word in ("required", "optional", "none")},
}
"""How ssl_cert_reqs may be written: redis-py's words, and Celery's."""


@dataclass(frozen=True)
class SentinelAddress:
    """The parts of a ``sentinel://`` URL.

    Args:
        hosts: host and port of each Sentinel.
        master: name of the master there.
        db: number of the database.
        username: of the data servers; empty means the default user.
        password: of the data servers; empty means none.
        sentinel_username: of the Sentinels.
        sentinel_password: of the Sentinels.
        replicas: how many replicas must have a submitted job before it is acknowledged, and an outcome before its
            service is removed; 0 waits for none.
        tls: names and values of the parameters of TLS (``ssl_...``), as redis-py and Celery take them; or None.
    """

    hosts: tuple[tuple[str, int], ...]
    master: str
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    replicas: int = 0
    tls: tuple[tuple[str, str], ...] | None = field(default=None, repr=False)

    def __json__(self) -> str:
        """Return what `celery inspect` shows of it (kombu's JSON asks for it by this name)."""
        return repr(self)

    def celery_urls(self) -> list[str]:
        """Return a URL for each Sentinel, in the form that Celery and kombu know."""
        named = self.username or self.password
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@" if named else ""
        hosts = [(f"[{host}]" if ":" in host else host, port) for host, port in self.hosts]
        return [f"sentinel://{login}{host}:{port}/{self.db}" for host, port in hosts]


def default_url() -> str:
    """Return the Redis URL that is used when none is given.

    In this order: the file that JAAS_REDIS_URL_FILE names (such as a swarm secret), JAAS_REDIS_URL, CELERY_BROKER_URL,
    Redis on this host.

    Raises:
        SpecError: the file cannot be read.
    """
    if path := os.environ.get("JAAS_REDIS_URL_FILE"):
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        except OSError as error:
            raise SpecError(f"JAAS_REDIS_URL_FILE: {error}") from error
    given = os.environ.get("JAAS_REDIS_URL") or os.environ.get("CELERY_BROKER_URL") or "redis://127.0.0.1:6379/0"
    return given.strip()


def sentinel_address(url: str) -> SentinelAddress | None:
    """Return the parts of a ``sentinel://`` URL; None for a URL of a single server.

    Args:
        url: of one of the forms above.

    Raises:
        SpecError: it has another form. The text contains no part of the URL that may be a password.
    """
    try:
        bounded(url, _MAX_URL)
    except ValueError as error:
        raise SpecError(f"Redis URL: {error}") from None
    scheme = url.partition("://")[0].lower()
    if ";" in url:
        raise SpecError(f"Redis URL: write one URL; where servers fail over, with commas between Sentinels: {_EXAMPLE}")
    if scheme in {"redis", "rediss"}:
        _check_single(url)
        return None
    if scheme not in {"sentinel", "sentinels"}:
        begins = "redis://, rediss://, sentinel:// or sentinels://"
        raise SpecError(f"Redis URL: must begin with {begins}, such as {_EXAMPLE}")
    rest, _, query = url[len(scheme) + len("://") :].partition("?")
    login, _, rest = rest.rpartition("@")
    hosts, _, db = rest.partition("/")
    username, _, password = login.partition(":")
    if db and not re.fullmatch(r"[0-9]{1,4}", db):
        raise SpecError(f"Redis URL: what follows the / must be the number of a database, as in {_EXAMPLE}")
    options = _options(query, tls=scheme == "sentinels")
    return SentinelAddress(
        hosts=tuple(_host(number, text) for number, text in enumerate(hosts.split(","), 1)),
        master=options["master"],
        db=int(db or 0),
        username=unquote(username),
        password=unquote(password),
        sentinel_username=options.get("sentinel_username", ""),
        sentinel_password=options.get("sentinel_password", ""),
        replicas=int(options.get("replicas", 0)),
        tls=_tls(options) if scheme == "sentinels" else None,
    )


def _tls(given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    checks = _CERT_REQS[given.get("ssl_cert_reqs", "required")]
    return (("ssl_cert_reqs", checks), *((name, given[name]) for name in _TLS_FILES if name in given))


def _check_single(url: str) -> None:
    # URLs that redis-py and kombu read differently are refused: records and messages must be in one Redis.
    login, _, rest = url.partition("://")[2].rpartition("@")
    if re.search(r"[/?#]", login):
        raise SpecError("Redis URL: in a password, write / as %2F, ? as %3F and # as %23")
    where, _, query = rest.partition("?")
    db = where.partition("/")[2]
    if db and not re.fullmatch(r"[0-9]{1,4}", db):
        raise SpecError(f"Redis URL: what follows the / must be the number of a database, as in {_SINGLE}")
    given = dict(parse_qsl(query, keep_blank_values=True))
    # Not quoted: with an unescaped ? it is part of a password.
    if not all(name.startswith("ssl_") for name in given):
        raise SpecError(f"Redis URL: takes no parameters but those of TLS (ssl_...), and the database as in {_SINGLE}")
    if given and not url.lower().startswith("rediss://"):
        raise SpecError("Redis URL: parameters of TLS (ssl_...) need rediss:// in the place of redis://")
    _check_tls(given)


def _check_tls(given: Mapping[str, str]) -> None:
    if given.keys() - {"ssl_cert_reqs", *_TLS_FILES}:
        raise SpecError(f"Redis URL: the parameters of TLS are ssl_cert_reqs, {', '.join(_TLS_FILES)}")
    if given.get("ssl_cert_reqs", "required") not in _CERT_REQS:
        raise SpecError("Redis URL: ssl_cert_reqs must be required, optional or none (or CERT_REQUIRED, ...)")


def server_url(url: str) -> str:
    """Return the URL of a single server in the form that redis-py, kombu and Celery read alike.

    redis-py refuses Celery's ``CERT_NONE``. Without ``ssl_cert_reqs`` kombu checks no certificate, and Celery's result
    backend refuses the URL.

    Args:
        url: one that ``sentinel_address`` has checked; any other than ``rediss://`` is returned unchanged.
    """
    where, _, query = url.partition("?")
    if not where.lower().startswith("rediss://"):
        return url
    given = dict(parse_qsl(query, keep_blank_values=True))
    checks = _CERT_REQS[given.get("ssl_cert_reqs", "required")]
    return f"{where}?{urlencode({**given, 'ssl_cert_reqs': checks})}"


def _options(query: str, *, tls: bool) -> dict[str, str]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    ours = {name: value for name, value in given.items() if name.startswith("ssl_")}
    if ours and not tls:
        raise SpecError("Redis URL: parameters of TLS (ssl_...) need sentinels:// in the place of sentinel://")
    _check_tls(ours)
    if given.keys() - ours.keys() - set(_PARAMETERS):
        # Not quoted: with an unescaped ? it is part of a password.
        raise SpecError(f"Redis URL: a sentinel:// URL takes the parameters {', '.join(_PARAMETERS)} and no other")
    if not given.get("master"):
        raise SpecError(f"Redis URL: names no master for the Sentinels to look up; append ?master=NAME, as {_EXAMPLE}")
    if not re.fullmatch("[0-9]", given.get("replicas", "0")):
        raise SpecError("Redis URL: replicas must be a number from 0 to 9, of replicas that must have what is written")
    return given


def _host(number: int, text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or _PORT
    except ValueError:
        host, port = None, 0
    if not host:
        # Not quoted: with a missing @ it is a password.
        raise SpecError(f"Redis URL: Sentinel {number} is not written as HOST or HOST:PORT, as in {_EXAMPLE}")
    return host, port


def masked(url: str) -> str:
    """Return a URL to be shown: without user and password, and without the values of parameters that may be secret."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, login = head.partition("//") if at else url.partition("//")
    if at and "?" in login:  # an unescaped ? in a password, or an unescaped @ in a parameter: it may end anywhere
        return f"{scheme}//***"
    where, question, query = (tail if at else login if slashes else url).partition("?")
    shown = where.partition("#")[0] + question + "&".join(map(_shown_parameter, query.split("&")))
    return (f"{scheme}//" if slashes else "") + ("***@" if at else "") + shown


def _shown_parameter(text: str) -> str:
    name, equals, _ = text.partition("=")
    return f"{name}=***" if equals and name.lower() not in _SHOWN else text if equals or not text else "***"

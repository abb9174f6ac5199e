"""PURE: the values of some options: volumes, files, a registry, a pause, a signal."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from typing import Any, Final

import click

from jaas_submit.cli.service_options.values import pairs_of
from jaas_submit.model.service_options.signals import SIGNALS

__all__ = ["backoff_of", "file_of", "registry_of", "signal_of", "usage_sentence", "volume_of"]

_BACKOFF_KEYS: Final = {key: key for key in ("kind", "delay", "factor", "cap", "jitter")}

_VOLUME_WORDS: Final[dict[str, dict[str, Any]]] = {
    "ro": {"read_only": True},
    "rw": {},
    "nocopy": {"volume_nocopy": True},
    **{name: {"bind_propagation": name} for name in ("private", "rprivate", "shared", "rshared", "slave", "rslave")},
}
"""What may follow the target of a volume."""


def backoff_of(text: str) -> dict[str, str]:
    """Return the fields of a pause: ``10s``, or ``kind=constant,delay=1m``.

    Args:
        text: the option's value.

    Raises:
        click.UsageError: a key is not known.
    """
    return pairs_of("--backoff", text, _BACKOFF_KEYS) if "=" in text else {"delay": text}


def file_of(text: str) -> tuple[str, str]:
    """Return name and path of ``NAME=PATH``; a path alone has the last part of it as its name.

    Args:
        text: the option's value.

    Raises:
        click.UsageError: it has another form.
    """
    name, equals, path = text.partition("=")
    if not equals:
        name, path = os.path.basename(text.rstrip("/")), text
    if not (name and path):
        raise click.UsageError(f"--file-in: write NAME=PATH, or a path alone, not {text[:80]!r}")
    return name, path


def registry_of(text: str) -> tuple[str | None, str]:
    """Return the registry's host and what to tell the user.

    The Go tool took credentials here, in base64: JSON, or user:password as ~/.docker/config.json has them. They must
    not be sent through Redis, so only the host is kept.

    Args:
        text: the option's value.
    """
    credentials = _decoded("".join(text.split()))
    if credentials is None:
        return text, ""
    host: object = None
    if credentials.startswith("{"):
        try:
            host = json.loads(credentials).get("serveraddress")
        except ValueError:
            host = None
    registry = host if isinstance(host, str) and host else None
    login = f"docker login {registry}" if registry else "docker login"
    return registry, (
        "--registry: the credentials given are not sent with the job; the workers use their own "
        f"(`{login}` where they run)"
    )


def _decoded(text: str) -> str | None:
    """Decode credentials from base64; None if the text is a host's name."""
    if "." in text or ":" in text or text == "localhost":  # not in base64, but in most host names
        return None
    try:
        alternative = b"-_" if set(text) & set("-_") else None
        plain = base64.b64decode(text + "=" * (-len(text) % 4), alternative, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    is_login = plain.isprintable() and plain.find(":") > 0
    return plain.strip() if plain.lstrip().startswith("{") or is_login else None


def volume_of(text: str) -> dict[str, Any]:
    """Return the mount of docker's ``SOURCE:TARGET[:ro]``.

    Args:
        text: SOURCE is a folder of the node, by its absolute path, or the name of a volume.

    Raises:
        click.UsageError: it has another form.
    """
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not (source and target):
        raise click.UsageError(f"--volume: write SOURCE:TARGET[:ro], such as /data:/data:ro, not {text[:80]!r}")
    changes: dict[str, Any] = {}
    for word in filter(None, mode.split(",")):
        if word not in _VOLUME_WORDS:
            raise click.UsageError(f"--volume: {word[:40]!r} is not known; there are {', '.join(_VOLUME_WORDS)}")
        changes |= _VOLUME_WORDS[word]
    if source.startswith((".", "~")) or ("/" in source and not source.startswith("/")):
        raise click.UsageError(f"--volume: {source[:80]!r} is no absolute path; name a folder of the node by one")
    fields: dict[str, Any] = {"source": source, "target": target}
    if not source.startswith("/"):
        fields["type"] = "volume"
    return {**fields, **changes}


_SIGNAL_NAMES: Final = frozenset(SIGNALS.values()) | {"CLD", "IOT", "POLL"}


def signal_of(text: str) -> str:
    """Return a signal's full name: ``SIGINT`` for ``INT``, ``int`` or ``2``.

    Args:
        text: as docker takes it.

    Raises:
        click.UsageError: there is no such signal.
    """
    if re.fullmatch("[0-9]{1,4}", text) and int(text) in SIGNALS:
        return f"SIG{SIGNALS[int(text)]}"
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name[3:] not in _SIGNAL_NAMES and not name.startswith(("SIGRTMIN", "SIGRTMAX")):
        raise click.UsageError(f"--stop-signal: {text[:40]!r} is no signal; write TERM, SIGTERM or 15")
    return name


_LONGEST: Final = 2000
"""Characters of a message that is put into other words."""

_IN_OTHER_WORDS: Final = (
    (r"Invalid value for '(?:-\w' / ')?([^']+)': (.*)", r"\1: \2"),
    (r"(.*: )(\S+) is not in the range x>=(\S+)", r"\1must be \3 at least, not \2"),
    (r"(.*: )(\S+) is not in the range x>(\S+)", r"\1must be more than \3, not \2"),
    (r"(.*: )(\S+) is not in the range (\S+)<=x<=(\S+)", r"\1must be between \3 and \4, not \2"),
    (r"(.*: '.*') is not one of (.*)", r"\1 is none of \2"),
    (r"No such (option|command) (\S+)\. \(Did you mean (?:one of: )?(.*)\?\)", r"there is no \1 \2; did you mean \3?"),
    (r"No such (option|command) (\S+)", r"there is no \1 \2"),
    (r"Missing argument '(.*)'", r"\1 is missing"),
    (r"Missing option '(.*)'", r"\1 is missing"),
    (r"Got unexpected extra arguments? \((.*)\)", r"takes no more words: \1"),
    (r"Option '(.*)' requires an argument", r"\1: a value is missing"),
)
"""What click says of a command line, and what jaas says instead: the option first, then what to do."""


def usage_sentence(text: str) -> str:
    """Return click's message about a command line in jaas' words, without a full stop.

    Args:
        text: the message.
    """
    text = text.rstrip(".")
    if len(text) > _LONGEST:  # no pattern sees a text without a bound
        return text
    for pattern, words in _IN_OTHER_WORDS:
        if match := re.compile(pattern, re.DOTALL).fullmatch(text):
            text = match.expand(words)
    return text

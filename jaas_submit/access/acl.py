"""The rules of ACL SETUSER for a role, for Redis 7 and newer, and for Redis 6.2."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from jaas_submit.access.roles import Access, Grants, Key
from jaas_submit.errors import SpecError

__all__ = ["OLDEST", "channel_rule", "key_rule", "password_rule", "redis_version", "rules_of"]

OLDEST: Final = (6, 2)
_SELECTIVE: Final = (7, 0)
"""From here on a rule tells reading from writing (``%R~``, ``%W~``)."""

_NEWER_COMMANDS: Final = {"client|setinfo": (7, 2)}
"""Commands that older servers do not know: there ACL SETUSER refuses to name them."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def redis_version(text: str) -> tuple[int, int]:
    """Return the version of Redis that a text names, such as ``6.2``, ``7`` or ``8.0.1``.

    Raises:
        SpecError: it names none, or one without all of these rules.
    """
    found = re.fullmatch(r"(\d{1,3})(?:\.(\d{1,3}))?(?:\.\d{1,5})?", text)
    if not found:
        raise SpecError(f"--redis: {text!r} is no version; write 6.2, 7.0, 7.2 or 8, for Valkey 7.2", field="redis")
    version = int(found[1]), int(found[2] or 0)
    if version < OLDEST:
        raise SpecError(f"--redis: {text} has no rules for channels; 6.2 is the oldest that has", field="redis")
    return version


def password_rule(digest: str = "", password: bytes | None = None) -> str:
    """Return the rule with a password's digest; with neither, nobody can log in.

    Args:
        digest: SHA-256 of the password, in lower-case hexadecimal digits.
        password: as it is in its file; line ends around it do not count.

    Raises:
        SpecError: the digest is none, or the password is empty.
    """
    if password is not None:
        text = password.strip(b"\r\n")
        if not text:
            raise SpecError("--password-file: the file is empty; write one line with the password", field="password")
        digest = hashlib.sha256(text).hexdigest()
    elif digest and not _DIGEST.fullmatch(digest):
        raise SpecError(
            "--hash: that is no SHA-256; write 64 lower-case hexadecimal digits (`printf %s PASSWORD | sha256sum`)",
            field="hash",
        )
    return f"#{digest}" if digest else "resetpass"


def rules_of(grants: Grants, version: tuple[int, int]) -> list[str]:
    """Return the rules that grant this and nothing else, without a password.

    Args:
        grants: what may be done.
        version: of Redis.
    """
    commands = [f"+{name}" for name in dict.fromkeys(grants.commands) if version >= _NEWER_COMMANDS.get(name, OLDEST)]
    keys = [key_rule(key, version) for key in grants.keys]
    return [
        *("resetkeys", "resetchannels", "-@all"),
        *dict.fromkeys(keys),
        *map(channel_rule, dict.fromkeys(grants.channels)),
        *commands,
    ]


def key_rule(key: Key, version: tuple[int, int] = _SELECTIVE) -> str:
    """Return the rule for some keys; before Redis 7 whoever may read may write.

    Args:
        key: which, and what may be done with them.
        version: of Redis.
    """
    prefixes: dict[Access, str] = {"rw": "~", "r": "%R~", "w": "%W~"}
    return f"{prefixes[key.access] if version >= _SELECTIVE else '~'}{key.pattern}"


def channel_rule(pattern: str) -> str:
    """Return the rule for channels."""
    return f"&{pattern}"

"""PURE: the form of a signed description, which is a compact JWS (RFC 7515, section 3.1).

The payload is the description's JSON text. What the signature says beside it (whose key, which job, when, for which
installation) is in the protected header, under the names of RFC 7519, section 4.1.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import read_json, shown
from jaas_submit.model.job_spec import MAX_SPEC_BYTES

__all__ = [
    "MAX_TOKEN",
    "TYPE",
    "Claims",
    "Refused",
    "claims_in",
    "decoded",
    "description_in",
    "encoded",
    "is_token",
    "unique",
]

TYPE: Final = "jaas-description"
"""``typ`` in the header: no other token that was signed with the same key passes for a description."""

MAX_TOKEN: Final = 2 * MAX_SPEC_BYTES
"""Characters: base64 makes four out of three bytes, and the header is small."""

_MAX_HEADER: Final = 4096
_MAX_NAME: Final = 256
_NAMES: Final = frozenset({"alg", "kid", "typ", "iss", "aud", "iat", "exp", "jti"})
"""All that a header may have: nothing that names a key, such as ``jwk``, or that changes how it is read."""


class Refused(SpecError):
    """A signature does not count.

    Args:
        rule: which rule refuses it, such as ``audience``.
        why: in plain words.
    """

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(f"signature.{rule}: {why}", field=f"signature.{rule}")
        self.rule = rule


class Claims(NamedTuple):
    """What a token says of itself."""

    algorithm: str
    kid: str
    producer: str
    audience: str
    issued_at: int
    expires_at: int
    job_id: str


def is_token(value: object) -> bool:
    """Return whether a value has the form of a token, and not of a description's JSON."""
    return isinstance(value, str) and value.startswith("eyJ") and value.count(".") == 2 and value.isascii()


def encoded(data: bytes) -> bytes:
    """Return bytes in base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def decoded(part: str) -> bytes:
    """Return the bytes in a part of a token.

    Raises:
        Refused: it is not base64url, or not written in the one way that there is for these bytes.
    """
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Refused("format", "a part of the token is not base64url") from None
    if encoded(data) != part.encode():
        raise Refused("format", "a part of the token is not written in the one way that base64url has")
    return data


def description_in(token: str) -> str:
    """Return the JSON text of the description in a token. Nothing is verified.

    Args:
        token: for which ``is_token`` is true.

    Raises:
        Refused: it is too large, or not encoded as a token is.
    """
    if len(token) > MAX_TOKEN:
        raise Refused("format", f"the token has {len(token):,} characters, more than the {MAX_TOKEN:,} allowed")
    try:
        return decoded(token.split(".")[1]).decode()
    except UnicodeDecodeError:
        raise Refused("format", "the description in the token is not UTF-8") from None


def claims_in(token: str) -> Claims:
    """Return what a token says of itself. Nothing is verified.

    Args:
        token: for which ``is_token`` is true.

    Raises:
        Refused: it says too little, too much, or the same twice.
    """
    if len(token) > MAX_TOKEN:
        raise Refused("format", f"the token has {len(token):,} characters, more than the {MAX_TOKEN:,} allowed")
    data = decoded(token.split(".", 1)[0])
    try:
        read_json(data, _MAX_HEADER)  # depth and size
        header = json.loads(data, object_pairs_hook=unique)
    except ValueError as error:
        raise Refused("format", f"the token's header: {shown(str(error), 150)}") from None
    if not isinstance(header, dict) or header.keys() != _NAMES:
        raise Refused("format", f"the token's header must have exactly the names {', '.join(sorted(_NAMES))}")
    if header["typ"] != TYPE:
        raise Refused("format", f"the token's typ must be {TYPE}")
    for name in ("alg", "kid", "iss", "aud", "jti"):
        if not isinstance(header[name], str) or not 0 < len(header[name]) <= _MAX_NAME:
            raise Refused("format", f"the token's {name} must be a text of 1 to {_MAX_NAME} characters")
    for name in ("iat", "exp"):
        if type(header[name]) is not int or not 0 <= header[name] < 2**53:
            raise Refused("format", f"the token's {name} must be whole seconds since 1970")
    return Claims(*(header[name] for name in ("alg", "kid", "iss", "aud", "iat", "exp", "jti")))


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose names are all different, for ``json.loads``.

    Args:
        pairs: names and values, in their order.

    Raises:
        ValueError: a name is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a JSON object has a name twice")
    return found

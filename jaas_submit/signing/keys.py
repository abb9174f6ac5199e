"""The keys: a producer's own, and those by which workers verify. Each key is for one algorithm.

PyJWT and cryptography (``jaas[signing]``) are imported when a key is read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from jaas_submit.errors import SpecError, how_to_install
from jaas_submit.model.bounds import shown
from jaas_submit.signing.producer import Producer
from jaas_submit.signing.tree import TREE

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "SigningKey",
    "VerifyKey",
    "algorithms",
    "new_pair",
    "read_signing_key",
    "read_verify_keys",
]

Algorithm = Literal["HS256", "EdDSA"]

ALGORITHMS: Final[tuple[Algorithm, ...]] = ("HS256", "EdDSA")
"""HS256: one secret signs and verifies. EdDSA: the producer alone has the private key (Ed25519)."""

_MIN_SECRET: Final = 32
"""Bytes of a secret for HS256. Source: RFC 7518, section 3.2."""

_FIELDS: Final = {"algorithm", "key", "key_file", "producer", "tenant"}
_MAX_NAME: Final = 128


class SigningKey(NamedTuple):
    """A key that signs."""

    algorithm: Algorithm
    key: Any
    """As PyJWT prepares it."""

    def __repr__(self) -> str:
        return f"SigningKey({self.algorithm})"


class VerifyKey(NamedTuple):
    """A key that verifies, and whose signatures it does."""

    algorithm: Algorithm
    key: Any
    producer: Producer

    @property
    def accepted(self) -> tuple[str, ...]:
        """What ``alg`` of a token may be; the key decides, never the token."""
        return ("EdDSA", TREE) if self.algorithm == "EdDSA" else (self.algorithm,)

    def __repr__(self) -> str:
        return f"VerifyKey({self.algorithm}, {self.producer})"


def algorithms() -> Mapping[str, Any]:
    """Return PyJWT's implementation of each algorithm.

    Raises:
        SpecError: the extra ``signing`` is not installed.
    """
    try:
        from jwt.algorithms import HMACAlgorithm, OKPAlgorithm
    except ImportError:
        raise SpecError(f"signing: needs PyJWT and cryptography; {how_to_install('signing')}") from None
    return {"HS256": HMACAlgorithm(HMACAlgorithm.SHA256), "EdDSA": OKPAlgorithm()}


def new_pair() -> tuple[str, str]:
    """Return a new Ed25519 key in PEM: the private key, and the public one.

    Raises:
        SpecError: the extra ``signing`` is not installed.
    """
    algorithms()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def read_signing_key(text: str, name: str = "JAAS_SIGNING_KEY") -> SigningKey:
    """Return the key that a producer signs with.

    Args:
        text: an Ed25519 private key in PEM, or a secret of at least 32 bytes for HS256.
        name: where it comes from, for the text of an error.

    Raises:
        SpecError: it is neither.
    """
    text = text.strip()
    if not text.startswith("-----BEGIN"):
        return SigningKey("HS256", _secret(text, name))
    key = _pem(text, name)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not isinstance(key, Ed25519PrivateKey):
        raise SpecError(f"{name}: must be an Ed25519 private key; make one with `jaas signing new`")
    return SigningKey("EdDSA", key)


def _secret(text: str, name: str) -> Any:
    if len(text.encode()) < _MIN_SECRET:
        raise SpecError(f"{name}: a secret for HS256 must have at least {_MIN_SECRET} bytes; try `jaas signing new`")
    try:
        return algorithms()["HS256"].prepare_key(text)
    except Exception:  # noqa: BLE001 (PyJWT's, of which producers without the extra know nothing)
        raise SpecError(f"{name}: is no secret for HS256 but a key of another kind") from None


def _pem(text: str, name: str) -> Any:
    okp = algorithms()["EdDSA"]
    try:
        return okp.prepare_key(text)
    except Exception:  # noqa: BLE001 (PyJWT and cryptography have many; their texts may quote the key)
        raise SpecError(f"{name}: is no Ed25519 key in PEM; encrypted keys cannot be read") from None


def read_verify_keys(path: str) -> dict[str, VerifyKey]:
    """Return key id -> key, from a TOML file with a table for each key id.

    Args:
        path: of the file. A relative ``key_file`` in it is looked for in its folder.

    Raises:
        SpecError: it cannot be read, or an entry is not valid.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"JAAS_VERIFY_KEYS: {error}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise SpecError(f"JAAS_VERIFY_KEYS: {path} is not TOML: {shown(str(error), 150)}") from None
    if not found:
        raise SpecError(f"JAAS_VERIFY_KEYS: {path} has no key; write a table for each key id")
    return {kid: _entry(kid, fields, Path(path).parent) for kid, fields in found.items()}


def _entry(kid: str, fields: object, folder: Path) -> VerifyKey:
    where = f"JAAS_VERIFY_KEYS: key {shown(kid)}"
    if not isinstance(fields, dict):
        raise SpecError(f"{where}: must be a table, such as [{shown(kid)}]")
    if unknown := sorted(fields.keys() - _FIELDS):
        raise SpecError(f"{where}: {shown(unknown[0])} is unknown; there are {', '.join(sorted(_FIELDS))}")
    if not all(isinstance(value, str) for value in fields.values()):
        raise SpecError(f"{where}: all values must be texts")
    algorithm, producer, tenant = fields.get("algorithm"), fields.get("producer", ""), fields.get("tenant", "")
    if algorithm not in ALGORITHMS:
        raise SpecError(f"{where}: algorithm must be {' or '.join(ALGORITHMS)}")
    if not 0 < len(producer) <= _MAX_NAME or not producer.isprintable():
        raise SpecError(f"{where}: producer must be the name of whoever signs with it")
    if len(tenant) > _MAX_NAME or not tenant.isprintable():
        raise SpecError(f"{where}: tenant must be a name of at most {_MAX_NAME} characters")
    text = _text_of(fields, where, folder)
    key = _secret(text, where) if algorithm == "HS256" else _public(text, where)
    return VerifyKey(algorithm, key, Producer(producer, tenant))


def _text_of(fields: Mapping[str, str], where: str, folder: Path) -> str:
    if ("key" in fields) == ("key_file" in fields):
        raise SpecError(f"{where}: give either key or key_file")
    if "key" in fields:
        return fields["key"].strip()
    try:
        return (folder / fields["key_file"]).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise SpecError(f"{where}: key_file: {shown(str(error), 150)}") from None


def _public(text: str, where: str) -> Any:
    key = _pem(text, where)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not isinstance(key, Ed25519PublicKey):
        raise SpecError(f"{where}: must be an Ed25519 public key; a worker needs no private one")
    return key

"""Who signs: a producer's key, its id, and what the signatures are for."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from jaas_submit.errors import SpecError
from jaas_submit.model.fields import parse_duration
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.signing.gate import Gate
from jaas_submit.signing.keys import SigningKey, VerifyKey, algorithms, read_signing_key
from jaas_submit.signing.producer import Producer
from jaas_submit.signing.tokens import TYPE, Refused, claims_in, encoded, is_token
from jaas_submit.signing.tree import TREE, proofs, statement

__all__ = ["TTL", "Signer", "ToSign"]

TTL: Final = 30 * 86400.0
"""Seconds for which a signature is valid, by default: retries come later than the first attempt."""


class ToSign(NamedTuple):
    """What one token is for; see ``Signer.sign``."""

    description: str
    job_id: str
    not_before: float | None = None


class Signer:
    """Signs descriptions for one installation.

    Args:
        key: the producer's.
        kid: its id, by which workers find the key that verifies.
        audience: the installation's prefix.
        producer: the producer's name there; empty for the key's id.
        ttl: seconds for which a signature is valid.
    """

    def __init__(self, key: SigningKey, kid: str, audience: str, producer: str = "", ttl: float = TTL) -> None:
        self.kid = kid
        self.producer = producer or kid
        self._key = key.key
        self._algorithm: Any = algorithms()[key.algorithm]
        self._ttl = ttl
        public = key.key.public_key() if key.algorithm == "EdDSA" else key.key
        own = VerifyKey(key.algorithm, public, Producer(self.producer))
        self._gate = Gate(audience, {kid: own}, required=True)
        named = {"alg": key.algorithm, "typ": TYPE, "kid": kid, "iss": self.producer, "aud": audience}
        self._head = json.dumps(named)[:-1]
        many = json.dumps({**named, "alg": TREE})[:-1]
        self._head_of_many = many if key.algorithm == "EdDSA" else None

    def __repr__(self) -> str:
        return f"Signer(kid={self.kid!r}, producer={self.producer!r})"

    def sign(self, description: str, job_id: str, *, not_before: float | None = None) -> str:
        """Return the token of a description: a compact JWS.

        Args:
            description: its JSON text, as ``JobSpec.to_json`` returns it.
            job_id: id of the only job that it is for; of a Celery message, the task id.
            not_before: when the job starts at the earliest, in seconds since the epoch.
        """
        text = self._text(self._head, ToSign(description, job_id, not_before), int(time.time()))
        return self._token(text, self._signature(text))

    def sign_many(self, jobs: Sequence[ToSign]) -> list[str]:
        """Return a token for each description; with EdDSA they have one signature in common, see ``signing.tree``.

        Args:
            jobs: 65,536 at most.
        """
        now = int(time.time())
        if self._head_of_many is None or len(jobs) < 2:
            texts = [self._text(self._head, one, now) for one in jobs]
            return [self._token(text, self._signature(text)) for text in texts]
        texts = [self._text(self._head_of_many, one, now) for one in jobs]
        root, ways = proofs(texts)
        signature = self._signature(statement(root))
        return [self._token(text, signature + way) for text, way in zip(texts, ways, strict=True)]

    def own_description(self, job_id: str, token: str, copy_of: str = "") -> JobSpec:
        """Return the description that this key has signed for a job, whether or not the signature's time is over.

        Args:
            job_id: the job's id.
            token: in its record; empty for an unsigned job.
            copy_of: the job that it is a second start of (speculation).

        Raises:
            SpecError: this key has not signed it, or not for this job and installation.
        """
        start = f"job {job_id}: its description cannot be signed again"
        if not is_token(token):
            raise SpecError(f"{start}: it is not signed; submit the job anew", field="signature")
        try:
            if claims_in(token).kid != self.kid:
                raise SpecError(f"{start}: key {self.kid} has not signed it; submit the job anew", field="signature")
            found = self._gate.check(job_id, token, time.time(), copy_of, begun=True).spec
        except Refused as error:
            raise SpecError(f"{start}: {error}", field=error.field) from None
        assert found is not None, "this gate lets nothing pass unsigned"
        return found

    def _signature(self, data: bytes) -> bytes:
        made: bytes = self._algorithm.sign(data, self._key)
        return made

    def _text(self, head: str, one: ToSign, now: int) -> bytes:
        """Return header and payload of a token, which is what is signed.

        PyJWT's `encode` takes twice the time: it prepares the key for each token.
        """
        expires = int(max(now, one.not_before or now) + self._ttl)
        header = f'{head}, "iat": {now}, "exp": {expires}, "jti": {json.dumps(one.job_id)}}}'
        return encoded(header.encode()) + b"." + encoded(one.description.encode())

    @staticmethod
    def _token(text: bytes, signature: bytes) -> str:
        return (text + b"." + encoded(signature)).decode()

    @classmethod
    def from_environment(cls, audience: str) -> Signer | None:
        """Return the signer that JAAS_SIGNING_... describe; None if there is no key.

        Args:
            audience: the installation's prefix.

        Raises:
            SpecError: a variable is missing or not valid, or the extra ``signing`` is not installed.
        """
        name, text = "JAAS_SIGNING_KEY", os.environ.get("JAAS_SIGNING_KEY", "")
        if path := os.environ.get("JAAS_SIGNING_KEY_FILE"):
            name = "JAAS_SIGNING_KEY_FILE"
            try:
                text = Path(path).read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise SpecError(f"{name}: {error}") from None
            if not text.strip():
                raise SpecError(f"{name}: {path} is empty")
        if not text.strip():
            return None
        kid = os.environ.get("JAAS_SIGNING_KID", "")
        if not kid:
            raise SpecError("JAAS_SIGNING_KID: is required with a key; it is the key's id in the workers' file")
        try:
            ttl = float(parse_duration(os.environ.get("JAAS_SIGNING_TTL") or TTL))
        except ValueError as error:
            raise SpecError(f"JAAS_SIGNING_TTL: {error}") from None
        return cls(read_signing_key(text, name), kid, audience, os.environ.get("JAAS_SIGNING_PRODUCER", ""), ttl)

"""Who signs: a producer's key, its id, and what the signatures are for."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Final

from jaas_submit.errors import SpecError
from jaas_submit.model.fields import parse_duration
from jaas_submit.signing.keys import SigningKey, algorithms, read_signing_key
from jaas_submit.signing.tokens import TYPE, encoded

__all__ = ["TTL", "Signer"]

TTL: Final = 30 * 86400.0
"""Seconds for which a signature is valid, by default: retries come later than the first attempt."""


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
        named = {"alg": key.algorithm, "typ": TYPE, "kid": kid, "iss": self.producer, "aud": audience}
        self._head = json.dumps(named)[:-1]

    def __repr__(self) -> str:
        return f"Signer(kid={self.kid!r}, producer={self.producer!r})"

    def sign(self, description: str, job_id: str, *, not_before: float | None = None) -> str:
        """Return the token of a description: a compact JWS.

        Args:
            description: its JSON text, as ``JobSpec.to_json`` returns it.
            job_id: id of the only job that it is for; of a Celery message, the task id.
            not_before: when the job starts at the earliest, in seconds since the epoch.
        """
        now = time.time()
        expires = max(now, not_before or now) + self._ttl
        header = f'{self._head}, "iat": {int(now)}, "exp": {int(expires)}, "jti": {json.dumps(job_id)}}}'
        # As PyJWT's `encode` does, which takes twice the time: it prepares the key for each token.
        signed = encoded(header.encode()) + b"." + encoded(description.encode())
        return (signed + b"." + encoded(self._algorithm.sign(signed, self._key))).decode()

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

"""PURE: whether a job may run, by its signature; and who has signed it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from jaas_submit.model.bounds import shown
from jaas_submit.model.ids import copy_id_of
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import job_id_of
from jaas_submit.signing.keys import VerifyKey, algorithms
from jaas_submit.signing.producer import Producer
from jaas_submit.signing.tokens import Refused, claims_in, decoded, is_token, unique
from jaas_submit.signing.tree import TREE, signed_by

__all__ = ["CLOCK_LEEWAY_S", "NO_GATE", "Gate", "Passed"]

CLOCK_LEEWAY_S: Final = 300
"""Seconds by which a producer's clock may be ahead of the worker's."""


class Passed(NamedTuple):
    """A job that may run."""

    spec: JobSpec | None
    """The description that was signed, which alone counts; None for an unsigned job: that of its record counts."""
    producer: Producer | None
    """Who has signed it; None where nothing was verified."""


@dataclass(frozen=True)
class Gate:
    """What a worker asks of signatures.

    Args:
        audience: prefix of the installation.
        keys: key id -> key; none verifies nothing.
        required: whether unsigned jobs are refused.
    """

    audience: str = ""
    keys: Mapping[str, VerifyKey] = field(default_factory=dict)
    required: bool = False

    def check(self, job_id: str, token: str, now: float, copy_of: str = "", *, begun: bool = False) -> Passed:
        """Return the description to be run, and who has signed it.

        Args:
            job_id: the job's id.
            token: in its record; empty for an unsigned job.
            now: the present time, in seconds since the epoch.
            copy_of: the job that it is a second start of (speculation).
            begun: it has been started, so that the time for that does not count any more.

        Raises:
            Refused: it may not run; the text names the rule.
        """
        if not token:
            if self.required:
                raise Refused("required", "its description is not signed, and these workers require that")
            return Passed(None, None)
        if not self.keys:
            return Passed(None, None)
        return self._verified(job_id, token, now, copy_of, begun)

    def _verified(self, job_id: str, token: str, now: float, copy_of: str, begun: bool) -> Passed:
        if not is_token(token):
            raise Refused("format", "it is no token")
        claims = claims_in(token)
        key = self.keys.get(claims.kid)
        if key is None:
            raise Refused("key", f"no key {shown(claims.kid)} is known; add it to JAAS_VERIFY_KEYS")
        if claims.algorithm not in key.accepted:
            raise Refused("algorithm", f"key {shown(claims.kid)} is for {key.algorithm} and nothing else")
        text = _payload(token, key) if claims.algorithm != TREE else _payload_of_tree(token, key)
        if claims.producer != key.producer.name:
            raise Refused("producer", f"key {shown(claims.kid)} belongs to {key.producer.name}, whom it does not name")
        if claims.audience != self.audience:
            raise Refused("audience", f"it is for installation {shown(claims.audience)}, and this is {self.audience}")
        if claims.issued_at > now + CLOCK_LEEWAY_S:
            raise Refused("early", "it was signed in the future; see the producer's clock")
        if claims.expires_at <= now and not begun:
            raise Refused("expired", "its time is over; replay the job, which signs it anew (JAAS_SIGNING_TTL)")
        signed_for = job_id_of(claims.job_id)
        if signed_for not in {job_id, copy_of} or (copy_of and job_id != copy_id_of(signed_for)):
            raise Refused("job", f"it was signed for job {shown(claims.job_id)}")
        spec = _description(text)
        if copy_of and not spec.idempotent:
            raise Refused("job", f"it was signed for job {shown(claims.job_id)}, which may not run twice")
        return Passed(spec, key.producer)


def _payload(token: str, key: VerifyKey) -> bytes:
    from jwt import InvalidTokenError, PyJWS

    try:
        found: bytes = PyJWS().decode_complete(token, key.key, algorithms=[key.algorithm])["payload"]
    except InvalidTokenError:
        raise Refused("invalid", "the signature is not that of the description") from None
    return found


def _payload_of_tree(token: str, key: VerifyKey) -> bytes:
    text, _, last = token.rpartition(".")
    found = signed_by(text.encode(), decoded(last))
    if found is None or not algorithms()["EdDSA"].verify(found[1], key.key, found[0]):
        raise Refused("invalid", "the signature is not that of the description")
    return decoded(text.rpartition(".")[2])


def _description(text: bytes) -> JobSpec:
    spec = JobSpec.parse(text)  # bounds first: size, depth
    try:
        json.loads(text, object_pairs_hook=unique)
    except ValueError as error:
        raise Refused("description", shown(str(error), 150)) from None
    return spec


NO_GATE: Final = Gate()

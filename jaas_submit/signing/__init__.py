"""Signed descriptions: the form of the tokens, the keys, who signs and who verifies. Knows neither Redis nor Celery."""

from jaas_submit.signing.gate import NO_GATE, Gate
from jaas_submit.signing.keys import SigningKey, VerifyKey, read_signing_key, read_verify_keys
from jaas_submit.signing.producer import Producer
from jaas_submit.signing.signer import Signer, ToSign
from jaas_submit.signing.tokens import description_in, is_token

__all__ = [
    "NO_GATE",
    "Gate",
    "Producer",
    "Signer",
    "SigningKey",
    "ToSign",
    "VerifyKey",
    "description_in",
    "is_token",
    "read_signing_key",
    "read_verify_keys",
]

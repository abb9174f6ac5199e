"""Keys and signers, from files and the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from jaas_submit import Client
from jaas_submit.errors import SpecError
from jaas_submit.signing import Gate, Producer, Signer, read_signing_key, read_verify_keys
from jaas_submit.signing.tokens import claims_in

SECRET = "a secret of the team, for tests only"


def private_pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def public_pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def test_a_file_of_keys_verifies_what_their_owners_sign(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    (tmp_path / "team.pem").write_text(public_pem(key))
    file = tmp_path / "keys.toml"
    file.write_text(
        f'[ed]\nalgorithm = "EdDSA"\nkey_file = "team.pem"\nproducer = "team"\ntenant = "blue"\n'
        f'["hs/1"]\nalgorithm = "HS256"\nkey = "{SECRET}"\nproducer = "ops"\n'
    )
    gate = Gate("jaas", read_verify_keys(str(file)), required=True)
    for kid, text, name, wanted in (
        ("ed", private_pem(key), "team", Producer("team", "blue")),
        ("hs/1", SECRET + "\n", "ops", Producer("ops")),
    ):
        made = Signer(read_signing_key(text), kid, "jaas", name).sign('{"image":"a"}', "j")
        assert gate.check("j", made, claims_in(made).issued_at).producer == wanted
    assert SECRET not in repr(gate)


BAD_FILES = {
    "not TOML": ("{", "is not TOML"),
    "empty": ("", "has no key"),
    "no table": ('ed = "x"', "must be a table"),
    "unknown field": ('[ed]\nalg = "EdDSA"', "alg is unknown"),
    "no algorithm": ('[ed]\nproducer = "p"\nkey = "x"', "algorithm must be"),
    "alg none": ('[ed]\nalgorithm = "none"\nproducer = "p"\nkey = "x"', "algorithm must be"),
    "no producer": (f'[ed]\nalgorithm = "HS256"\nkey = "{SECRET}"', "producer must be"),
    "numbers": ('[ed]\nalgorithm = "HS256"\nproducer = "p"\nkey = 1', "must be texts"),
    "no key": ('[ed]\nalgorithm = "HS256"\nproducer = "p"', "either key or key_file"),
    "key file away": ('[ed]\nalgorithm = "HS256"\nproducer = "p"\nkey_file = "no"', "key_file"),
    "short secret": ('[ed]\nalgorithm = "HS256"\nproducer = "p"\nkey = "short"', "at least 32 bytes"),
    "no PEM": (f'[ed]\nalgorithm = "EdDSA"\nproducer = "p"\nkey = "{SECRET}"', "no Ed25519 key in PEM"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_of_keys_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    text, words = BAD_FILES[name]
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(SpecError) as error:
        read_verify_keys(str(tmp_path / "keys.toml"))
    assert "JAAS_VERIFY_KEYS" in str(error.value)
    assert words in str(error.value)
    assert SECRET not in str(error.value)


def test_a_file_of_keys_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"JAAS_VERIFY_KEYS: .*no\.toml"):
        read_verify_keys(str(tmp_path / "no.toml"))


def test_keys_of_the_wrong_kind_are_refused(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    """A worker needs no private key; a public key must not become a secret; another curve is not Ed25519."""
    other = ec.generate_private_key(ec.SECP256R1())
    for algorithm, pem, words in (
        ("EdDSA", private_pem(key), "public key"),
        ("EdDSA", public_pem(other), "Ed25519"),
        ("HS256", public_pem(key), "HS256"),
    ):
        file = tmp_path / "keys.toml"
        file.write_text(f"[ed]\nalgorithm = '{algorithm}'\nproducer = 'p'\nkey = '''{pem}'''\n")
        with pytest.raises(SpecError, match=words):
            read_verify_keys(str(file))
    for pem in (private_pem(other), public_pem(key), private_pem(key, b"password")):
        with pytest.raises(SpecError, match="Ed25519"):
            read_signing_key(pem)


def test_the_environment_makes_a_signer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: Ed25519PrivateKey
) -> None:
    assert Signer.from_environment("jaas") is None
    monkeypatch.setenv("JAAS_SIGNING_KEY", SECRET)
    with pytest.raises(SpecError, match="JAAS_SIGNING_KID"):
        Signer.from_environment("jaas")
    monkeypatch.setenv("JAAS_SIGNING_KID", "k1")
    made = Signer.from_environment("jaas")
    assert made is not None
    claims = claims_in(made.sign("{}", "j"))
    assert (claims.algorithm, claims.producer, claims.audience) == ("HS256", "k1", "jaas")
    (tmp_path / "key").write_text(private_pem(key))
    monkeypatch.setenv("JAAS_SIGNING_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("JAAS_SIGNING_PRODUCER", "team")
    monkeypatch.setenv("JAAS_SIGNING_TTL", "1h")
    with Client(prefix="mine") as client:
        assert client.session.signer is not None
        claims = claims_in(client.session.signer.sign("{}", "j"))
        assert SECRET not in repr(client.session)
    assert (claims.algorithm, claims.producer, claims.audience) == ("EdDSA", "team", "mine")
    assert claims.expires_at - claims.issued_at == 3600


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAAS_SIGNING_KEY", "short"),
        ("JAAS_SIGNING_KEY_FILE", "/nowhere/key"),
        ("JAAS_SIGNING_KEY_FILE", "/dev/null"),
        ("JAAS_SIGNING_TTL", "soon"),
    ],
)
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("JAAS_SIGNING_KEY", SECRET)
    monkeypatch.setenv("JAAS_SIGNING_KID", "k1")
    monkeypatch.setenv(name, value)
    with pytest.raises(SpecError, match=name):
        Signer.from_environment("jaas")


def test_a_signature_outlives_the_start_that_was_asked_for() -> None:
    signer = Signer(read_signing_key(SECRET), "k", "jaas", ttl=100)
    far = claims_in(signer.sign("{}", "j")).issued_at + 5000
    assert claims_in(signer.sign("{}", "j", not_before=far)).expires_at == far + 100
    past = claims_in(signer.sign("{}", "j", not_before=1.0))
    assert past.expires_at == past.issued_at + 100

"""Which tokens pass, and by which rule the others are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jaas_submit.errors import SpecError
from jaas_submit.model.ids import copy_id_of
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import job_id_of
from jaas_submit.signing import Gate, Producer, Signer, SigningKey, ToSign, VerifyKey
from jaas_submit.signing.tokens import Refused, claims_in, description_in, is_token
from jaas_submit.signing.tree import TREE

NOW = 1_800_000_000
SECRET = b"a secret of the team, for tests only"
PRIVATE = Ed25519PrivateKey.generate()
PUBLIC_PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
TEAM, OTHER = Producer("team", "blue"), Producer("other", "red")
KEYS = {
    "hs": VerifyKey("HS256", SECRET, TEAM),
    "ed": VerifyKey("EdDSA", PRIVATE.public_key(), TEAM),
    "theirs": VerifyKey("HS256", b"a secret of the others, for tests", OTHER),
}
GATE = Gate("jaas", KEYS, required=True)
SPEC = JobSpec(image="alpine", command=["echo", "ü"], env={"A": "b"})
JOB = "0c1d1f8e-0d4f-4b5c-9a53-2f7d5cf0e9a1"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def header(**changes: Any) -> dict[str, Any]:
    """Return a good header, changed; None removes a name."""
    usual = {"alg": "HS256", "kid": "hs", "typ": "jaas-description", "iss": "team", "aud": "jaas", "jti": JOB}
    made = {**usual, "iat": NOW, "exp": NOW + 60, **changes}
    return {name: value for name, value in made.items() if value is not None}


def token(head: dict[str, Any] | str | None = None, payload: bytes | str = "", key: bytes = SECRET) -> str:
    """Return a token with an HMAC that is right for the key, whatever the header says."""
    text = head if isinstance(head, str) else json.dumps(head or header())
    body = (payload or SPEC.to_json()).encode() if isinstance(payload, str) else payload
    signed = f"{b64(text.encode())}.{b64(body)}"
    return f"{signed}.{b64(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def flipped(text: str, part: int) -> str:
    """Return a token with another character in the middle of a part."""
    parts = text.split(".")
    middle = len(parts[part]) // 2
    parts[part] = parts[part][:middle] + ("A" if parts[part][middle] != "A" else "B") + parts[part][middle + 1 :]
    return ".".join(parts)


SIGNED_ED = Signer(SigningKey("EdDSA", PRIVATE), "ed", "jaas", "team")
SIGNED_HS = Signer(SigningKey("HS256", SECRET), "hs", "jaas", "team")


@pytest.mark.parametrize("signer", [SIGNED_HS, SIGNED_ED], ids=["HS256", "EdDSA"])
def test_what_a_signer_signs_passes_and_names_its_producer(signer: Signer) -> None:
    made = signer.sign(SPEC.to_json(), JOB)
    issued = json.loads(base64.urlsafe_b64decode(made.split(".")[0] + "=="))["iat"]
    passed = GATE.check(JOB, made, issued)
    assert passed == (SPEC, TEAM)
    assert is_token(made)
    assert description_in(made) == SPEC.to_json()


def test_what_pyjwt_alone_signs_passes() -> None:
    """As a producer without jaas does."""
    made = jwt.PyJWS().encode(SPEC.to_json().encode(), SECRET, "HS256", headers=header())
    assert GATE.check(JOB, made, NOW).producer == TEAM


def test_a_signed_task_id_that_is_no_job_id_is_that_of_the_derived_job() -> None:
    assert GATE.check(job_id_of("Task 1!"), token(header(jti="Task 1!")), NOW).spec == SPEC


FORGED: dict[str, tuple[str, Callable[[], str]]] = {
    "unsigned": ("required", lambda: ""),
    "alg none without a signature": (
        "algorithm",
        lambda: f"{b64(json.dumps(header(alg='none')).encode())}.{b64(SPEC.to_json().encode())}.",
    ),
    "alg none with a signature": ("algorithm", lambda: token(header(alg="none"))),
    "alg None in capitals": ("algorithm", lambda: token(header(alg="NONE"))),
    "another hash": ("algorithm", lambda: token(header(alg="HS512"))),
    "HMAC with the public key": ("algorithm", lambda: token(header(kid="ed"), key=PUBLIC_PEM)),
    "HMAC with the public key, said to be EdDSA": (
        "invalid",
        lambda: token(header(kid="ed", alg="EdDSA"), key=PUBLIC_PEM),
    ),
    "EdDSA said for a key of HS256": ("algorithm", lambda: token(header(alg="EdDSA"))),
    "another's key": ("invalid", lambda: token(key=b"a secret of the others, for tests")),
    "another's key and id, in our name": (
        "producer",
        lambda: token(header(kid="theirs"), key=b"a secret of the others, for tests"),
    ),
    "unknown kid": ("key", lambda: token(header(kid="no"))),
    "kid is a path": ("key", lambda: token(header(kid="../../../../dev/null"), key=b"")),
    "kid is SQL": ("key", lambda: token(header(kid="x' UNION SELECT 'k"), key=b"k")),
    "kid with terminal escapes": ("key", lambda: token(header(kid="\x1b[2Jx"))),
    "kid is a list": ("format", lambda: token(header(kid=["hs"]))),
    "kid is empty": ("format", lambda: token(header(kid=""))),
    "kid is too long": ("format", lambda: token(header(kid="k" * 300))),
    "no kid": ("format", lambda: token(header(kid=None))),
    "a name twice in the header": (
        "format",
        lambda: token(json.dumps(header())[:-1] + ', "kid": "hs"}'),
    ),
    "a key in the header": ("format", lambda: token(header(jwk={"kty": "oct", "k": b64(SECRET)}))),
    "a URL of keys in the header": ("format", lambda: token(header(jku="https://evil.example/keys"))),
    "crit": ("format", lambda: token(header(crit=["b64"], b64=False))),
    "compressed": ("format", lambda: token(header(zip="DEF"))),
    "another kind of token": ("format", lambda: token(header(typ="JWT"))),
    "a header of lists": ("format", lambda: token("eyJ".join(["[" * 500, "]" * 500]))),
    "a deep header": ("format", lambda: token('{"a":' * 200 + "1" + "}" * 200)),
    "a large header": ("format", lambda: token(header(x="y" * 5000))),
    "a header with NaN": ("format", lambda: token(json.dumps(header(exp=float("nan"))))),
    "expired": ("expired", lambda: token(header(exp=NOW))),
    "never expires": ("format", lambda: token(header(exp=None))),
    "expires as a text": ("format", lambda: token(header(exp=str(NOW + 60)))),
    "expires true": ("format", lambda: token(header(exp=True))),
    "expires with a fraction": ("format", lambda: token(header(exp=NOW + 0.5))),
    "expires in the year 10^300": ("format", lambda: token(header(exp=10**300))),
    "signed in the future": ("early", lambda: token(header(iat=NOW + 301, exp=NOW + 900))),
    "another audience": ("audience", lambda: token(header(aud="other"))),
    "several audiences": ("format", lambda: token(header(aud=["jaas", "other"]))),
    "another producer": ("producer", lambda: token(header(iss="other"))),
    "another job": ("job", lambda: token(header(jti="0c1d1f8e-0d4f-4b5c-9a53-2f7d5cf0e9a2"))),
    "header changed": ("format", lambda: flipped(token(), 0)),
    "payload changed": ("invalid", lambda: flipped(token(), 1)),
    "signature changed": ("invalid", lambda: flipped(token(), 2)),
    "payload of another token": (
        "invalid",
        lambda: ".".join([*token().split(".")[:1], b64(b'{"image":"evil"}'), token().split(".")[2]]),
    ),
    "no signature": ("invalid", lambda: token().rpartition(".")[0] + "."),
    "four parts": ("format", lambda: token() + ".x"),
    "one part": ("format", lambda: "eyJ"),
    "JSON form": ("format", lambda: json.dumps({"payload": "eyJ", "signatures": []})),
    "padding": ("format", lambda: token().replace(".", "=.", 1)),
    "line end": ("format", lambda: "eyJ\n" + token()[3:]),
    "not ASCII": ("format", lambda: "eyJü" + token()[4:]),
    "surrogate": ("format", lambda: "eyJ\ud800" + token()[4:]),
    "too large": ("format", lambda: token(payload="x" * 2_000_000)),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused_by_its_rule(name: str) -> None:
    rule, make = FORGED[name]
    with pytest.raises(Refused) as refusal:
        GATE.check(JOB, make(), NOW)
    assert refusal.value.rule == rule, refusal.value
    text = str(refusal.value)
    assert text.startswith(f"signature.{rule}: ")
    assert text.isprintable()
    assert SECRET.decode() not in text


MANY = [SPEC.to_json(), '{"image":"b"}', '{"image":"c"}', '{"image":"d"}', '{"image":"e"}']


@pytest.mark.parametrize("signer", [SIGNED_HS, SIGNED_ED], ids=["HS256", "EdDSA"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_each_of_many_tokens_passes_for_its_own_job_alone(signer: Signer, count: int) -> None:
    tokens = signer.sign_many([ToSign(text, f"job-{n}") for n, text in enumerate(MANY[:count])])
    for number, made in enumerate(tokens):
        issued = claims_in(made).issued_at
        assert GATE.check(f"job-{number}", made, issued) == (JobSpec.parse(MANY[number]), TEAM)
        with pytest.raises(Refused) as refusal:
            GATE.check(f"job-{number + 1}", made, issued)
        assert refusal.value.rule == "job"


def of_tree(count: int = 3) -> list[str]:
    return SIGNED_ED.sign_many([ToSign(text, f"job-{n}") for n, text in enumerate(MANY[:count])])


def with_proof(made: str, change: Callable[[bytes], bytes]) -> str:
    """Return a token of a tree with its last part changed."""
    text, _, last = made.rpartition(".")
    return f"{text}.{b64(change(base64.urlsafe_b64decode(last + '=' * (-len(last) % 4))))}"


TREES: dict[str, tuple[str, Callable[[], str]]] = {
    "payload of a neighbour": ("invalid", lambda: swapped(of_tree(), 1)),
    "proof of a neighbour": ("invalid", lambda: swapped(of_tree(), 2)),
    "payload changed": ("invalid", lambda: flipped(of_tree()[0], 1)),
    "signature changed": ("invalid", lambda: flipped(of_tree()[0], 2)),
    "another number": ("invalid", lambda: with_proof(of_tree()[0], lambda p: p[:64] + b"\0\1" + p[66:])),
    "a number outside": ("invalid", lambda: with_proof(of_tree()[0], lambda p: p[:64] + b"\1\0" + p[66:])),
    "a digest less": ("invalid", lambda: with_proof(of_tree()[0], lambda p: p[:-32])),
    "a byte less": ("invalid", lambda: with_proof(of_tree()[0], lambda p: p[:-1])),
    "too many digests": ("invalid", lambda: with_proof(of_tree()[0], lambda p: p + bytes(32 * 100))),
    "the signature alone": ("invalid", lambda: with_proof(of_tree()[0], lambda p: p[:64])),
    "nothing": ("invalid", lambda: with_proof(of_tree()[0], lambda _: b"")),
    "said to be EdDSA": ("invalid", lambda: reheaded(of_tree()[0], "EdDSA")),
    "one of EdDSA said to be of a tree": ("invalid", lambda: reheaded(SIGNED_ED.sign(MANY[0], "job-0"), TREE)),
    "of a tree, for a key of HS256": ("algorithm", lambda: token(header(alg=TREE, jti="job-0"))),
    "the root signed as a header": (
        "invalid",
        lambda: f"{reheaded(of_tree()[0], TREE).rpartition('.')[0]}.{b64(PRIVATE.sign(bytes(32)) + bytes(2))}",
    ),
}


def swapped(made: list[str], part: int) -> str:
    """Return the first token with a part of the second one."""
    parts, other = made[0].split("."), made[1].split(".")
    parts[part] = other[part]
    return ".".join(parts)


def reheaded(made: str, algorithm: str) -> str:
    head, payload, last = made.split(".")
    read = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    return f"{b64(json.dumps({**read, 'alg': algorithm}).encode())}.{payload}.{last}"


@pytest.mark.parametrize("name", TREES)
def test_a_forged_token_of_a_tree_is_refused(name: str) -> None:
    rule, make = TREES[name]
    made = make()
    with pytest.raises(Refused) as refusal:
        GATE.check("job-0", made, NOW)
    assert refusal.value.rule == rule


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ('{"image":"alpine","image":"evil"}', "twice"),
        ('{"image":"alpine","env":{"A":"1","A":"2"}}', "twice"),
        ('{"image":"alpine","nonsense":1}', "nonsense"),
        ('["image"]', "JSON object"),
        ("not JSON", "not valid JSON"),
        (b'{"image":"\xff"}', "not valid JSON"),
        ('{"image":' + "[" * 5000, "not valid JSON"),
        ("{}", "image"),
    ],
)
def test_a_signed_description_that_is_not_valid_is_refused_all_the_same(payload: str | bytes, words: str) -> None:
    with pytest.raises(SpecError) as refusal:
        GATE.check(JOB, token(payload=payload), NOW)
    assert words in str(refusal.value)


def test_a_token_is_for_its_job_and_for_that_jobs_copy_alone() -> None:
    twice = JobSpec(image="alpine", idempotent=True)
    copy = copy_id_of(JOB)
    assert GATE.check(copy, token(payload=twice.to_json()), NOW, JOB).spec == twice
    for job_id, copy_of, spec in ((copy, JOB, SPEC), ("other", JOB, twice), (copy, "", twice), (JOB, copy, twice)):
        with pytest.raises(Refused) as refusal:
            GATE.check(job_id, token(payload=spec.to_json()), NOW, copy_of)
        assert refusal.value.rule == "job"


def test_a_job_that_has_begun_outlives_its_signature_and_no_other_rule() -> None:
    assert GATE.check(JOB, token(header(exp=NOW)), NOW, begun=True).spec == SPEC
    with pytest.raises(Refused) as refusal:
        GATE.check(JOB, token(header(exp=NOW, aud="other")), NOW, begun=True)
    assert refusal.value.rule == "audience"


def test_without_keys_nothing_is_verified_and_nobody_is_named() -> None:
    assert Gate("jaas").check(JOB, token(header(kid="no")), NOW) == (None, None)
    assert Gate("jaas").check(JOB, "", NOW) == (None, None)


def test_keys_without_the_requirement_let_unsigned_jobs_pass_and_refuse_forged_ones() -> None:
    gate = Gate("jaas", KEYS)
    assert gate.check(JOB, "", NOW) == (None, None)
    with pytest.raises(Refused):
        gate.check(JOB, flipped(token(), 1), NOW)


def test_rotation_both_keys_of_a_producer_count_until_one_is_removed() -> None:
    new = b"the new secret of the team, for tests"
    both = Gate("jaas", {"hs": KEYS["hs"], "hs-2": VerifyKey("HS256", new, TEAM)}, required=True)
    after = Gate("jaas", {"hs-2": VerifyKey("HS256", new, TEAM)}, required=True)
    old, fresh = token(), token(header(kid="hs-2"), key=new)
    assert both.check(JOB, old, NOW).producer == both.check(JOB, fresh, NOW).producer == TEAM
    assert after.check(JOB, fresh, NOW).producer == TEAM
    with pytest.raises(Refused) as refusal:
        after.check(JOB, old, NOW)
    assert refusal.value.rule == "key"

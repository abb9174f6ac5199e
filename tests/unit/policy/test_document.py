"""A policy as it is written: three forms, and a sentence for each mistake."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import click.testing
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.cli.main import cli
from jaas_submit.errors import SpecError
from jaas_submit.policy.document import LEVELS, Policy, parse_policy, policy_schema
from jaas_submit.policy.names import ImageName
from jaas_submit.policy.published import about_policy, published_policies

SCHEMA = Path(__file__).parents[3] / "docs" / "schema" / "policy-1.json"
TOML = 'level = "restricted"\n[rules.mounts]\nvolumes = ["a-*"]\n[queues."q 1"]\nlevel = "baseline"'
YAML = 'level: restricted\nrules: {mounts: {volumes: ["a-*"]}}\nqueues:\n  q 1: {level: baseline}'


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TOML, "p.toml"),
        (TOML, "policy"),
        (YAML, "p.yaml"),
        (YAML, "p.yml"),
        (YAML, "policy"),
        (parse_policy(TOML).text(), "p.json"),
        (parse_policy(TOML).text(), "policy"),
    ],
)
def test_toml_yaml_and_json_say_the_same(text: str, name: str) -> None:
    assert parse_policy(text, name) == parse_policy(TOML, "p.toml")
    assert parse_policy(text, name).digest() == parse_policy(TOML, "p.toml").digest()


# A text; the sentence.
WRONG: list[tuple[str, str]] = [
    ("levle: x", "p.yaml: levle: there is no such key; did you mean level?"),
    ("rules: {mount: {}}", "p.yaml: rules: mount: there is no such key; did you mean mounts?"),
    ("rules: {zzz: 1}", "p.yaml: rules: zzz: there is no such key; there are attempts, "),
    ("level: strict", "p.yaml: level: Input should be 'restricted', 'baseline' or 'privileged'"),
    ("rules: {env: APP_*}", 'p.yaml: rules.env: give a list, such as ["name"]'),
    ("rules: {mounts: {binds: [{path: srv}]}}", "p.yaml: rules.mounts.binds.0.path: String should match"),
    ("rules: {placement: {add: [x]}}", "p.yaml: rules.placement.add: 'x' is no placement constraint; "),
    ("level: baseline\nlevel: privileged", "p.yaml, line 2: the key level is there twice; keep one"),
    ("a: [", "p.yaml, line 1: "),
    ("- level", "p.yaml: must hold names and values"),
    ("", "p.yaml: must hold names and values"),
    ("version: 2", "p.yaml: version: Input should be 1"),
    ("tenants: {t: {mode: warn}}", "p.yaml: tenants.t: mode: there is no such key; "),
    ("x" * 300_000, "p.yaml: has more than 262,144 bytes"),
    ("[" * 5000, "p.yaml"),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG)
def test_a_mistake_is_named_with_file_key_and_fix(text: str, sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_policy(text, "p.yaml")
    assert str(caught.value).startswith(sentence)
    assert len(str(caught.value)) < 800


def test_invalid_toml_is_not_read_as_yaml() -> None:
    with pytest.raises(SpecError, match=r"^p.toml: is no valid TOML: "):
        parse_policy("level: baseline", "p.toml")


@given(st.text())
def test_any_text_is_a_policy_or_refused_with_a_sentence(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert isinstance(parse_policy(text, "policy"), Policy)


def test_the_published_schema_is_the_code_s() -> None:
    printed = click.testing.CliRunner().invoke(cli, ["policy", "schema"])
    assert json.loads(printed.output) == policy_schema() == json.loads(SCHEMA.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(policy_schema())
    for level, rules in LEVELS.items():
        whole = Policy(level=level, rules=rules).model_dump(mode="json")
        assert list(validator.iter_errors(whole)) == []
    assert not validator.is_valid({"levle": "baseline"})


# A reference; host, path, tag, digest.
IMAGES: list[tuple[str, tuple[str, str, str, str]]] = [
    ("alpine", ("docker.io", "library/alpine", "latest", "")),
    ("acme/app:1", ("docker.io", "acme/app", "1", "")),
    ("docker.io/alpine", ("docker.io", "library/alpine", "latest", "")),
    ("index.docker.io/acme/app", ("docker.io", "acme/app", "latest", "")),
    ("localhost/app", ("localhost", "app", "latest", "")),
    ("h:5000/a/b:2", ("h:5000", "a/b", "2", "")),
    ("h.example/a@sha256:ab", ("h.example", "a", "", "sha256:ab")),
    ("h.example/a:1@sha256:ab", ("h.example", "a", "1", "sha256:ab")),
    ("HOST/a", ("HOST", "a", "latest", "")),
    ("[::1]:5000/a", ("[::1]:5000", "a", "latest", "")),
]


@pytest.mark.parametrize(("text", "parts"), IMAGES)
def test_an_image_s_name_is_completed_as_the_engine_does(text: str, parts: tuple[str, str, str, str]) -> None:
    assert ImageName.parse(text) == parts


def test_a_worker_s_report_has_the_policy_and_bounds_it() -> None:
    policy = parse_policy(TOML, "p.toml")
    worker = {"holder": "w", "queues": ["q 1", "celery"], "policy": about_policy(policy)}
    (told,) = published_policies([worker, {"holder": "older"}, {"policy": 5}])
    assert (told.policy, told.level, told.mode, told.digest) == (policy, "restricted", "enforce", policy.digest())
    assert told.queues == ("q 1", "celery")
    large = Policy.model_validate({"rules": {"env": [f"NAME_{number}" for number in range(5000)]}})
    (short,) = published_policies([{"policy": about_policy(large)}])
    assert (short.policy, short.digest) == (None, large.digest())
    (odd,) = published_policies([{"policy": {"text": "{}}", "level": "\x1b[2J"}}])
    assert odd.policy is None
    assert odd.level.isprintable()

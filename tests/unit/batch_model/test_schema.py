"""The published JSON Schemas: they are the code's, and they accept and refuse what the code does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click.testing
import jsonschema
import pytest

from jaas_submit import JobSpec, SpecError
from jaas_submit.batch_model.schema import batch_schema, job_schema, result_schema
from jaas_submit.cli.main import cli

DOCS = Path(__file__).parents[3] / "docs" / "schema"
PUBLISHED = [
    ("job-1.json", ["schema"], job_schema),
    ("result-1.json", ["schema", "--result"], result_schema),
    ("batch-1.json", ["schema", "--batch"], batch_schema),
]
VALIDATOR = jsonschema.Draft202012Validator(job_schema())

VALID: list[dict[str, Any]] = [
    {"image": "alpine"},
    {"image": "alpine", "version": 1},
    {"image": "alpine", "entrypoint": ["sh", "-c"], "command": ["echo 'a  b'"]},
    {"image": "alpine", "env": {"A": "b"}, "networks": ["n"], "labels": {"team": "a"}},
    {"image": "alpine", "mounts": [{"source": "/a", "target": "/b", "read_only": True}]},
    {"image": "alpine", "mounts": [{"type": "tmpfs", "target": "/t"}]},
    {"image": "alpine", "secrets": [{"source": "key", "mode": 256}]},
    {"image": "alpine", "limits": {"cpus": 0.5, "memory": "512M"}, "reservations": {"memory": 6 * 2**20}},
    {"image": "alpine", "run_timeout": "1h30m", "pending_timeout": 60, "stop_grace": 0, "stop_signal": "SIGINT"},
    {"image": "alpine", "constraints": ["node.role==worker"], "healthcheck": True, "check": False},
    {"like_service": "shop_web", "command": ["migrate"]},
    {"image": "alpine", "user": None, "workdir": "/w", "name": "n"},
]

INVALID: list[Any] = [
    {},
    [],
    "alpine",
    {"image": ""},
    {"image": 1},
    {"image": "alpine", "colour": "red"},
    {"image": "alpine", "version": 2},
    {"image": "alpine", "command": "echo hi"},
    {"image": "alpine", "env": {"A": 1}},
    {"image": "alpine", "networks": ["a/b"]},
    {"image": "alpine", "mounts": [{"source": "/a"}]},
    {"image": "alpine", "mounts": [{"source": "/a", "target": "b"}]},
    {"image": "alpine", "mounts": [{"source": "/a", "target": "/b", "ro": True}]},
    {"image": "alpine", "limits": {"memory": 1024}},
    {"image": "alpine", "limits": {"cpus": 0}},
    {"image": "alpine", "run_timeout": 0},
    {"image": "alpine", "stop_signal": "HUP"},
    {"image": "alpine", "labels": {"no/slashes": "a"}},
    {"image": "alpine", "name": "a b"},
]


@pytest.mark.parametrize("spec", VALID, ids=json.dumps)
def test_what_the_schema_accepts_the_code_accepts(spec: dict[str, Any]) -> None:
    VALIDATOR.validate(spec)
    JobSpec.parse(spec)
    VALIDATOR.validate(JobSpec.parse(spec).to_wire())


@pytest.mark.parametrize("spec", INVALID, ids=json.dumps)
def test_what_the_schema_refuses_the_code_refuses(spec: object) -> None:
    assert not VALIDATOR.is_valid(spec)
    with pytest.raises(SpecError):
        JobSpec.parse(spec)


@pytest.mark.parametrize(("name", "args", "schema"), PUBLISHED)
def test_the_command_prints_what_the_documentation_holds(name: str, args: list[str], schema: Any) -> None:
    """When this fails, the wire format has changed: look at how, then `jaas schema > docs/schema/job-1.json`."""
    printed = click.testing.CliRunner().invoke(cli, args).stdout
    assert json.loads(printed) == schema()
    assert (DOCS / name).read_text() == printed


@pytest.mark.parametrize(("name", "args", "schema"), PUBLISHED)
def test_the_schemas_are_schemas(name: str, args: list[str], schema: Any) -> None:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert made["$id"] == f"urn:jaas:{name.replace('-', ':').removesuffix('.json')}"


@pytest.mark.parametrize("schema", [job_schema, result_schema])
def test_the_schemas_have_only_words_of_json_schema(schema: Any) -> None:
    """pydantic writes bounds as Python's "ge" where it does not know the type."""

    def words(node: Any, *, names: bool = False) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(words, node))
        if not isinstance(node, dict):
            return set()
        holds_names = {"properties", "$defs", "patternProperties"}
        inner = [words(value, names=key in holds_names) for key, value in node.items() if key != "default"]
        return (set() if names else set(node)).union(*inner)

    known = {
        word for part in jsonschema.Draft202012Validator.META_SCHEMA["allOf"] for word in _vocabulary(part["$ref"])
    }
    assert words(schema()) <= known | {"$schema", "$id", "$defs", "$ref"}


def _vocabulary(reference: str) -> set[str]:
    from jsonschema_specifications import REGISTRY

    url = f"https://json-schema.org/draft/2020-12/{reference}"
    return set(REGISTRY[url].contents["properties"])


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"speculate": 2.5}, True),
        ({"speculate": {"factor": 3, "least": "1m"}, "reduce": {"image": "b"}, "max_parallel": 3}, True),
        ({"job": {"colour": "red"}}, False),
        ({"speculate": {"faktor": 3}}, False),
        ({"min_success": 2}, False),
        ({"reduce": {}}, False),
    ],
    ids=json.dumps,
)
def test_the_schema_of_a_batch_file(changes: dict[str, Any], good: bool) -> None:
    text = {"job": {"image": "a", "idempotent": True}, "inputs": [1, {"a": "b"}], **changes}
    assert jsonschema.Draft202012Validator(batch_schema()).is_valid(text) == good

"""The published JSON Schemas of the wire format. docs/schema/ holds what these functions return."""

from __future__ import annotations

from typing import Any, Final

from jaas_submit.model.job_spec import SPEC_VERSION, JobSpec
from jaas_submit.model.result import RESULT_VERSION, JobResult

__all__ = ["batch_schema", "job_schema", "result_schema"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_BOUNDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job description: what `jaas.run` takes as ``spec``.

    ``JobSpec`` itself makes further checks: image names, and different targets of mounts.
    """
    schema = _tidy(JobSpec.model_json_schema())
    return _published(
        schema,
        f"urn:jaas:job:{SPEC_VERSION}",
        "jaas job",
        "One container to be run once. Durations are seconds or texts such as 1h30m; sizes are bytes or texts such as "
        "512M. Unknown fields are refused.",
    )


def result_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job's result: what Celery stores and what `jaas wait --json` prints."""
    schema = _tidy(JobResult.model_json_schema(mode="serialization"))
    return _published(
        schema,
        f"urn:jaas:result:{RESULT_VERSION}",
        "jaas result",
        "How a job ended. A reader should pass over fields that it does not know.",
    )


def batch_schema() -> dict[str, Any]:
    """Return the JSON Schema of a batch file, which `jaas map --file` reads."""
    from jaas_submit.batch_model.batch_file import BatchFile

    job = job_schema()
    schema = _tidy(BatchFile.model_json_schema())
    for name, fields in (("job", job), ("reduce", {"anyOf": [{"$ref": "#/$defs/JobSpec"}, {"type": "null"}]})):
        told = schema["properties"][name]["description"]
        schema["properties"][name] = {"$ref": "#/$defs/JobSpec"} if fields is job else fields
        schema["properties"][name] = {**schema["properties"][name], "description": told}
    parts = {key: value for key, value in job.items() if key not in {"$schema", "$id", "$defs"}}
    schema["$defs"] = {**job["$defs"], **schema["$defs"], "JobSpec": parts}
    schema["required"] = ["job"]
    return _published(schema, "urn:jaas:batch:1", "jaas batch file", "Many jobs: one for each input. YAML or JSON.")


def _published(schema: dict[str, Any], urn: str, title: str, description: str) -> dict[str, Any]:
    head = {"$schema": _DIALECT, "$id": urn, "title": title, "description": description}
    return {**head, **{key: value for key, value in schema.items() if key not in head}}


def _tidy(node: Any) -> Any:
    """Correct pydantic's schema of types with a "before" validator: bounds have Python's names, and additional
    properties are missing."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _tidy(value) for key, value in node.items()}
    bounds = {_BOUNDS[key]: node.pop(key) for key in _BOUNDS if isinstance(node.get(key), int | float)}
    if bounds:
        node["anyOf"] = [
            {**branch, **bounds} if branch.get("type") in {"number", "integer"} else branch for branch in node["anyOf"]
        ]
    if "patternProperties" in node:
        node.setdefault("additionalProperties", False)
    return node

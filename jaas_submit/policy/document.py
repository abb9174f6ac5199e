"""PURE: a policy as it is written: TOML, YAML or JSON; and its three levels."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from jaas_submit.errors import SpecError, how_to_install
from jaas_submit.model.bounds import shown
from jaas_submit.policy.rules import (
    Bind,
    Capabilities,
    Images,
    Memory,
    Mounts,
    Networks,
    Part,
    Placement,
    References,
    Resource,
    Resources,
    Rules,
    Users,
)

__all__ = ["LEVELS", "POLICY_VERSION", "Level", "Policy", "Section", "parse_policy", "policy_schema"]

POLICY_VERSION: Final = 1
MAX_POLICY_BYTES: Final = 256 * 1024

Level = Literal["restricted", "baseline", "privileged"]

LEVELS: Final[Mapping[Level, Rules]] = {
    "restricted": Rules(
        images=Images(digest=True),
        networks=Networks(allow=()),
        secrets=References(labelled=False),
        configs=References(labelled=False),
        services=References(labelled=False),
        mounts=Mounts(),
        users=Users(root=False),
        resources=Resources(memory=Memory(required=True), pids=Resource(maximum=4096)),
        placement=Placement(allow=()),
        sysctls=(),
        ulimits={},
        log_drivers=("local", "json-file"),
    ),
    "baseline": Rules(
        mounts=Mounts(volumes=("jobs-*",)),
        # As many as a whole node has without a setting of its own (kernel.pid_max).
        resources=Resources(pids=Resource(maximum=32_768)),
    ),
    "privileged": Rules(
        networks=Networks(kinds="all", own=True, aliases=True, driver_options=("**",)),
        secrets=References(allow=("**",)),
        configs=References(allow=("**",)),
        services=References(allow=("**",)),
        mounts=Mounts(
            binds=(Bind(path="/", read_only=False, below=True),),
            propagation=("**",),
            volumes=("**",),
            drivers={"**": ("**",)},
        ),
        capabilities=Capabilities(add=("ALL",)),
        sysctls=("**",),
        ulimits={"*": -1},
        unconfined=True,
        oom_score=-1000,
        env_secrets=("**",),
        log_drivers=("**",),
    ),
}
"""What each level begins with."""


class Section(Part):
    """What differs for a queue or a tenant."""

    level: Level | None = Field(None, description="begin anew with this level; null: go on from what holds")
    rules: Rules = Field(Rules(), description="rules that differ")


class Policy(Part):
    """Who may run what."""

    version: Literal[1] = Field(1, description="version of this format")
    mode: Literal["enforce", "warn"] = Field(
        "enforce", description="enforce: refuse what is not allowed; warn: run it, and say so in log and record"
    )
    level: Level = Field("baseline", description="what the rules begin with")
    rules: Rules = Field(Rules(), description="rules that differ from the level's, for all jobs")
    queues: dict[str, Section] = Field(
        default_factory=dict, max_length=1000, description="what differs for the jobs of a worker's queue, by its name"
    )
    tenants: dict[str, Section] = Field(
        default_factory=dict, max_length=10_000, description="what differs for the jobs of a tenant, by its name"
    )
    trust_tenant_label: bool = Field(
        False,
        description="true: the label jaas.tenant of a job is believed. false: unless a signature says so, too, a "
        "tenant's rules hold in addition to the others, so that the label can gain nothing",
    )

    def text(self) -> str:
        """Return the policy as JSON: what was given, and nothing else."""
        return self.model_dump_json(exclude_unset=True)

    def digest(self) -> str:
        """Return a hash of the policy, the same for the same rules."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


def parse_policy(text: str, name: str = "policy") -> Policy:
    """Return the policy in a text.

    Args:
        text: TOML, YAML or JSON.
        name: the file's name, for errors. ``.toml`` is read as TOML, ``.yaml``, ``.yml`` and ``.json`` as YAML; another
            one, such as that of a swarm config, as TOML if it is that, else as YAML.

    Raises:
        SpecError: it is no policy; the text names file, key and fix.
    """
    if len(text.encode(errors="replace")) > MAX_POLICY_BYTES:
        raise SpecError(f"{name}: has more than {MAX_POLICY_BYTES:,} bytes")
    data = _parsed(text, name)
    if not isinstance(data, dict):
        raise SpecError(f"{name}: must hold names and values, such as `level: baseline`")
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise SpecError(f"{name}: {f'{where}: ' if where else ''}{message}", field=where) from None


def _parsed(text: str, name: str) -> Any:
    kind = name.rpartition(".")[2].lower()
    if kind not in {"yaml", "yml", "json"}:
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            if kind == "toml":
                raise SpecError(f"{name}: is no valid TOML: {error}") from None
    try:
        import yaml  # an extra
    except ImportError:
        raise SpecError(f"{name}: PyYAML is not installed; {how_to_install('cli')}, or write TOML") from None
    try:
        _refuse_duplicates(yaml.compose(text, Loader=yaml.SafeLoader), name)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SpecError(f"{name}{where}: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise SpecError(f"{name}: is nested too deeply") from None


def _refuse_duplicates(node: Any, name: str) -> None:
    """Refuse a key that is there twice: YAML would take the last one without a word."""
    pending, known = [node], set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in known:
            continue
        known.add(id(one))
        if isinstance(one.value, str):
            continue
        seen: set[str] = set()
        for entry in one.value:
            if not isinstance(entry, tuple):
                pending.append(entry)
                continue
            key, value = entry
            pending += [key, value]
            if isinstance(key.value, str):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise SpecError(f"{name}, line {line}: the key {shown(key.value)} is there twice; keep one")
                seen.add(key.value)


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy, as ``docs/schema/`` has it."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:jaas:policy:{POLICY_VERSION}",
        "title": "jaas policy",
        "description": "What jobs may ask for. TOML, YAML or JSON. Unknown keys are refused.",
    }
    made = Policy.model_json_schema()
    return {**head, **{key: value for key, value in made.items() if key not in head}}

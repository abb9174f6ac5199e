"""The job description: what a producer may ask for. Validated here, for library, CLI and worker."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import bounded, check_plain, shown
from jaas_submit.model.causes import Cause
from jaas_submit.model.fields import (
    AbsolutePath,
    Constraint,
    Duration,
    Gather,
    LogDriverName,
    Name,
    PositiveDuration,
    Resources,
    Text,
    Words,
)
from jaas_submit.model.files.inputs import FilesIn, target_of
from jaas_submit.model.files.listing import PatternText
from jaas_submit.model.files.targets import clash
from jaas_submit.model.retry_policy import RetryPolicy
from jaas_submit.model.secrecy.env_secrets import EnvSecrets
from jaas_submit.model.service_options.fields import ServiceOptions
from jaas_submit.model.service_options.healthcheck import Healthcheck, HealthcheckField
from jaas_submit.model.service_options.mounts import Mount
from jaas_submit.model.service_options.networks import Networks
from jaas_submit.model.service_options.references import SecretMounts
from jaas_submit.model.service_options.values import list_of_texts
from jaas_submit.model.validation import kind_of, plain_input, shown_name, spec_error

__all__ = ["GATHER_FILE", "INPUT_FILE", "MAX_SPEC_BYTES", "SPEC_VERSION", "JobSpec"]

SPEC_VERSION: Final = 1
MAX_SPEC_BYTES: Final = 512 * 1024
"""Largest description, as JSON, in bytes: it is written to Redis and the swarm's raft log several times."""

INPUT_FILE: Final = "/run/jaas/input.json"
GATHER_FILE: Final = "/run/jaas/input.jsonl"
"""Path of a container's input; JAAS_INPUT names the file."""

_MAX_FIELDS: Final = 100
_MAX_ENV_NAME: Final = 1024

_ENV_NAME = re.compile(r"[^=\x00\s]++\Z")
# The reference grammar of distribution images: [domain[:port]/]path[:tag][@digest], path in lower case.
# Its repetitions are possessive (++): there is no backtracking, so the time is linear in the length.
_PATH_PART = r"[a-z0-9]++(?:(?:__|[._]|-++)[a-z0-9]++)*+"
_IMAGE = re.compile(
    r"(?:(?:[a-zA-Z0-9]++(?:-++[a-zA-Z0-9]++)*+(?:\.[a-zA-Z0-9-]++)*+|\[[0-9a-fA-F:]++\])(?::\d++)?/)?"
    rf"{_PATH_PART}(?:/{_PATH_PART})*+"
    r"(?::\w[\w.-]{0,127})?"
    r"(?:@[a-zA-Z][a-zA-Z0-9]*+:[0-9a-fA-F]{32,}+)?\Z"
)


def _env_map(value: object) -> object:
    """Accept ["A=b"] as well as {"A": "b"}, as compose files do."""
    if not isinstance(value, list | tuple):
        return value
    pairs: dict[str, str] = {}
    for item in value:
        if not isinstance(item, str) or "=" not in item:
            raise ValueError("each entry needs a '=': write NAME=value")
        name, _, text = item.partition("=")
        pairs[name] = text
    return pairs


def _is_unicode(text: str) -> bool:
    """Return whether the text can be written as UTF-8; JSON can smuggle in an unpaired surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_fields(fields: Mapping[str, Any]) -> None:
    """Refuse values that are too large for pydantic, which would collect every error in them first."""
    if len(fields) > _MAX_FIELDS:
        raise SpecError(f"the description has {len(fields):,} fields; `jaas schema` lists those that there are")
    for name, value in fields.items():
        if not name or not name.isprintable():  # as an unpaired surrogate, which pydantic cannot name
            said = shown(name) or repr(name)
            raise SpecError(f"{said}: is no field of a job description", field=said)
        try:
            check_plain(value)
        except ValueError as error:
            raise SpecError(f"{shown(name)}: {error}", field=shown(name)) from None


class JobSpec(ServiceOptions):
    """One container to be run once.

    Names are those of compose files: ``entrypoint`` replaces the image's entry point and ``command``
    its arguments. Durations are seconds or texts such as ``1h30m``; sizes are bytes or texts such as ``512M``.

    Raises:
        SpecError: a field is wrong; the text names it and the fix.
    """

    version: Literal[1] = Field(1, description="version of this format")
    image: str = Field("", min_length=1, max_length=512, description="what is run, such as alpine:3.20")
    entrypoint: Words | None = Field(None, description="replaces the image's ENTRYPOINT")
    command: Words | None = Field(None, description="replaces the image's CMD: the arguments of the entry point")
    env: Annotated[dict[str, str], BeforeValidator(_env_map)] = Field(
        default_factory=dict, repr=False, max_length=4096, description="environment variables; values are never shown"
    )
    networks: Networks = Field((), max_length=64, description="overlay networks to join, by name, or with options")
    mounts: tuple[Mount, ...] = Field((), max_length=256, description="host folders, volumes and tmpfs")
    secrets: SecretMounts = Field((), max_length=256, description="swarm secrets, by name")
    constraints: Annotated[tuple[Text, ...], BeforeValidator(list_of_texts)] = Field(
        (), max_length=64, description="placement, such as node.labels.disk==ssd"
    )
    limits: Resources = Field(Resources(), description="what the container may use at most")
    reservations: Resources = Field(Resources(), description="what must be free on its node")
    user: Text | None = Field(None, description="user[:group] inside the container")
    workdir: AbsolutePath | None = Field(None, description="replaces the image's WORKDIR")
    name: Name | None = Field(None, description="for people: shown in lists and in Flower")
    labels: dict[Name, Annotated[str, StringConstraints(max_length=256)]] = Field(
        default_factory=dict, max_length=32, description="for finding the job again; its container has them, too"
    )
    healthcheck: HealthcheckField = Field(
        Healthcheck(disable=True),
        description="true: the image's HEALTHCHECK may kill the job; an object: a check of the job's own; false: none",
    )
    log_driver: LogDriverName | None = Field(
        None, description="what keeps its output on the node, such as local or json-file; null: the worker's choice"
    )
    log_options: dict[Name, Annotated[str, StringConstraints(max_length=4096)]] = Field(
        default_factory=dict,
        max_length=64,
        description="options of the log driver, such as max-size; without log_driver they change the worker's",
    )
    registry: Text | None = Field(
        None, description="registry whose credentials, kept on the worker's side, are used to pull the image"
    )
    stop_signal: Annotated[str, StringConstraints(pattern=r"^SIG[A-Z0-9+]{1,12}$")] | None = Field(
        None, description="replaces the image's STOPSIGNAL, such as SIGINT"
    )
    stop_grace: Duration = Field(10.0, le=86400, description="seconds between the stop signal and SIGKILL")
    pending_timeout: PositiveDuration | None = Field(
        None, description="seconds the job may wait for a running container"
    )
    run_timeout: PositiveDuration | None = Field(None, description="seconds the container of an attempt may run")
    deadline: PositiveDuration | None = Field(
        None, description="seconds from submission in which the whole job, retries included, must have ended"
    )
    expires: PositiveDuration | None = Field(
        None, description="seconds from submission after which the job is not started any more"
    )
    input: JsonValue = Field(
        None, repr=False, description=f"handed to the container as the file {INPUT_FILE}, in JSON; null: no such file"
    )
    input_lines: bool = Field(False, description=f"input is a list, handed over as lines of JSON in {GATHER_FILE}")
    gather: Gather | None = Field(
        None, description=f"outputs of a batch's jobs, handed over as JSON lines in the file {GATHER_FILE}"
    )
    files: FilesIn = Field({}, description="files that the container gets: names, each with a path at the producer")
    output: Literal["none", "text", "json"] = Field(
        "none",
        description="what the job returns: nothing; its whole standard output; or the last line of that, read as JSON "
        "(all of it, if only that is JSON)",
    )
    outputs: Annotated[tuple[PatternText, ...], BeforeValidator(list_of_texts)] = Field(
        (),
        max_length=32,
        description="files that are taken out of the ended container into the store: absolute paths and patterns, such "
        "as /out/*.pdf or /out/**",
    )
    require_outputs: bool = Field(
        False, description="true: a job that succeeds without all of these files fails (cause output)"
    )
    retry: RetryPolicy = Field(RetryPolicy(), description="when it is attempted again")
    idempotent: bool = Field(
        False,
        description="true: running it twice, even at the same time, does no harm; speculation needs this",
    )
    on_node_lost: Literal["wait", "retry", "fail"] = Field(
        "wait",
        description="what to do when the node of a running container is down, so that the container's state is "
        "unknown: wait for the node; retry elsewhere (the lost container may still run: attempts may overlap); fail",
    )
    lost_after: PositiveDuration | None = Field(
        None,
        description="seconds that the node must have been down; by default 60 with retry and fail, and with wait until "
        "the swarm itself gives the node up (24 hours)",
    )
    env_secrets: EnvSecrets = Field(
        default_factory=dict,
        max_length=256,
        description="variable -> name of a file in the workers' folder of secrets, which becomes its value",
    )
    scrub: bool = Field(False, description="true: the values of env_secrets are replaced by *** in the output")
    check: bool = Field(True, description="false: a job that ends badly is SUCCESS in Celery, with its result object")

    @field_validator("image")
    @classmethod
    def _image_is_a_reference(cls, value: str) -> str:
        if not _IMAGE.match(value):
            raise ValueError("is no image reference; write it as [registry/]name[:tag], in lower case")
        return value

    @field_validator("env")
    @classmethod
    def _env_is_sane(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _ENV_NAME.match(bounded(name, _MAX_ENV_NAME)):
                raise ValueError(
                    f"{shown_name(name)!r} is no variable name; use NAME=value with no blanks or '=' in NAME"
                )
            if "\x00" in text:
                raise ValueError(f"the value of {shown(name)} has a NUL character, which no process can be given")
            if not (_is_unicode(name) and _is_unicode(text)):
                raise ValueError(f"{shown_name(name)!r} or its value is no valid Unicode; base64 can carry any bytes")
        return value

    @field_validator("input")
    @classmethod
    def _input_is_json(cls, value: JsonValue) -> JsonValue:
        if value is None:
            return None
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:
            raise ValueError("has a text that is no valid Unicode; base64 can carry any bytes") from None
        except ValueError:
            raise ValueError("has a number that JSON does not know (NaN or Infinity); use null") from None
        return value

    @field_validator("constraints")
    @classmethod
    def _constraints_parse(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Constraint.parse(text)
        return value

    @field_validator("entrypoint", "command")
    @classmethod
    def _no_nul(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value and any("\x00" in word for word in value):
            raise ValueError("has a NUL character, which no process can be given")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not (self.image or self.like_service):
            raise ValueError("image: is required")
        if self.entrypoint is not None and (not self.entrypoint or not self.entrypoint[0]):
            raise ValueError("entrypoint: must name a program; leave it out to use the image's own")
        if both := sorted(self.env.keys() & self.env_secrets.keys()):
            raise ValueError(f"env_secrets: {shown(both[0])} is in env, too; keep one of them")
        given = {name: [one.path for one in getattr(self, name)] for name in ("secrets", "configs")}
        own = {"input": [INPUT_FILE, GATHER_FILE], "files": map(target_of, self.files)}
        if problem := clash({**own, **given, "mounts": [mount.target for mount in self.mounts]}, self.outputs):
            raise ValueError(problem)
        networks = [network.name for network in self.networks]
        if len(set(networks)) < len(networks):
            raise ValueError("networks: a network is there twice; name it once")
        if self.input is not None and self.gather is not None:
            raise ValueError("input: cannot go with gather; a job has one input")
        if self.input_lines and not isinstance(self.input, list):
            raise ValueError("input_lines: needs a list as input; leave it out for one JSON value")
        for kind in ("cpus", "memory"):
            limit, reserved = getattr(self.limits, kind), getattr(self.reservations, kind)
            if limit is not None and reserved is not None and reserved > limit:
                raise ValueError(f"reservations.{kind}: is more than limits.{kind}; raise the limit or reserve less")
        return self

    def __init__(self, /, **fields: Any) -> None:  # a foreign object may have a field "self"
        _check_fields(fields)
        if fields.get("input") is not None:
            fields["input"] = plain_input(fields["input"])
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise spec_error(error) from None
        size = len(self.to_json().encode())
        if size > MAX_SPEC_BYTES:
            field = self._largest_field()
            store = "with a store (JAAS_STORE_URL, for workers too) submit(input=...) and map take larger ones"
            remedy = store if field == "input" else "pass large data by a mount, a secret or a URL"
            raise SpecError(
                f"{field}: the description has {size:,} bytes as JSON, more than the {MAX_SPEC_BYTES:,} allowed; "
                f"{remedy}",
                field=field,
            )

    def _largest_field(self) -> str:
        dumped = self.model_dump(mode="json")
        return max(dumped, key=lambda name: len(str(dumped[name])))

    @classmethod
    def parse(cls, data: object) -> JobSpec:
        """Return the description in a JSON object, or in its text.

        Args:
            data: a mapping, a ``JobSpec``, or JSON as ``str`` or ``bytes``.

        Raises:
            SpecError: it is invalid, or a field is wrong.
        """
        if isinstance(data, JobSpec):
            return data
        if isinstance(data, str | bytes | bytearray):
            if len(data) > 4 * MAX_SPEC_BYTES:
                raise SpecError(f"the description has {len(data):,} bytes, more than the {MAX_SPEC_BYTES:,} allowed")
            try:
                data = from_json(data)
            except ValueError as error:
                hint = 'for an image write JobSpec(image="...")'  # the text itself may hold a secret
                raise SpecError(f"the description is not valid JSON: {error}; {hint}") from None
            except TypeError:  # a text with an unpaired surrogate
                raise SpecError("the description is not valid JSON: it is no valid Unicode") from None
        if not isinstance(data, Mapping):
            raise SpecError(f'the description must be a JSON object such as {{"image": "..."}}, not {kind_of(data)}')
        if not all(isinstance(name, str) for name in data):
            raise SpecError("the description's field names must be texts")
        return cls(**data)

    def changed(self, changes: Mapping[str, Any]) -> JobSpec:
        """Return the description with some fields replaced; in objects only the named entries change.

        Args:
            changes: such as ``{"image": "app:2", "limits": {"memory": "2G"}, "env": {"LEVEL": "3"}}``.

        Raises:
            SpecError: a change is not valid.
        """
        fields = self.to_wire()
        for name, value in changes.items():
            old = fields.get(name)
            if isinstance(old, dict) and isinstance(value, Mapping) and name not in {"input", "gather"}:
                fields[name] = {**old, **value}
            else:
                fields[name] = value
        return JobSpec.parse(fields)

    def to_wire(self) -> dict[str, Any]:
        """Return the plain JSON object that goes into the message: only what differs from the defaults, and version."""
        return {"version": self.version, **self.model_dump(mode="json", exclude_defaults=True)}

    def to_json(self) -> str:
        """Return the description as JSON text."""
        return self.model_dump_json(exclude_defaults=True)

    def too_late(self, age: float, *, started: bool) -> tuple[Cause, str] | None:
        """Return why the job has to end now; None if it may go on.

        Args:
            age: seconds since its submission.
            started: whether an attempt was launched in time, so that ``expires`` no longer applies.
        """
        if not started and self.expires is not None and age > self.expires:
            return Cause.EXPIRED, f"not started within expires ({self.expires:g} s)"
        if self.deadline is not None and age > self.deadline:
            return Cause.DEADLINE, f"not ended within deadline ({self.deadline:g} s)"
        return None

    def digest(self) -> str:
        """Return a hash of the description; a service carries it in a label, so that it can be recognised."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def summary(self) -> str:
        """Return one short line for people and for Flower; the values of ``env`` are never in it."""
        words = [*(self.entrypoint or ()), *(self.command or ())]
        # Quoted as a shell would need it; scripts in a command have line ends.
        image = self.image or f"like {self.like_service}"
        parts = [self.name + ":" if self.name else "", image, " ".join(shlex.join(words).split())]
        text = " ".join(part for part in parts if part)
        if self.env or self.env_secrets:
            text += f" env[{', '.join(sorted([*self.env, *self.env_secrets]))}]"
        return text if len(text) <= 200 else text[:197] + "..."

    def __repr__(self) -> str:
        return f"JobSpec({self.summary()!r})"

    __str__ = __repr__

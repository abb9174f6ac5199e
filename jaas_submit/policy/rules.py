"""PURE: the rules that a policy is made of, each with its default."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator

from jaas_submit.model.bounds import shown
from jaas_submit.model.fields import AbsolutePath, Constraint, Duration, Size

__all__ = [
    "Bind",
    "Capabilities",
    "Images",
    "Memory",
    "Mounts",
    "Networks",
    "Part",
    "Pattern",
    "Patterns",
    "Placement",
    "References",
    "Resource",
    "Resources",
    "Rules",
    "Users",
]


def _list_of_texts(value: object) -> object:
    if isinstance(value, str):
        raise ValueError('give a list, such as ["name"]')
    return value


Pattern = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_list_of_texts)]
"""Names with ``*`` (any characters but a slash), ``**`` (any characters) and ``?`` (one)."""


class Part(BaseModel):
    """A part of a policy: immutable, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(f"{shown(key)}: there is no such key; {_meant(str(key), cls.model_fields)}")
        return data

    def changed_by(self, other: Self) -> Self:
        """Return these rules with those that another set gives; a list that is given replaces the whole list.

        Args:
            other: rules, of which only the given ones count.
        """
        update: dict[str, Any] = {}
        for name in other.model_fields_set:
            mine, new = getattr(self, name), getattr(other, name)
            update[name] = mine.changed_by(new) if isinstance(mine, Part) and isinstance(new, Part) else new
        return self.model_copy(update=update)


def _meant(key: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(names), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names))}"


class Images(Part):
    """Which images may run."""

    allow: Patterns = Field(("**",), description="images, such as alpine, ghcr.io/acme/* or alpine:3.*")
    registries: Patterns = Field(("**",), description="hosts that they may come from, such as docker.io")
    digest: bool = Field(
        False, description="true: what runs is named by its digest; the job gives it, or the worker finds it"
    )


class Networks(Part):
    """Which networks a job may join."""

    allow: Patterns = Field(("**",), description="networks, by name")
    kinds: Literal["attachable", "overlay", "all"] = Field(
        "attachable",
        description="attachable: overlay networks that are open to single containers; overlay: all overlay networks; "
        "all: the host's own network and bridges, too",
    )
    own: bool = Field(False, description="true: also networks with the label jaas.control, such as that of Redis")
    aliases: bool = Field(False, description="true: a job may answer to names of its choice on a network")
    driver_options: Patterns = Field((), description="options of the network's driver, as name=value")


class References(Part):
    """Which secrets or configs a job may use."""

    allow: Patterns = Field((), description="by name")
    labelled: bool = Field(True, description="true: also those that carry the label jaas.jobs=allow")


class Bind(Part):
    """A folder or file of the host that may be mounted."""

    path: AbsolutePath = Field(description="on the host of each node")
    read_only: bool = Field(True, description="true: it may be mounted for reading only")
    below: bool = Field(
        False,
        description="true: all that is below it, too; the engine follows symbolic links there, so nobody who is not "
        "trusted may be able to make some",
    )


class Mounts(Part):
    """What may be mounted."""

    binds: tuple[Bind, ...] = Field((), description="folders and files of the host")
    propagation: Patterns = Field(("rprivate", "private"), description="how mounts below a bind show up elsewhere")
    volumes: Patterns = Field((), description="named volumes")
    anonymous: bool = Field(True, description="true: volumes without a name")
    drivers: dict[Pattern, Patterns] = Field(
        default_factory=dict,
        description="volume drivers, and the options that each may be given, as name=value; `local` without options "
        "needs no line",
    )
    tmpfs: bool = Field(True, description="true: temporary file systems in memory")


class Users(Part):
    """As whom a job's process may run."""

    root: bool = Field(True, description="false: the job names a user by a number that is not 0")
    allow: Patterns = Field(("**",), description="users, as the job names them")
    groups: Patterns = Field(("**",), description="further groups")


class Capabilities(Part):
    """Capabilities of the kernel."""

    add: Patterns = Field((), description="those that a job may be given, such as NET_ADMIN; ALL stands for all")
    drop: Patterns = Field((), description="those that a job has to give up; ALL stands for all")
    keep: Patterns = Field(
        (), description="those of the engine's default ones that jobs keep, also where JAAS_CAPABILITIES drops them"
    )


class Resource(Part):
    """How much of a resource."""

    default: float | None = Field(None, gt=0, description="the limit of a job that names none")
    maximum: float | None = Field(None, gt=0, description="of limit and reservation; a job then needs a limit")
    required: bool = Field(False, description="true: a job needs a limit")


class Memory(Part):
    """How much memory."""

    default: Size | None = Field(None, description="the limit of a job that names none, such as 512M")
    maximum: Size | None = Field(None, description="of limit and reservation; a job then needs a limit")
    required: bool = Field(False, description="true: a job needs a limit")


class Resources(Part):
    """What a job may use."""

    cpus: Resource = Field(Resource(), description="cores")
    memory: Memory = Field(Memory(), description="bytes, or a text such as 512M")
    pids: Resource = Field(Resource(), description="processes and threads")


class Placement(Part):
    """On which nodes a job may run."""

    allow: Patterns = Field(("**",), description="constraints that a job may name, such as node.labels.zone==*")
    add: Annotated[tuple[str, ...], BeforeValidator(_list_of_texts)] = Field(
        (), max_length=64, description="constraints that each job gets"
    )

    @field_validator("add")
    @classmethod
    def _are_constraints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Constraint.parse(text)
        return value


_SYSCTLS: Final = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_*",
)
"""Settings of the kernel that concern the container's own namespaces alone."""

_ULIMITS: Final = {"core": -1, "cpu": -1, "fsize": -1, "nofile": 1_048_576, "nproc": -1, "stack": -1}


class Rules(Part):
    """What a job may ask for. Rules that are not given are those of the level."""

    images: Images = Field(Images(), description="what runs")
    networks: Networks = Field(Networks(), description="networks to join")
    secrets: References = Field(References(), description="swarm secrets")
    configs: References = Field(References(), description="swarm configs")
    services: References = Field(
        References(), description="deployed services that a job may be like, with their environment"
    )
    mounts: Mounts = Field(Mounts(), description="what is mounted")
    users: Users = Field(Users(), description="user and groups of the process")
    capabilities: Capabilities = Field(Capabilities(), description="of the kernel")
    resources: Resources = Field(Resources(), description="cores, memory, processes")
    placement: Placement = Field(Placement(), description="constraints")
    sysctls: Patterns = Field(_SYSCTLS, description="settings of the kernel that a job may change, by name")
    ulimits: dict[Pattern, Annotated[int, Field(ge=-1)]] = Field(
        default_factory=lambda: dict(_ULIMITS),
        description="name -> highest value that a job may ask for; -1: any. The name * stands for all others",
    )
    read_only_root: bool = Field(False, description="true: a job's root file system has to be read-only")
    no_new_privileges: bool | None = Field(
        None,
        description="true: a job's processes may gain no privileges, and no engine that does not know that gets the "
        "job; false: they may; null: as JAAS_NO_NEW_PRIVILEGES says, where manager and nodes know the setting",
    )
    unconfined: bool = Field(False, description="true: seccomp, AppArmor and SELinux may be changed or switched off")
    oom_score: int = Field(0, ge=-1000, le=1000, description="least value that a job may ask for")
    log_drivers: Patterns = Field(
        ("local", "json-file", "journald", "none"), description="log drivers that a job may name beside the worker's"
    )
    labels: Patterns = Field(("**",), description="labels that a job may put on its container, by name")
    env: Patterns = Field(("**",), description="environment variables that a job may set, by name")
    env_secrets: Patterns = Field(
        (), description="files in the workers' folder JAAS_ENV_SECRETS that a job may have in its environment, by name"
    )
    run_timeout: Duration | None = Field(
        None, description="longest run_timeout of a job, which then needs one; null: any"
    )
    attempts: int | None = Field(None, ge=1, description="most attempts of a job (retry.max_attempts); null: any")
    in_flight: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="most jobs in flight at once, on all workers together; further ones wait. For a queue or a tenant: "
        "of its jobs. null: any",
    )
    output: Size | None = Field(None, description="most bytes that a job may return; null: as JAAS_OUTPUT_LIMIT says")

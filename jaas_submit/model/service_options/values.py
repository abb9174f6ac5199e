"""PURE: values of a container's options, each checked as far as that is possible without an engine."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from jaas_submit.model.bounds import bounded, shown
from jaas_submit.model.fields import Model

__all__ = [
    "AddressText",
    "Capability",
    "ContainerLabel",
    "ContainerLabelText",
    "Count",
    "DomainName",
    "ExtraHosts",
    "Group",
    "HostName",
    "ResolverOption",
    "Sysctls",
    "Ulimit",
    "Ulimits",
    "list_of_texts",
]

_CAPABILITIES: Final = frozenset(
    [
        *("AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE"),
        *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL"),
        *("LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE"),
        *("NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG"),
        *("SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE"),
        *("SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"),
    ]
)
"""Source: Linux, include/uapi/linux/capability.h."""

_ULIMITS: Final = frozenset(
    [
        *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio"),
        *("rttime", "sigpending", "stack"),
    ]
)
"""Source: docker/go-units, ulimit.go."""

_SYSCTLS: Final = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
_SYSCTL_FAMILIES: Final = ("net.", "fs.mqueue.")
"""Settings that a container has of its own; the others are the node's. Source: docker/cli, opts/opts.go,
``ValidateSysctl``."""

_SYSCTL_NAME: Final = re.compile(r"[a-z0-9_.*/-]{1,255}\Z", re.IGNORECASE)
_UNLIMITED: Final = -1
_MAX_LIMIT: Final = 2**63 - 1


def _did_you_mean(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name[:80], list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"such as {min(known)}"


def list_of_texts(value: object) -> object:
    """Refuse a text where a list is meant.

    Args:
        value: what the caller gave.

    Raises:
        ValueError: it is a text.
    """
    if isinstance(value, str):
        raise ValueError('give a list, such as ["name"]')
    return value


def _capability(text: str) -> str:
    name = text.upper().removeprefix("CAP_")
    if name != "ALL" and name not in _CAPABILITIES:
        raise ValueError(f"{shown(text)} is no capability; {_did_you_mean(name, _CAPABILITIES)}")
    return name


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(bounded(text, 64)))
    except ValueError:
        raise ValueError(f"{shown(text)} is no address; write one such as 10.0.0.7 or fd00::7") from None


Capability = Annotated[str, StringConstraints(max_length=64), AfterValidator(_capability)]
AddressText = Annotated[str, StringConstraints(max_length=64), AfterValidator(_address)]
HostName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?$")]
"""Linux takes 64 characters. A template (``{{.Node.Hostname}}``) is none: JAAS_NODE has the node's name."""
DomainName = Annotated[str, StringConstraints(pattern=r"^(\.|[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,251}[a-zA-Z0-9_.])?)$")]
ResolverOption = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}(:[0-9]{1,9})?$")]
Group = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,63}$")]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


def _host_line(item: object) -> str:
    """Return ``NAME:ADDRESS``; compose and docker take ``NAME=ADDRESS``, too."""
    if not isinstance(item, str):
        raise ValueError("each entry must be a text such as db:10.0.0.7")
    text = bounded(item, 400)
    name, separator, address = text.partition("=") if "=" in text else text.partition(":")
    if not (separator and re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,252}", name)):
        raise ValueError(f"{shown(text)} is no host; write NAME:ADDRESS such as db:10.0.0.7")
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    return f"{name}:{_address(bare)}"


def _host_lines(value: object) -> object:
    if isinstance(value, Mapping):
        return [_host_line(f"{name}={address}") for name, address in value.items()]
    list_of_texts(value)
    return [_host_line(item) for item in value] if isinstance(value, list | tuple) else value


ExtraHosts = Annotated[tuple[str, ...], BeforeValidator(_host_lines, json_schema_input_type=dict[str, str] | list[str])]
"""Also as an object of names and addresses."""


class Ulimit(Model):
    """How much of something one process may have; -1 is no limit."""

    soft: int = Field(ge=_UNLIMITED, le=_MAX_LIMIT, description="what holds")
    hard: int = Field(ge=_UNLIMITED, le=_MAX_LIMIT, description="up to which the process itself may raise it")

    @model_validator(mode="after")
    def _soft_is_below_hard(self) -> Self:
        if self.hard != _UNLIMITED and (self.soft == _UNLIMITED or self.soft > self.hard):
            raise ValueError("soft: is more than hard; lower it, or raise hard")
        return self


def _ulimit(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError('give a number, or {"soft": 1024, "hard": 2048}')
    if isinstance(value, int):
        return {"soft": value, "hard": value}
    if isinstance(value, str):
        soft, _, hard = bounded(value, 64).partition(":")
        try:
            return {"soft": int(soft), "hard": int(hard or soft)}
        except ValueError:
            raise ValueError(f"{shown(value)} is no limit; write SOFT or SOFT:HARD, such as 1024:2048") from None
    return value


def _ulimit_name(name: str) -> str:
    if name not in _ULIMITS:
        raise ValueError(f"{shown(name)} is no limit of processes; {_did_you_mean(name, _ULIMITS)}")
    return name


Ulimits = dict[
    Annotated[str, StringConstraints(max_length=64), AfterValidator(_ulimit_name)],
    Annotated[Ulimit, BeforeValidator(_ulimit, json_schema_input_type=int | str | Ulimit)],
]


def _sysctl_name(name: str) -> str:
    plain = name.replace("/", ".")
    if not _SYSCTL_NAME.match(plain) or not (plain in _SYSCTLS or plain.startswith(_SYSCTL_FAMILIES)):
        raise ValueError(
            f"{shown(name)} is no setting that a container has of its own; those are net.*, fs.mqueue.* and "
            f"{', '.join(sorted(_SYSCTLS))}"
        )
    return plain


def _sysctl_value(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Sysctls = dict[
    Annotated[str, StringConstraints(max_length=255), AfterValidator(_sysctl_name)],
    Annotated[
        str,
        StringConstraints(max_length=1024, pattern=r"^[^\x00\n]+$"),
        BeforeValidator(_sysctl_value, json_schema_input_type=int | str),
    ],
]

_OWN_LABELS: Final = ("jaas.", "com.docker.")


def _label(name: str) -> str:
    if name.startswith(_OWN_LABELS):
        raise ValueError(f"{shown(name)} is no name for a label of yours: those with jaas. and com.docker. are taken")
    if not name.isprintable() or " " in name or "=" in name:
        raise ValueError(f"{shown(name)!r} is no name of a label; use one without blanks and '='")
    return name


ContainerLabel = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_label)]
ContainerLabelText = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00]*$")]

"""PURE: what a container may be: image, user, capabilities, kernel settings, environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from jaas_submit.model.bounds import shown
from jaas_submit.model.wire_names import (
    ENV_ATTEMPT,
    ENV_FILE_URLS,
    ENV_FILES,
    ENV_INPUT,
    ENV_JOB_ID,
    ENV_NODE,
)
from jaas_submit.policy.facts import Refusal
from jaas_submit.policy.names import ImageName, matches, matches_image
from jaas_submit.policy.rules import Rules

__all__ = ["DEFAULT_CAPABILITIES", "capability_names", "check_container", "check_image"]

_OWN_ENV: Final = frozenset({ENV_ATTEMPT, ENV_FILES, ENV_FILE_URLS, ENV_INPUT, ENV_JOB_ID, ENV_NODE, "TRACEPARENT"})
"""Variables that jaas sets itself."""

_OWN_LABELS: Final = "jaas."

DEFAULT_CAPABILITIES: Final = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
"""What the engine gives each container by itself. Source: moby, daemon/pkg/oci/caps/defaults.go."""


def check_image(image: str, rules: Rules, *, pinned: bool = True) -> Iterator[Refusal]:
    """Yield why an image may not run.

    Args:
        image: a reference.
        rules: those that hold.
        pinned: False: its digest is not looked up yet.
    """
    name = ImageName.parse(image)
    if not matches(name.host, rules.images.registries):
        said = f"may not come from {shown(name.host)}; rules.images.registries allows it with that name"
        yield Refusal("images.registries", "image", said)
    if not matches_image(name, rules.images.allow):
        full = f"{name.host}/{name.path}"
        yield Refusal("images.allow", "image", f"{shown(full, 200)} is not allowed; rules.images.allow lists images")
    if pinned and rules.images.digest and not name.digest:
        said = "needs a digest (NAME@sha256:...), and its registry told none; or rules.images.digest = false"
        yield Refusal("images.digest", "image", said)


def check_container(container: Mapping[str, Any], rules: Rules) -> Iterator[Refusal]:
    """Yield what a container may not be.

    Args:
        container: the request's ``ContainerSpec``.
        rules: those that hold.
    """
    yield from check_image(str(container.get("Image") or ""), rules)
    yield from _user(container, rules)
    yield from _capabilities(container, rules)
    yield from _kernel(container, rules)
    yield from _security(container, rules)
    for name in container.get("Labels") or ():
        if not name.startswith(_OWN_LABELS) and not matches(name, rules.labels):
            said = "may not be set; rules.labels allows it with that name"
            yield Refusal("labels", f"labels.{shown(name)}", said)
    for entry in container.get("Env") or ():
        name = str(entry).partition("=")[0]
        if name not in _OWN_ENV and not matches(name, rules.env):
            said = "may not be set; rules.env allows it with that name"
            yield Refusal("env", f"env.{shown(name)}", said)


def _user(container: Mapping[str, Any], rules: Rules) -> Iterator[Refusal]:
    user = str(container.get("User") or "")
    number = user.partition(":")[0]
    if not rules.users.root and not (number.isascii() and number.isdecimal() and int(number) > 0):
        found = f"{shown(user)} may be root" if user else "the image's user may be root"
        said = f"{found}; name one by a number other than 0, such as user=65534, or rules.users.root = true"
        yield Refusal("users.root", "user", said)
    if user and not matches(user, rules.users.allow):
        yield Refusal("users.allow", "user", f"{shown(user)} is not allowed; rules.users.allow lists users")
    for place, group in enumerate(container.get("Groups") or ()):
        if not matches(str(group), rules.users.groups):
            said = f"{shown(group)} is not allowed; rules.users.groups lists groups"
            yield Refusal("users.groups", f"groups.{place}", said)


def capability_names(value: Any) -> list[str]:
    """Return capabilities in the form ``NET_RAW``, whatever the form in a request or a policy.

    Args:
        value: a list of names; anything else holds none.
    """
    names = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return [str(name).upper().removeprefix("CAP_") for name in names]


def _capabilities(container: Mapping[str, Any], rules: Rules) -> Iterator[Refusal]:
    allowed = set(capability_names(rules.capabilities.add))
    dropped, needed = set(capability_names(container.get("CapabilityDrop"))), capability_names(rules.capabilities.drop)
    for number, name in enumerate(capability_names(container.get("CapabilityAdd"))):
        given = name in DEFAULT_CAPABILITIES and name not in needed and "ALL" not in needed
        if not given and name not in allowed and "ALL" not in allowed:
            said = f'{shown(name)} may not be added; rules.capabilities.add = ["{shown(name)}"] allows it'
            yield Refusal("capabilities.add", f"cap_add.{number}", said)
    for name in needed:
        if name not in dropped and "ALL" not in dropped:
            said = f"has to have {shown(name)}; rules.capabilities.drop = [] asks for none"
            yield Refusal("capabilities.drop", "cap_drop", said)


def _kernel(container: Mapping[str, Any], rules: Rules) -> Iterator[Refusal]:
    sysctls = container.get("Sysctls") or {}
    for name in sysctls:
        if not matches(str(name).replace("/", "."), rules.sysctls):
            said = f'may not be changed; rules.sysctls = ["{shown(name)}"] allows it'
            yield Refusal("sysctls", f"sysctls.{shown(name)}", said)
    for one in container.get("Ulimits") or ():
        name = str(one.get("Name")).lower()
        highest = rules.ulimits.get(name, rules.ulimits.get("*"))
        values = [one.get("Soft", 0), one.get("Hard", 0)]
        if highest is None:
            said = f"may not be changed; rules.ulimits.{shown(name)} says up to which value it may"
            yield Refusal("ulimits", f"ulimits.{shown(name)}", said)
        elif highest != -1 and any(not isinstance(value, int) or not 0 <= value <= highest for value in values):
            said = f"may be {highest} at most; rules.ulimits.{shown(name)} says so"
            yield Refusal("ulimits", f"ulimits.{shown(name)}", said)
    score = container.get("OomScoreAdj") or 0
    if not isinstance(score, int) or score < rules.oom_score:
        said = f"must be {rules.oom_score} at least; rules.oom_score says so"
        yield Refusal("oom_score", "oom_score_adj", said)


def _security(container: Mapping[str, Any], rules: Rules) -> Iterator[Refusal]:
    if rules.read_only_root and container.get("ReadOnly") is not True:
        said = "has to be true; or rules.read_only_root = false"
        yield Refusal("read_only_root", "read_only", said)
    privileges = container.get("Privileges") or {}
    if rules.no_new_privileges and privileges.get("NoNewPrivileges") is False:
        said = "has to be true; or rules.no_new_privileges = false"
        yield Refusal("no_new_privileges", "no_new_privileges", said)
    modes = {name: (privileges.get(name) or {}).get("Mode") for name in ("Seccomp", "AppArmor")}
    changed = [name for name, mode in modes.items() if mode not in {None, "", "default"}]
    if any((privileges.get("SELinuxContext") or {}).values()):
        changed.append("SELinuxContext")
    if changed and not rules.unconfined:
        said = "may not be changed; rules.unconfined = true allows it"
        yield Refusal("unconfined", changed[0], said)

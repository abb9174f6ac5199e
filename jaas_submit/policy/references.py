"""PURE: which secrets, configs and networks a job may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jaas_submit.model.bounds import shown
from jaas_submit.policy.facts import Facts, NetworkFacts, Reference, Refusal, is_for_jobs, is_of_jaas
from jaas_submit.policy.names import matches
from jaas_submit.policy.rules import References, Rules

__all__ = ["check_env_secrets", "check_networks", "check_references", "check_service"]


def check_references(container: Mapping[str, Any], rules: Rules, facts: Facts) -> Iterator[Refusal]:
    """Yield which secrets and configs may not be used.

    Args:
        container: the request's ``ContainerSpec``.
        rules: those that hold.
        facts: what they are, by id: the name in a request proves nothing.
    """
    for kind, known, rule in (("Secret", facts.secrets, rules.secrets), ("Config", facts.configs, rules.configs)):
        for number, entry in enumerate(container.get(f"{kind}s") or ()):
            where = f"{kind.lower()}s.{number}"
            if known is None:
                told = Reference(str(entry.get(f"{kind}Name")), {"jaas.jobs": "allow"})  # the worker will ask
                yield from _reference(kind.lower(), where, told, rule)
            elif (found := known.get(str(entry.get(f"{kind}ID")))) is None:
                yield Refusal(f"{kind.lower()}s", where, f"the swarm has no such {kind.lower()}; no rule allows that")
            else:
                yield from _reference(kind.lower(), where, found, rule)


def _reference(kind: str, where: str, found: Reference, rule: References) -> Iterator[Refusal]:
    if matches(found.name, rule.allow) or (rule.labelled and is_for_jobs(found.labels)):
        return
    name = shown(found.name)
    label = (
        "give it the label jaas.jobs=allow (`docker service update --label-add`, or deploy.labels in its stack file)"
        if kind == "service"
        else f"create it with `docker {kind} create --label jaas.jobs=allow`"
    )
    how = f"{label}, or list it" if rule.labelled else "list it by name"
    said = f"{kind} {name} is not open to jobs; {how} in rules.{kind}s.allow"
    yield Refusal(f"{kind}s.{'labelled' if rule.labelled else 'allow'}", where, said)


def check_service(found: Reference, rules: Rules) -> Iterator[Refusal]:
    """Yield why a job may not be like a service: that shows it the service's environment.

    Args:
        found: the service.
        rules: those that hold.
    """
    yield from _reference("service", "like_service", found, rules.services)


def check_env_secrets(wanted: Mapping[str, str], rules: Rules) -> Iterator[Refusal]:
    """Yield which secrets of the workers may not get into a job's environment.

    Args:
        wanted: variable -> name of the secret.
        rules: those that hold.
    """
    for variable, name in wanted.items():
        where = f"env_secrets.{shown(variable)}"
        if not matches(name, rules.env_secrets):
            said = f'secret {shown(name)} is not open to jobs; rules.env_secrets = ["{shown(name)}"] allows it'
            yield Refusal("env_secrets", where, said)
        if not matches(variable, rules.env):
            yield Refusal("env", where, "may not be set; rules.env allows it with that name")


def check_networks(task: Mapping[str, Any], rules: Rules, facts: Facts) -> Iterator[Refusal]:
    """Yield which networks may not be joined.

    Args:
        task: the request's ``TaskTemplate``.
        rules: those that hold.
        facts: what the networks are. One that is missing there does not exist, which the engine will say.
    """
    for number, entry in enumerate(task.get("Networks") or ()):
        where, target = f"networks.{number}", str(entry.get("Target"))
        found = None if facts.networks is None else facts.networks.get(target)
        name = found.name if found else target
        if not matches(name, rules.networks.allow):
            said = f"network {shown(name)} is not allowed; rules.networks.allow lists networks"
            yield Refusal("networks.allow", where, said)
        yield from _kind(where, name, found, rules)
        if entry.get("Aliases") and not rules.networks.aliases:
            said = "may not be given; rules.networks.aliases = true allows it"
            yield Refusal("networks.aliases", f"{where}.aliases", said)
        for option, value in (entry.get("DriverOpts") or {}).items():
            if not matches(f"{option}={value}", rules.networks.driver_options):
                said = "is not allowed; rules.networks.driver_options lists options"
                yield Refusal("networks.driver_options", f"{where}.driver_opts.{shown(option)}", said)


_PREDEFINED = frozenset({"host", "none", "bridge", "ingress", "docker_gwbridge"})


def _kind(where: str, name: str, found: NetworkFacts | None, rules: Rules) -> Iterator[Refusal]:
    kinds = rules.networks.kinds
    overlay = name not in _PREDEFINED if found is None else found.driver == "overlay" and found.scope == "swarm"
    if not overlay and kinds != "all":
        said = f'network {shown(name)} is no overlay network; rules.networks.kinds = "all" allows it'
        yield Refusal("networks.kinds", where, said)
    elif found is not None and not found.attachable and kinds == "attachable":
        said = (
            f"network {shown(name)} is not attachable; create it with `docker network create --attachable`, or "
            'rules.networks.kinds = "overlay" allows it'
        )
        yield Refusal("networks.kinds", where, said)
    if found is not None and is_of_jaas(found.labels) and not rules.networks.own:
        said = f"network {shown(name)} belongs to jaas itself; rules.networks.own = true allows it"
        yield Refusal("networks.own", where, said)

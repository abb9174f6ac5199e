"""PURE: the options of a container that a job may choose: field, flags, and where each stands in a request.

The description takes its fields' meaning from this table, `jaas run` its flags, and the worker what it asks the engine
for. Mounts, networks, configs and the health check are objects with modules of their own.

No pydantic here: `jaas --help` does without it.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

__all__ = ["CONTAINER_OPTIONS", "ContainerOption", "Shape", "meaning"]

Shape = Literal["texts", "map", "truth", "number", "text", "hosts", "ulimits", "counts"]
"""What a value looks like: in the description, on the command line (texts and maps may be repeated), in a request.

texts: a list. map: names and values. truth, number, text: one of these. hosts: a list of ``NAME:ADDRESS``, which a
request has the other way around. ulimits: name -> soft and hard limit. counts: kind -> how many.
"""


class ContainerOption(NamedTuple):
    """One option."""

    field: str
    """Of the description."""
    flags: tuple[str, ...]
    """Of `jaas run`, in all the ways that docker spells them; `docker service create` has the first one."""
    shape: Shape
    place: str
    """Where it stands in the body of ``POST /services/create``, below ``TaskTemplate``.

    Source: Docker Engine API, ``TaskSpec``."""
    metavar: str
    means: str


CONTAINER_OPTIONS: Final = (
    ContainerOption(
        "cap_add", ("--cap-add",), "texts", "ContainerSpec.CapabilityAdd", "NAME",
        "capabilities of the kernel to add, such as NET_ADMIN; ALL stands for all",
    ),
    ContainerOption(
        "cap_drop", ("--cap-drop",), "texts", "ContainerSpec.CapabilityDrop", "NAME",
        "capabilities of the kernel to take away, such as NET_RAW; ALL stands for all",
    ),
    ContainerOption(
        "ulimits", ("--ulimit",), "ulimits", "ContainerSpec.Ulimits", "NAME=SOFT[:HARD]",
        "limits of its processes, such as nofile=1024:2048; -1 stands for none",
    ),
    ContainerOption(
        "sysctls", ("--sysctl",), "map", "ContainerSpec.Sysctls", "NAME=VALUE",
        "settings of the kernel in the container's own namespaces, such as net.core.somaxconn=1024",
    ),
    ContainerOption(
        "init", ("--init",), "truth", "ContainerSpec.Init", "",
        "run a small init as first process, which forwards signals and removes ended processes",
    ),
    ContainerOption(
        "read_only", ("--read-only",), "truth", "ContainerSpec.ReadOnly", "",
        "make the container's root file system read-only",
    ),
    ContainerOption(
        "pids_limit", ("--limit-pids", "--pids-limit"), "number", "Resources.Limits.Pids", "N",
        "how many processes and threads the container may have; by default as many as the worker says",
    ),
    ContainerOption(
        "groups", ("--group", "--group-add"), "texts", "ContainerSpec.Groups", "GROUP",
        "further groups of its user, by name or number",
    ),
    ContainerOption(
        "hostname", ("--hostname",), "text", "ContainerSpec.Hostname", "NAME",
        "host name inside the container; by default its id",
    ),
    ContainerOption(
        "extra_hosts", ("--host", "--add-host"), "hosts", "ContainerSpec.Hosts", "NAME:ADDRESS",
        "lines for the container's /etc/hosts, such as db:10.0.0.7",
    ),
    ContainerOption(
        "dns", ("--dns",), "texts", "ContainerSpec.DNSConfig.Nameservers", "ADDRESS",
        "name servers, by address",
    ),
    ContainerOption(
        "dns_search", ("--dns-search",), "texts", "ContainerSpec.DNSConfig.Search", "DOMAIN",
        "domains in which short names are looked for",
    ),
    ContainerOption(
        "dns_opt", ("--dns-option", "--dns-opt"), "texts", "ContainerSpec.DNSConfig.Options", "OPTION",
        "options of the resolver, such as ndots:2",
    ),
    ContainerOption(
        "tty", ("--tty",), "truth", "ContainerSpec.TTY", "",
        "give it a terminal: its output is one stream then, with the line ends of a terminal",
    ),
    ContainerOption(
        "oom_score_adj", ("--oom-score-adj",), "number", "ContainerSpec.OomScoreAdj", "N",
        "how readily the kernel ends it when the node's memory is short, -1000 to 1000; Docker 27 and newer",
    ),
    ContainerOption(
        "container_labels", ("--container-label",), "map", "ContainerSpec.Labels", "NAME=VALUE",
        "labels of the container beside the job's own",
    ),
    ContainerOption(
        "generic_resources", ("--generic-resource",), "counts", "Resources.Reservations.GenericResources", "KIND=N",
        "things that must be free on its node, counted by kind, such as gpu=2",
    ),
)  # fmt: skip


def meaning(field: str) -> str:
    """Return what an option means, for the description's schema.

    Args:
        field: an option's name.
    """
    return next(option.means for option in CONTAINER_OPTIONS if option.field == field)

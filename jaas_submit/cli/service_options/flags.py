"""The flags of the table of a container's options, and what they say in a description."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from jaas_submit.cli.service_options.values import (
    DEFAULT_GPU_KIND,
    config_of,
    counts_of,
    gpus_of,
    host_of,
    ulimits_of,
)
from jaas_submit.model.service_options.table import CONTAINER_OPTIONS, ContainerOption

__all__ = ["CONTAINER_FLAGS", "container_fields"]

_LISTS: Final = frozenset({"texts", "hosts"})
_MAPS: Final = frozenset({"map", "ulimits", "counts"})

_HEALTH: Final = {
    "test": ("--health-cmd", "COMMAND", "a shell's command line that checks whether the container is healthy"),
    "interval": ("--health-interval", "TIME", "time between two checks"),
    "timeout": ("--health-timeout", "TIME", "time after which a check counts as failed"),
    "retries": ("--health-retries", "N", "checks that must fail one after the other"),
    "start_period": ("--health-start-period", "TIME", "time from the start in which failed checks do not count"),
    "start_interval": ("--health-start-interval", "TIME", "time between two checks in that time; Docker 25 and newer"),
}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _flag(option: ContainerOption) -> Callable[[Any], Any]:
    told = _sentence(option.means)
    if option.shape == "truth":
        on = option.flags[0]
        return click.option(f"{on}/--no-{on[2:]}", option.field, default=None, help=told)
    repeated = option.shape in _LISTS | _MAPS
    return click.option(*option.flags, option.field, multiple=repeated, metavar=option.metavar, help=told)


CONTAINER_FLAGS: Final = (
    *(_flag(option) for option in CONTAINER_OPTIONS),
    click.option("--gpus", metavar="N", help="GPUs that must be free on its node; JAAS_GPU_KIND says their kind."),
    click.option(
        "--config",
        "configs",
        multiple=True,
        metavar="NAME",
        help="Swarm config as a file; or source=NAME,target=PATH,mode=0400.",
    ),
    *(
        click.option(flag, f"health_{field}", metavar=metavar, help=_sentence(told))
        for field, (flag, metavar, told) in _HEALTH.items()
    ),
)
"""In the order of the help."""


def container_fields(
    options: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Sequence[Any]], dict[str, Mapping[str, Any]]]:
    """Return what the flags say: values that replace a field, those that are added to a list, and to an object.

    Args:
        options: their values by name.
        environ: has JAAS_GPU_KIND, maybe.

    Raises:
        click.UsageError: a value has a form that the flag does not have.
    """
    plain: dict[str, Any] = {}
    lists: dict[str, Sequence[Any]] = {"configs": [config_of(text) for text in options["configs"]]}
    maps: dict[str, Mapping[str, Any]] = {}
    for option in CONTAINER_OPTIONS:
        given = options[option.field]
        if option.shape == "hosts":
            lists[option.field] = [host_of(text) for text in given]
        elif option.shape == "texts":
            lists[option.field] = list(given)
        elif option.shape == "ulimits":
            maps[option.field] = ulimits_of(given)
        elif option.shape == "counts":
            maps[option.field] = counts_of(given)
        elif option.shape == "map":
            maps[option.field] = {name: value for name, _, value in (text.partition("=") for text in given)}
        elif given is not None:
            plain[option.field] = given
    if options["gpus"] is not None:
        kind = environ.get("JAAS_GPU_KIND") or DEFAULT_GPU_KIND
        maps["generic_resources"] = {**maps["generic_resources"], **gpus_of(options["gpus"], kind)}
    health = {field: options[f"health_{field}"] for field in _HEALTH if options[f"health_{field}"] is not None}
    if health and options["healthcheck"] is False:
        raise click.UsageError("--no-healthcheck: cannot go with --health-...; leave one of them out")
    if health:
        maps["healthcheck"] = health
    return plain, lists, maps

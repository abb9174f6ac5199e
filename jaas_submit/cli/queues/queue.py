"""The commands of `jaas queue`: queues are made, changed, paused, drained and deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import PlainGroup, Target, output_options, target_options

if TYPE_CHECKING:
    from jaas_submit.client.queues.queues import Queue

__all__ = ["queue"]

F = TypeVar("F", bound=Callable[..., Any])

_NONE: Final = "none"
_HEADERS: Final = ("QUEUE", "STATE", "MESSAGES", "KEPT", "PRIORITY", "WEIGHT", "MAX IN FLIGHT", "OWNER")

_NOT_YET: Final = ("priority", "weight", "max_in_flight", "age_after", "wait_limits")
"""Fields that are kept and that workers do not follow yet."""


@click.group(cls=PlainGroup)
@target_options()
def queue() -> None:
    """Make, show and change queues: pause, resume, drain (docs/queues.md)."""


def _fields(command: F) -> F:
    """Add the options for what is said of a queue."""
    for option in (
        click.option("--owner", metavar="TEXT", help="Who answers for it, for people."),
        click.option("--wait-limit", "wait_limits", metavar="CODE=TIME", multiple=True, help="Such as capacity=4h."),
        click.option("--age-after", metavar="TIME|none", help="A job that has waited for so long is old."),
        click.option("--max-in-flight", metavar="N|none", help="So many of its jobs at once."),
        click.option("--weight", metavar="X|none", help="Its share among queues of the same priority."),
        click.option("--priority", metavar="N|none", help="0 to 255; the higher one goes first."),
    ):
        command = option(command)
    return command


@queue.command("create")
@click.argument("name")
@_fields
@output_options
@click.pass_obj
def create(target: Target, /, name: str, as_json: bool, quiet: bool, **given: Any) -> None:
    """Make a queue. Those of workers are there from the workers' start."""
    fields = _given(given)
    with target.client() as client:
        _tell(client.queues.create(name, **fields), fields, as_json=as_json, quiet=quiet)


@queue.command("set")
@click.argument("name")
@_fields
@output_options
@click.pass_obj
def set_(target: Target, /, name: str, as_json: bool, quiet: bool, **given: Any) -> None:
    """Change what is said of a queue; `none` is the default again."""
    fields = _given(given)
    if not fields:
        raise click.UsageError("nothing is to be changed; give --priority, --owner or another option")
    with target.client() as client:
        _tell(client.queues.set(name, **fields), fields, as_json=as_json, quiet=quiet)


@queue.command("list")
@output_options
@click.pass_obj
def list_(target: Target, as_json: bool, quiet: bool) -> None:
    """List the queues. MESSAGES and KEPT are jobs that wait; KEPT ones wait until the queue is resumed."""
    with target.client() as client:
        found = client.queues.list()
    if as_json:
        for one in found:
            output.print_json(_as_json(one))
    elif quiet:
        output.print_lines(one.name for one in found)
    elif found:
        output.print_table(_HEADERS, [_row(one) for one in found])


@queue.command("describe")
@click.argument("name")
@output_options
@click.pass_obj
def describe(target: Target, name: str, as_json: bool, quiet: bool) -> None:
    """Show a queue, and who changed it."""
    with target.client() as client:
        found = client.queues.describe(name)
    if as_json:
        output.print_json(_as_json(found))
    else:
        rows = [*zip(map(str.lower, _HEADERS), _row(found), strict=True), *_more(found)]
        output.print_details(rows, blank_before=False)
        if found.audit and not quiet:
            changes = [(output.moment(one.at), one.what, one.by or "-", one.detail) for one in found.audit]
            output.print_table(("TIME", "WHAT", "BY", "DETAIL"), changes)


def _verb(name: str, text: str) -> click.Command:
    """Return a command that changes the state of a queue."""

    @click.argument("name", metavar="NAME")
    @click.option("--why", default="", metavar="TEXT", help="The reason, for people.")
    @output_options
    @click.pass_obj
    def change(target: Target, /, why: str, as_json: bool, quiet: bool, **words: str) -> None:
        with target.client() as client:
            made = getattr(client.queues, name)(words["name"], why)
        _tell(made, {}, as_json=as_json, quiet=quiet)

    return click.command(name, help=text)(change)


queue.add_command(_verb("pause", "Start none of its jobs from now on. What runs goes on, and new jobs are taken."))
queue.add_command(_verb("resume", "Start its jobs again, and take new ones: the end of pause and drain."))
queue.add_command(_verb("drain", "Take no new jobs from now on. What waits is started, and what runs goes on."))


@queue.command("delete")
@click.argument("name")
@output_options
@click.pass_obj
def delete(target: Target, name: str, as_json: bool, quiet: bool) -> None:
    """Delete a queue that is draining and has no jobs and no worker."""
    with target.client() as client:
        client.queues.delete(name)
    if as_json:
        output.print_json({"name": name, "deleted": True})
    elif not quiet:
        click.echo(f"{name}: deleted")


def _given(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that the command line names, as ``Queues.set`` takes them."""
    from jaas_submit.errors import SpecError
    from jaas_submit.model.bounds import parse_duration

    fields: dict[str, Any] = {}
    numbers: dict[str, Callable[[str], Any]] = {
        "priority": int,
        "max_in_flight": int,
        "weight": float,
        "age_after": parse_duration,
    }
    for name, read in numbers.items():
        text = given[name]
        if text is not None:
            fields[name] = None if text == _NONE else _read(f"--{name.replace('_', '-')}", text, read)
    if given["owner"] is not None:
        fields["owner"] = given["owner"] or None
    if given["wait_limits"]:
        pairs = [one.partition("=") for one in given["wait_limits"]]
        if not all(equals for _, equals, _ in pairs):
            raise SpecError("--wait-limit: write CODE=TIME, such as capacity=4h", field="wait_limits")
        fields["wait_limits"] = {code: _read("--wait-limit", text, parse_duration) for code, _, text in pairs}
    return fields


def _read(option: str, text: str, read: Callable[[str], Any]) -> Any:
    from jaas_submit.errors import SpecError
    from jaas_submit.model.bounds import shown

    try:
        return read(text)
    except ValueError:
        kind = "a whole number" if read is int else "a number" if read is float else "a time such as 30s or 4h"
        raise SpecError(f"{option}: {shown(text)} is not {kind}") from None


def _tell(found: Queue, fields: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        output.print_json(_as_json(found))
    elif not quiet:
        click.echo(f"{found.name}: {found.state}")
    ignored = [name for name, value in fields.items() if name in _NOT_YET and value is not None]
    if ignored:
        output.Progress(quiet).warn(f"workers do not follow {', '.join(ignored)} yet (docs/queues.md)")


def _row(one: Queue) -> tuple[str, ...]:
    most = one.rules.max_in_flight
    numbers = f"{one.messages:,}", f"{one.kept:,}", f"{one.rules.priority}", f"{one.rules.weight:g}"
    return one.name, one.state, *numbers, "-" if most is None else f"{most}", one.owner or "-"


def _more(one: Queue) -> list[tuple[str, str]]:
    limits = ", ".join(f"{code}={output.duration(seconds)}" for code, seconds in one.rules.wait_limits.items())
    return [("age after", output.duration(one.rules.age_after)), ("wait limits", limits or "-")]


def _as_json(one: Queue) -> dict[str, Any]:
    rules = {name: value for name, value in asdict(one.rules).items() if name not in {"paused", "draining"}}
    state = {"paused": one.rules.paused, "draining": one.rules.draining, "owner": one.owner}
    audit = [entry.model_dump(mode="json") for entry in one.audit]
    return {"name": one.name, **state, "messages": one.messages, "kept": one.kept, "rules": rules, "audit": audit}

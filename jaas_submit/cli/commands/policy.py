"""The commands of `jaas policy`: what jobs may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import EXIT_NO, PlainGroup, Target, output_options, target_options

if TYPE_CHECKING:
    from jaas_submit.policy.document import Policy
    from jaas_submit.policy.published import Published

__all__ = ["policy"]


@click.group(cls=PlainGroup)
@target_options()
def policy() -> None:
    """Check, try and show what jobs may ask for (docs/policy.md)."""


@policy.command("check")
@click.argument("file", type=click.Path(dir_okay=False))
@output_options
def check(file: str, as_json: bool, quiet: bool) -> None:
    """Check a policy file; exit code 2 if it is not valid."""
    found = _read(file)
    if as_json:
        output.print_json(
            {"valid": True, "level": found.level, "mode": found.mode, "digest": found.digest(), "policy": _given(found)}
        )
    elif not quiet:
        sections = f"{len(found.queues)} queues and {len(found.tenants)} tenants have rules of their own"
        click.echo(f"valid: level {found.level}, mode {found.mode}, digest {found.digest()}; {sections}")


@policy.command("test")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("spec", type=click.File("rb"), metavar="SPEC|-")
@click.option("--tenant", metavar="NAME", help="Whose job it is; by default whose its label jaas.tenant says.")
@output_options
@click.pass_obj
def test(target: Target, file: str, spec: Any, tenant: str | None, as_json: bool, quiet: bool) -> int:
    """Say whether a policy allows a job (SPEC: its description in JSON); exit code 1 if it does not.

    --queue names the worker's queue. What only an engine knows is left out: digests, and which labels secrets, configs
    and networks carry.
    """
    from jaas_submit.explain.refusals import judged
    from jaas_submit.model.job_spec import JobSpec
    from jaas_submit.model.wire_names import DEFAULT_QUEUE

    decision = judged(JobSpec.parse(spec.read()), _read(file), target.queue or DEFAULT_QUEUE, tenant)
    if as_json:
        refusals = [one._asdict() for one in decision.refusals]
        output.print_json({"allowed": not decision.refused, "enforced": decision.enforced, "refusals": refusals})
    else:
        for one in decision.refusals:
            click.echo(str(one))
        if not quiet and not decision.refusals:
            click.echo("allowed")
    return EXIT_NO if decision.refused else 0


@policy.command("show")
@output_options
@click.pass_obj
def show(target: Target, as_json: bool, quiet: bool) -> int:
    """Show the policies of the workers that are alive; exit code 1 if no worker tells one."""
    from jaas_submit.policy.published import published_policies

    with target.client() as client:
        found = published_policies(client.ledger.queries.workers())
    if as_json:
        for one in found:
            output.print_json({**one._asdict(), "policy": _given(one.policy) if one.policy else None})
    elif quiet:
        output.print_lines(sorted({one.digest for one in found}))
    elif found:
        for number, shown in enumerate({one.digest: one for one in found}.values()):
            output.print_details(_rows(shown, found), blank_before=number > 0)
    if not found:
        output.Progress(quiet).warn("no worker that is alive tells its policy")
    return 0 if found else EXIT_NO


@policy.command("schema")
def schema() -> None:
    """Print the JSON Schema of a policy."""
    from jaas_submit.policy.document import policy_schema

    output.print_json(policy_schema(), indent=2)


def _rows(shown: Published, all_of_them: list[Published]) -> list[tuple[str, str]]:
    holders = [one.holder for one in all_of_them if one.digest == shown.digest]
    text = "too long to be told, or of a newer version"
    if shown.policy is not None:
        text = shown.policy.model_dump_json(exclude_unset=True)
    return [
        ("policy", shown.digest),
        ("level", shown.level),
        ("mode", shown.mode),
        ("workers", ", ".join(holders)),
        ("queues", ", ".join(shown.queues)),
        ("text", text),
        ("containers", ", ".join(shown.containers)),
    ]


def _given(shown: Policy) -> dict[str, Any]:
    return shown.model_dump(mode="json", exclude_unset=True)


def _read(file: str) -> Policy:
    from jaas_submit.policy.document import parse_policy

    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{file}: is no UTF-8 text") from None
    return parse_policy(text, file)

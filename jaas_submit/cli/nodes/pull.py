"""`jaas pull`: an image is brought to the nodes ahead of the jobs that need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import Target, output_options
from jaas_submit.cli.follow_batch import MAP_CODES, BatchProgress, conclude, interrupted, results_of
from jaas_submit.cli.option_values import registry_of

if TYPE_CHECKING:
    from jaas_submit.model.job_spec import JobSpec
    from jaas_submit.model.result import JobResult

__all__ = ["pull"]

_INIT: Final = ("/sbin/docker-init", "--version")
"""A program that each container with ``init`` has, whatever is in its image. Source: moby, daemon/oci_linux.go."""

_HEADERS: Final = ("NODE", "STATE", "IMAGE", "AFTER", "WHY")


@click.command(epilog=MAP_CODES)
@click.argument("image")
@click.option("-c", "--constraint", multiple=True, metavar="KEY==VALUE", help="Only such nodes; may be repeated.")
@click.option("-a", "--registry", metavar="HOST", help="Registry whose credentials the worker uses to pull.")
@click.option("-t", "--timeout", metavar="TIME", default="30m", help="Longest time for each node; 30m if not given.")
@output_options
@click.pass_obj
def pull(
    target: Target,
    image: str,
    constraint: tuple[str, ...],
    registry: str | None,
    timeout: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Bring an image to each node that is up now, and say for each what came.

    A job on each node has the swarm pull it, with the credentials of the workers; its container ends at once.

    \b
      jaas pull registry.example/render:3 -c node.labels.gpu==yes
    """
    progress = BatchProgress(quiet)
    spec = _spec(image, constraint, registry, timeout, progress)
    with target.client() as client:
        batch = client.map(spec, per_node=True, name=f"pull {image}"[:200])
        progress.say(f"batch {batch.id}")
        try:
            results = {result.job_id: result for result in results_of(client, batch, progress)}
        except KeyboardInterrupt:
            return interrupted([batch], progress)
        from jaas_submit.client.maps.per_node import results_by_node

        by_node = results_by_node(batch.records(), results)
        if as_json:
            for node, result in by_node.items():
                output.print_json({**_facts(result), "node": node})
        else:
            output.print_table(_HEADERS, [_row(node, result) for node, result in by_node.items()])
        return conclude(batch, progress)


def _spec(
    image: str, constraints: tuple[str, ...], registry: str | None, timeout: str, progress: BatchProgress
) -> JobSpec:
    from jaas_submit.model.job_spec import JobSpec

    fields: dict[str, Any] = {"image": image, "constraints": constraints, "pending_timeout": timeout}
    if registry:
        host, note = registry_of(registry)
        if note:
            progress.warn(note)
        fields["registry"] = host
    return JobSpec(entrypoint=_INIT, init=True, user="65534:65534", name="pull", run_timeout=60, **fields)


def _facts(result: JobResult) -> dict[str, Any]:
    data = result.to_wire()
    return {**{name: data[name] for name in ("job_id", "state", "cause", "reason")}, "image": _image(result)}


def _image(result: JobResult) -> str:
    last = result.attempts[-1] if result.attempts else None
    return (last.image if last else "") or result.image or ""


def _row(node: str, result: JobResult) -> tuple[str, ...]:
    waited = output.duration((result.started_at - result.queued_at).total_seconds()) if result.started_at else ""
    why = "" if result.ok else output.one_line(result.reason or result.cause or "")
    return node, result.state.lower(), _image(result), waited, why

"""`jaas map`: one job for each of many inputs."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from jaas_submit.cli.common import Target, output_options, say_why_not_taken
from jaas_submit.cli.docker_flags import DockerCommand
from jaas_submit.cli.follow_batch import MAP_CODES, BatchProgress, follow, interrupted, printing_output
from jaas_submit.cli.job_options import job_options, job_request_of
from jaas_submit.errors import LedgerUnavailable, SpecError

if TYPE_CHECKING:
    from jaas_submit.batch_model.batch_file import BatchFile
    from jaas_submit.batch_model.input_keys import KeyOf
    from jaas_submit.client.batch import Batch
    from jaas_submit.client.client import Client
    from jaas_submit.model.job_spec import JobSpec

__all__ = ["map_"]


@click.command("map", cls=DockerCommand, context_settings={"allow_interspersed_args": False}, epilog=MAP_CODES)
@click.option(
    "--inputs",
    metavar="FILE|-",
    help="One job for each: lines of text, or JSON lines (.jsonl), CSV (.csv), JSON (.json).",
)
@click.option(
    "--format", "kind", type=click.Choice(["lines", "jsonl", "csv", "json"]), help="If the name does not tell."
)
@click.option("--file", "batch_file", metavar="FILE", help="Batch file (YAML or JSON) instead of all this.")
@click.option("--per-node", is_flag=True, help="One job on each node that is up now, in place of inputs.")
@click.option("--as-file/--no-as-file", default=None, help="Each input as the file that JAAS_INPUT names.")
@click.option("--max-parallel", type=click.IntRange(1), help="At most this many of the jobs at once.")
@click.option(
    "--min-success",
    type=click.FloatRange(0, 1),
    help="Part of the jobs that must succeed; the batch stops when it cannot be reached. Else: all, without a stop.",
)
@click.option("--max-failures", metavar="N|N%", help="How many jobs may fail; one more stops the batch.")
@click.option(
    "--speculate",
    type=click.FloatRange(1, min_open=True),
    metavar="FACTOR",
    help="Start a job that has run so many times as long as half of the others a second time; needs --idempotent.",
)
@click.option("--key", help="Submitting again with the same key submits only inputs that have no job yet.")
@click.option("--key-of", metavar="NAME", help="Field of the inputs that they are known by; else all of an input is.")
@click.option("--again", is_flag=True, help="With --key: submit what did not succeed again, also after a cancel.")
@click.option("--reduce-image", metavar="IMAGE", help="A job of this image gets all outputs, if the quorum is met.")
@click.option("--reduce-command", metavar="TEXT", help="Its entry point and arguments, split as a shell does.")
@click.option("--fan-in", type=click.IntRange(2), help="Outputs that one reduce job takes; 256 if not given.")
@click.option("--logs", "show_logs", is_flag=True, help="Print what the jobs print on stderr, with the input's number.")
@click.option("--detach/--no-detach", default=False, help="Print the batch's id and do not wait.")
@job_options
@output_options
@click.pass_obj
def map_(
    target: Target,
    /,
    words: tuple[str, ...],
    inputs: str | None,
    kind: str | None,
    batch_file: str | None,
    per_node: bool,
    show_logs: bool,
    key_of: str | None,
    again: bool,
    detach: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Run one job for each input, or on each node; print the results as JSON lines while they arrive.

    {item}, {item.name} and {index} in command and environment are replaced. If they name no item, each job finds its
    input in the file that JAAS_INPUT names.

    \b
      jaas map --inputs urls.txt --network demo -e url={item} --output json href-counter
      jaas map --inputs staff.csv --image alpine -- echo {item.name}
      seq 100 | jaas map --inputs - --max-parallel 10 alpine -- sh -c 'echo $(({item} * 2))'
      jaas map --per-node -c node.role==worker --output text alpine -- df -h /

    On a terminal, Ctrl-C asks whether to leave or to cancel the batch; elsewhere it leaves the batch.
    """
    progress = BatchProgress(quiet)
    if per_node and (clash := _clash_with_nodes(inputs, batch_file, options)):
        raise click.UsageError(f"{clash}: cannot go with --per-node, whose inputs are the nodes")
    plan = _plan(words, options, inputs, kind, batch_file, per_node, progress)
    if (key_of or again) and not plan.file.key:
        raise click.UsageError(f"{'--key-of' if key_of else '--again'}: needs --key, by which the batch is found again")
    plan.key_of, plan.again = _field_of(key_of), again
    with target.client() as client:
        progress.say(f"batch {plan.batch_id(client)}")
        batch, levels = _submit(client, plan, progress)
        if not quiet:
            with suppress(LedgerUnavailable):  # the jobs are enqueued; that alone is what counts
                say_why_not_taken(client, client.queue, progress)
        if detach:
            click.echo(batch.id)
            return 0
        batches = [batch, *levels]
        try:
            with printing_output(client, batches, progress) if show_logs else nullcontext():
                return follow(client, batches, progress, as_json=as_json)
        except KeyboardInterrupt:
            return interrupted(batches, progress)


def _clash_with_nodes(inputs: str | None, batch_file: str | None, options: Mapping[str, Any]) -> str:
    given = {"--inputs": inputs, "--file": batch_file}
    given |= {f"--{name.replace('_', '-')}": options[name] for name in ("reduce_image", "speculate")}
    return next((name for name, value in given.items() if value), "")


def _check_max_failures(text: str | None) -> None:
    """Raise UsageError for a text that is no limit."""
    from jaas_submit.batch_model.failure_limit import max_failures_text

    try:
        max_failures_text(text)
    except SpecError as error:
        raise click.UsageError(f"--{str(error).replace('_', '-', 1)}") from None


class _Plan:
    """What `jaas map` is to submit."""

    def __init__(self, file: BatchFile, spec: JobSpec, reduce: JobSpec | None, inputs: Iterator[Any] | None) -> None:
        self.file = file
        self.spec = spec
        self.reduce = reduce
        self.per_node = inputs is None
        rest = iter(inputs or ())
        # The first one is read now: a file that cannot be opened must not leave a batch behind.
        first = list(itertools.islice(rest, 1))
        self.inputs = itertools.chain(first, rest)
        self.key_of: KeyOf | None = None
        self.again = False
        # A random key, so that the batch's id is known before the first job is submitted.
        self.key = file.key or f"map-{uuid.uuid4()}"

    def batch_id(self, client: Client) -> str:
        from jaas_submit.model.ids import batch_id_of

        return batch_id_of(self.key, client.ledger.prefix)


def _plan(
    words: tuple[str, ...],
    options: dict[str, Any],
    inputs: str | None,
    kind: str | None,
    batch_file: str | None,
    per_node: bool,
    progress: BatchProgress,
) -> _Plan:
    from jaas_submit.batch_model.batch_file import BatchFile
    from jaas_submit.cli.input_files import read_batch_file, read_inputs
    from jaas_submit.model.job_spec import JobSpec

    names = ("as_file", "max_parallel", "min_success", "max_failures", "speculate", "key", "fan_in")
    own = {name: options.pop(name) for name in names}
    _check_max_failures(own["max_failures"])
    reduce_image, reduce_command = options.pop("reduce_image"), options.pop("reduce_command")
    given = {name: value for name, value in own.items() if value is not None}
    if options["input"]:
        raise click.UsageError("--input is for one job; give --inputs FILE")
    if batch_file:
        if words or options["image"] or reduce_image:
            raise click.UsageError("--file describes the jobs already; leave out the image and the command")
        context = click.get_current_context()
        for name in ("reduce_command", *options):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                option = next(p.opts[0] for p in context.command.params if p.name == name)
                raise click.UsageError(f"{option}: with --file, the file describes the jobs; leave this option out")
        read = read_batch_file(batch_file)
        file = BatchFile.model_validate({**read.file.model_dump(), **given})
        source = read_inputs(inputs, kind) if inputs else read.inputs()
        return _Plan(file, read.spec, read.reduce, source)
    if not (inputs or per_node):
        raise click.UsageError(
            "--inputs FILE (or - for standard input) is missing; or give --file BATCHFILE or --per-node"
        )
    request = job_request_of(words, options)
    for note in request.notes:
        progress.warn(note)
    reduce = None
    if reduce_image:
        fields: dict[str, Any] = {
            "image": reduce_image,
            "output": "json" if request.spec.output == "none" else request.spec.output,
        }
        if reduce_command:
            import shlex

            fields["entrypoint"] = shlex.split(reduce_command)
        reduce = JobSpec.parse({**fields, "networks": request.spec.networks, "name": "reduce"})
    elif reduce_command or own["fan_in"]:
        raise click.UsageError("--reduce-command and --fan-in need --reduce-image")
    nodes_or_inputs = read_inputs(inputs, kind) if inputs else None
    return _Plan(BatchFile(name=request.spec.name or "", **given), request.spec, reduce, nodes_or_inputs)


def _submit(client: Client, plan: _Plan, progress: BatchProgress) -> tuple[Batch, list[Batch]]:
    from jaas_submit.errors import UnknownJob

    file = plan.file
    fields: dict[str, Any] = {
        "name": file.name,
        "max_parallel": file.max_parallel,
        "min_success": file.min_success,
        "max_failures": file.max_failures,
        "key": plan.key,
        "key_of": plan.key_of,
        "again": plan.again,
        "as_file": file.as_file,
        "speculate": file.speculate,
    }
    try:
        if plan.reduce is None:
            maps, levels = client.map(plan.spec, plan.inputs, per_node=plan.per_node, **fields), []
        else:
            made = client.map_reduce(plan.spec, plan.inputs, plan.reduce, fan_in=file.fan_in, **fields)
            maps, levels = made.maps, made.levels
    except BaseException as error:
        # After a bad input, cancel the jobs that were submitted, unless the batch can be completed later.
        batch = client.batch(plan.batch_id(client), lazy=True)
        if isinstance(error, LedgerUnavailable):
            if file.key:
                progress.warn("the same command, with the same key, goes on with what was submitted")
            raise
        try:
            open_ = not batch.status.done
        except UnknownJob:  # nothing had been written
            raise error from None
        if file.key and open_:
            progress.warn(f"batch {batch.id} is not complete; the same command, with the same key, goes on with it")
        elif open_:
            batch.cancel("its submission failed")
            progress.warn(f"batch {batch.id} is not complete and has been cancelled")
        raise
    if maps.existing:
        progress.say(f"{maps.existing:,} of its inputs had a job already")
    if maps.difference:
        progress.warn(maps.difference)
    return maps, levels


def _field_of(name: str | None) -> KeyOf | None:
    def key_of(item: Any) -> str:
        found = item.get(name) if isinstance(item, dict) else None
        if found is None or isinstance(found, dict | list):
            raise click.UsageError(f"--key-of: an input has no field {name!r} with a text or a number")
        return str(found)

    return key_of if name else None

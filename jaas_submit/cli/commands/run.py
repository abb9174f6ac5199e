"""The commands of `jaas` that submit one job and follow it: run, submit, wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import (
    EXIT_CODES,
    EXIT_JAAS,
    EXIT_NO,
    EXIT_TIMEOUT,
    Target,
    for_each,
    job_ids_argument,
    output_options,
    say_why_not_taken,
)
from jaas_submit.cli.docker_flags import DockerCommand
from jaas_submit.cli.follow_job import (
    Terminated,
    exit_code_of,
    follow,
    interrupted,
    live_output,
    sigterm,
    terminated,
)
from jaas_submit.cli.go_flags import GoCommand
from jaas_submit.cli.job_options import JobRequest, job_options, job_request_of
from jaas_submit.cli.live_output import OutputPrinter
from jaas_submit.errors import LedgerUnavailable, UnknownJob
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import service_name

if TYPE_CHECKING:
    from jaas_submit.client.client import Client
    from jaas_submit.client.job_handle import JobHandle
    from jaas_submit.client.live_output.findings import Output
    from jaas_submit.model.result import JobResult

__all__ = ["go_run", "run", "submit", "wait"]

_key_option = click.option("--key", metavar="KEY", help="Idempotency key: if a job with it is known, take that one.")
_not_before_option = click.option(
    "--not-before",
    metavar="TIME",
    help="Do not start it before that: 2030-01-31T12:00:00Z, or 10m from now. It waits in the ledger.",
)
_dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Check the description and say on which nodes it would fit; enqueue nothing."
)


@click.command(cls=DockerCommand, context_settings={"allow_interspersed_args": False}, epilog=EXIT_CODES)
@job_options
@_key_option
@_not_before_option
@_dry_run_option
@click.option("-l", "--show-logs/--no-show-logs", default=True, help="Print the container's output (default).")
@click.option(
    "-r",
    "--remove/--no-remove",
    default=True,
    help="For compatibility with the Go tool: the service is always removed, output and outcome stay in the ledger.",
)
@click.option("--whole", is_flag=True, help="Exit code 125 unless all of the output was printed.")
@click.option("-b", "--verbose/--no-verbose", default=False, help="Also print the description and the ids.")
@click.option("--detach/--no-detach", default=False, help="Print the job's id and do not wait, as `jaas submit` does.")
@output_options
@click.pass_obj
def run(
    target: Target,
    /,
    words: tuple[str, ...],
    key: str | None,
    not_before: str | None,
    dry_run: bool,
    detach: bool,
    show_logs: bool,
    remove: bool,
    whole: bool,
    verbose: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Run a job: submit it, follow it, print its output, exit with its exit code.

    Options come before the image and the command, as with docker run:

    \b
      jaas run alpine echo hello
      jaas run -e URL=http://... --run-timeout 5m href-counter
      jaas run --image alpine --network demo -- sh -c 'env | sort'

    Docker's flags and the Go tool's are taken; where they differ, the value decides. -t TIME cancels the job if no
    worker takes it within TIME, and sets --pending-timeout and --run-timeout. The output is printed while the container
    runs, its stdout on stdout and its stderr on stderr; with --json the result instead, output included.

    Ctrl-C leaves the job running; a second one cancels it.
    """
    progress = output.Progress(quiet)
    request = _request(words, options, not_before, progress)
    if dry_run:
        return _dry_run(target, request, progress, as_json)
    if detach:
        return _enqueue(target, request, key, progress, as_json)
    if not remove:
        progress.say("the service is removed all the same; `jaas logs` and `jaas status` have its output and outcome")
    with target.client() as client:
        job_id = (handle := client.submit(request.spec, key=key, not_before=not_before)).id
        progress.say(_said_of(handle, client, not_before))
        # Another producer's job with this key must not be cancelled here.
        patience = None if handle.existing else request.queue_timeout
        printer = OutputPrinter(progress) if show_logs and not as_json else None
        if verbose:
            _describe(progress, client, job_id)
        result, code = _to_its_end(client, job_id, progress, patience, printer)
        if result is None:
            return code
        if as_json:
            output.print_json(result.to_wire())
        progress.ended(result, code)
    return printer.code(code, whole=whole) if printer else _code_without_output(code, result, whole)


def _code_without_output(code: int, result: JobResult, whole: bool) -> int:
    return EXIT_JAAS if whole and not code and result.logs.status != "complete" else code


_GO_FLAGS: Final = frozenset(
    {
        *("image", "network", "constraint", "env", "env_file", "mount", "secret", "show_logs", "timeout", "command"),
        *("remove", "registry", "verbose"),
    }
)
"""The flags of the archived Go tool, by their parameters' names."""


def _go_run() -> click.Command:
    """Return `jaas run` with the Go tool's flags alone, for which a word means what it meant there."""
    everything = {param.name: param for param in run.params if param.name}
    common = [param for param in run.params if not param.expose_value or param.name in {"words", "as_json", "quiet"}]
    params = [param for name, param in everything.items() if name in _GO_FLAGS]
    absent = {
        name: () if getattr(param, "multiple", False) else None
        for name, param in everything.items()
        if param.expose_value and param not in params and param not in common
    }

    def call(**given: Any) -> Any:
        return click.get_current_context().invoke(run, **{**absent, **given})

    return GoCommand(
        "go-run",
        callback=call,
        params=[*params, *common],
        help="Run a job with the flags of the archived Go tool alone, each as it was there.\n\n"
        "`jaas run` takes them too, except where docker's flag of the same name is meant.",
        epilog=EXIT_CODES,
        context_settings={"allow_interspersed_args": False},
    )


go_run = _go_run()


@click.command(cls=DockerCommand, context_settings={"allow_interspersed_args": False})
@job_options
@_key_option
@_not_before_option
@_dry_run_option
@click.option("--detach/--no-detach", default=True, hidden=True)
@output_options
@click.pass_obj
def submit(
    target: Target,
    /,
    words: tuple[str, ...],
    key: str | None,
    not_before: str | None,
    dry_run: bool,
    detach: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Enqueue a job and print its id; do not wait for it.

    The options are those of `jaas run`; -t sets --pending-timeout and --run-timeout here.
    """
    if not detach:
        raise click.UsageError("--detach=false: `jaas run` waits for the job, `jaas submit` never does")
    progress = output.Progress(quiet)
    request = _request(words, options, not_before, progress)
    if dry_run:
        return _dry_run(target, request, progress, as_json)
    return _enqueue(target, request, key, progress, as_json)


@click.command(epilog=EXIT_CODES)
@job_ids_argument
@click.option("-t", "--timeout", metavar="TIME", help="Wait at most this long; the jobs go on.")
@output_options
@click.pass_obj
def wait(target: Target, job_ids: tuple[str, ...], timeout: str | None, as_json: bool, quiet: bool) -> int:
    """Wait for jobs; print how each ended; exit with the first exit code that is not 0."""
    seconds = _seconds(timeout)
    begin = time.monotonic()
    codes = []
    with target.client() as client:

        def one(job_id: str) -> None:
            progress = output.Progress(quiet)
            if len(job_ids) > 1:
                progress.say(f"job {job_id}")
            left = None if seconds is None else max(seconds - (time.monotonic() - begin), 0)
            follow(client, job_id, progress, timeout=left)
            result = client.result(job_id)
            codes.append(exit_code_of(result))
            if as_json:
                output.print_json(result.to_wire())
            elif not quiet:
                output.print_lines([result.sentence()])

        unknown = for_each(client, job_ids, one)
    return next((code for code in codes if code), unknown)


def _request(
    words: tuple[str, ...], options: dict[str, Any], not_before: str | None, progress: output.Progress
) -> JobRequest:
    """Return what is asked for; checked first, so that what is bad is reported without Redis."""
    from jaas_submit.batch_model.new_job import start_time

    request = job_request_of(words, options)
    start_time(not_before, request.spec)
    for note in request.notes:
        progress.warn(note)
    return request._replace(not_before=not_before)


def _to_its_end(
    client: Client, job_id: str, progress: output.Progress, queue_timeout: float | None, printer: OutputPrinter | None
) -> tuple[JobResult | None, int]:
    """Follow a job; return how it ended, None if the command is to end before, and the exit code."""
    try:
        with sigterm():
            live = (live_output(client, job_id), _shown(printer)) if printer else None
            given_up = follow(client, job_id, progress, queue_timeout=queue_timeout, live=live)
            result = client.result(job_id)
    except KeyboardInterrupt:
        return None, interrupted(client, job_id, progress)
    except Terminated:
        return None, terminated(job_id, progress)
    return result, EXIT_TIMEOUT if given_up and result.state is JobState.CANCELLED else exit_code_of(result)


def _shown(printer: OutputPrinter) -> Callable[[Output], None]:
    """Return what prints the output; a reader that stops early (`| head`) does not end the command."""

    def show(found: Output) -> None:
        with suppress(BrokenPipeError):
            printer.show(found)

    return show


def _enqueue(target: Target, request: JobRequest, key: str | None, progress: output.Progress, as_json: bool) -> int:
    """Enqueue a job and print its id."""
    with target.client() as client:
        handle = client.submit(request.spec, key=key, not_before=request.not_before)
        if as_json:
            more: dict[str, Any] = {"existing": True} if handle.existing else {}
            more["state"] = _state_of(handle) if handle.existing or request.not_before else JobState.QUEUED
            output.print_json({"id": handle.id, "queue": client.queue, **more})
        else:
            click.echo(handle.id)
            progress.say(f"{_said_of(handle, client, request.not_before)}; `jaas wait {handle.id}` follows it")
        if not (progress.quiet or handle.existing or request.not_before):
            with suppress(LedgerUnavailable):  # the job is enqueued; that alone is what counts
                say_why_not_taken(client, client.queue, progress)
    return 0


def _said_of(handle: JobHandle, client: Client, not_before: str | None) -> str:
    if handle.existing:
        return f"job {handle.id} with this key is there already: {_state_of(handle).lower()}"
    return f"job {handle.id} is in queue {client.queue}{f', not before {not_before}' if not_before else ''}"


def _state_of(handle: JobHandle) -> str:
    try:
        return handle.state
    except UnknownJob:  # its key holds for longer than its record
        return "EXPIRED"


def _dry_run(target: Target, request: JobRequest, progress: output.Progress, as_json: bool) -> int:
    """Say on which nodes the job would fit; exit code 1 where it fits on none of them now, or is not allowed."""
    from jaas_submit.placement.logins import why_no_login
    from jaas_submit.placement.placement import what_is_lacking

    with target.client() as client:
        if (name := request.spec.registry) is not None:
            told = [worker["logins"] for worker in client.ledger.queries.workers() if "logins" in worker]
            if why := why_no_login(name, request.spec.image, told):
                if told:
                    raise click.UsageError(why)
                progress.say(why)
        fits = client.placement(request.spec)
        refusals = client.refusals(request.spec)
        platforms = client.ledger.queries.platforms(request.spec.image)
    good = [fit for fit in fits if fit.fits]
    if as_json:
        nodes = [fit.model_dump(mode="json") for fit in fits]
        output.print_json(
            {
                "fits": bool(good) if fits else None,
                "nodes": nodes,
                "platforms": list(platforms) or None,
                "refusals": list(refusals),
                "spec": output.spec_json(request.spec),
            }
        )
    elif fits:
        output.print_table(output.FIT_HEADERS, [output.fit_row(fit) for fit in fits])
    lacking = what_is_lacking(fits)
    where_to = (
        f"it fits on {len(good)} of {len(fits)} nodes{f' ({lacking})' if lacking else ''}"
        if fits
        else "no worker has told of any node in the last hour"
    )
    on = ", ".join(platforms) or "not known: its registry has told no worker in the last day"
    progress.say(f"the image's platforms: {on}")
    for refusal in refusals:
        progress.warn(f"the workers' policy would refuse it: {refusal}")
    progress.say(f"the description is valid; {where_to}; nothing was enqueued")
    return EXIT_NO if refusals or (fits and not good) else 0


def _describe(progress: output.Progress, client: Client, job_id: str) -> None:
    record = client.ledger.queries.get(job_id)
    progress.say(f"{client!r}, service {service_name(job_id, 1)}")
    for name, value in (output.record_json(record)["spec"] or {}).items():
        progress.say(f"  {name}: {value}")


def _seconds(text: str | None) -> float | None:
    from jaas_submit.model.fields import parse_duration

    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise click.UsageError(f"--timeout: {error}") from None

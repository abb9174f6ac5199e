"""The options of `jaas run` and `jaas submit`, and how they become a job description. Prints and sends nothing."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from jaas_submit.cli.input_files import read_env_file
from jaas_submit.cli.option_values import backoff_of, file_of, registry_of, signal_of, volume_of
from jaas_submit.cli.service_options.flags import CONTAINER_FLAGS, container_fields
from jaas_submit.cli.service_options.values import mount_of, network_of, secret_of, tmpfs_of
from jaas_submit.model.service_options.like import fields_of_service, is_service_name, over

if TYPE_CHECKING:
    from jaas_submit.model.job_spec import JobSpec

__all__ = ["JobRequest", "job_options", "job_request_of", "json_input", "split_label"]

F = TypeVar("F", bound=Callable[..., Any])

# Click shows options in this order.
_OPTIONS: Final = (
    click.option("-i", "--image", help="Image to run; else the first word that is no option names it."),
    click.option("--spec", type=click.File("rb"), metavar="FILE|-", help="JSON job description to start from."),
    click.option(
        "--like",
        metavar="SERVICE|FILE|-",
        help="A service to take image, environment, secrets and so on from; or what `docker service inspect` prints.",
    ),
    click.option(
        "-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Variable; without VALUE as it is set here."
    ),
    click.option(
        "--env-file",
        multiple=True,
        type=click.File("rb"),
        metavar="FILE",
        help="Variables, one a line, as docker has it.",
    ),
    click.option(
        "-n",
        "--network",
        "--net",
        multiple=True,
        metavar="NAME",
        help="Overlay network to join; or name=NAME,alias=ALIAS,driver-opt=KEY=VALUE.",
    ),
    click.option(
        "-c", "--constraint", multiple=True, metavar="KEY==VALUE", help="Placement, such as node.role==worker."
    ),
    click.option(
        "-m",
        "--mount",
        multiple=True,
        metavar="SRC=DEST",
        help="Host folder; or type=volume,source=V,target=/P,readonly.",
    ),
    click.option(
        "-v", "--volume", multiple=True, metavar="SRC:DEST[:ro]", help="Host folder or volume, as docker has it."
    ),
    click.option("--tmpfs", multiple=True, metavar="PATH[:size=SIZE,mode=MODE]", help="Folder in memory."),
    click.option(
        "-s", "--secret", multiple=True, metavar="NAME", help="Swarm secret; or source=NAME,target=FILE,mode=0400."
    ),
    click.option(
        "--env-secret", multiple=True, metavar="NAME=FILE", help="Variable with a value from the workers' secrets."
    ),
    click.option("--scrub/--no-scrub", default=None, help="Replace these values by *** in the output."),
    click.option(
        "-d", "--command", metavar="TEXT", help="Entry point and arguments in one text, split as a shell does."
    ),
    click.option("--entrypoint", metavar="PROGRAM", help="Entry point alone; its arguments are the words at the end."),
    click.option("-t", "--timeout", metavar="TIME", help="Longest time in the queue, pending, and running (each)."),
    click.option("--run-timeout", metavar="TIME", help="Longest run time, such as 90s or 1h30m."),
    click.option("--pending-timeout", metavar="TIME", help="Longest time until the container runs."),
    click.option("--deadline", metavar="TIME", help="Longest time from now to the end of the job, retries included."),
    click.option("--expires", metavar="TIME", help="Longest time from now to the job's start."),
    click.option("--max-attempts", type=click.IntRange(1), help="Attempts that may fail by the job's own fault."),
    click.option("--max-cluster-retries", type=click.IntRange(0), help="Further attempts after faults of the cluster."),
    click.option(
        "--backoff", metavar="TIME|KEY=VALUE,...", help="Pause before the next attempt: 10s; kind=constant,delay=1m."
    ),
    click.option("--retry-policy", metavar="JSON|FILE", help="The whole retry policy, with rules, in JSON."),
    click.option("--idempotent/--no-idempotent", default=None, help="Running it twice at the same time does no harm."),
    click.option("--on-node-lost", metavar="wait|retry|fail", help="What to do when its node is down."),
    click.option("--lost-after", metavar="TIME", help="How long the node must have been down for that."),
    click.option("--limit-memory", "--memory", metavar="SIZE", help="Memory limit, such as 512M."),
    click.option("--limit-cpu", "--cpus", metavar="CORES", help="Limit of cores, such as 0.5."),
    click.option(
        "--reserve-memory", "--memory-reservation", metavar="SIZE", help="Memory that must be free on the node."
    ),
    click.option("--reserve-cpu", metavar="CORES", help="Cores that must be free."),
    click.option("--name", help="For people: shown in lists and in Flower."),
    click.option("--label", multiple=True, metavar="KEY=VALUE", help="For finding the job again; may be repeated."),
    click.option("-u", "--user", metavar="USER[:GROUP]", help="User inside the container."),
    click.option("-w", "--workdir", metavar="PATH", help="Working folder inside the container."),
    click.option("--stop-signal", metavar="SIGNAL", help="Signal that ends it, such as INT."),
    click.option(
        "--stop-grace",
        "--stop-grace-period",
        "--stop-timeout",
        metavar="TIME",
        help="Time between that signal and SIGKILL; 10s if not given.",
    ),
    *CONTAINER_FLAGS,
    click.option("--healthcheck/--no-healthcheck", default=None, help="Let the image's HEALTHCHECK kill the job."),
    click.option("--log-driver", metavar="NAME", help="What keeps its output on the node, such as local or json-file."),
    click.option("--log-opt", multiple=True, metavar="NAME=VALUE", help="Option of the log driver; may be repeated."),
    click.option("--check/--no-check", default=None, help="Whether a failed job is a FAILURE in Celery; default yes."),
    click.option("-a", "--registry", metavar="HOST", help="Registry whose credentials the worker uses to pull."),
    click.option(
        "--input",
        metavar="JSON|@FILE|-",
        help="The job's input (- for stdin): the file that JAAS_INPUT names holds it.",
    ),
    click.option("--output", metavar="none|text|json", help="What the job returns of its stdout; none if not given."),
    click.option(
        "--file-in",
        multiple=True,
        metavar="[NAME=]PATH",
        help="File for the container, as /run/jaas/files/NAME, or at NAME if that is an absolute path.",
    ),
    click.option(
        "--file-out",
        multiple=True,
        metavar="PATTERN",
        help="File to take out at the end, such as '/out/*.pdf'; `jaas download` fetches it.",
    ),
    click.option(
        "--require-file-out/--no-require-file-out", default=None, help="Fail the job if any of these is missing."
    ),
    # docker's, which change nothing: a service is always removed, and its process has no standard input. The short -t
    # is a habit, and a program that asks on a terminal would wait there for ever.
    click.option("--rm", is_flag=True, hidden=True),
    click.option("--interactive/--no-interactive", default=False, hidden=True),
    click.option("--short-tty/--no-short-tty", default=False, hidden=True),
)

_NO_STDIN: Final = "`--input -` hands data over, in the file that JAAS_INPUT names"

_PLAIN_FIELDS: Final = (
    *("image", "name", "user", "workdir", "stop_signal", "stop_grace", "healthcheck", "check"),
    *("deadline", "expires", "idempotent", "on_node_lost", "lost_after", "output", "log_driver", "scrub"),
)
"""Options whose name and value are those of the field."""


class JobRequest(NamedTuple):
    """What the command line asks for."""

    spec: JobSpec
    queue_timeout: float | None
    """Seconds after which a job that no worker has taken is given up (-t)."""
    notes: tuple[str, ...]
    """What to tell the user."""
    not_before: str | None = None
    """When the job may start; None means at once."""


def job_options(command: F) -> F:
    """Add the options and the words that describe a job to a command."""
    command = click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[IMAGE] [CMD [ARG]...]")(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def job_request_of(
    words: Sequence[str], options: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> JobRequest:
    """Return the job that options and words describe.

    Args:
        words: what follows the options: the image, unless an option or --spec names it, then command and arguments.
        options: values by name, as ``job_options`` defines them.
        environ: where ``-e NAME`` takes its value from.

    Raises:
        click.UsageError: an option cannot be read.
        SpecError: a field of the description is wrong.
    """
    from jaas_submit.model.job_spec import JobSpec

    queue_timeout = _timeout(options["timeout"])
    service, inspected = _like(options["like"])
    fields = {**service, **_base(options["spec"])}
    fields |= _given(**{name: options[name] for name in _PLAIN_FIELDS})
    rest = list(words)
    if "image" not in fields and not (inspected or fields.get("like_service")):
        if not rest:
            raise click.UsageError("no image given: write it as first word, or as --image IMAGE")
        fields["image"] = rest.pop(0)
        if rest[:1] == ["--"]:
            del rest[0]
    if rest:
        fields["command"] = rest
    if entrypoint := _entrypoint(options["command"], options["entrypoint"]):
        fields["entrypoint"] = entrypoint
    _merge(fields, "env", dict(_environment(options["env_file"], options["env"], environ)))
    for name, option in (("env_secrets", "env_secret"), ("labels", "label"), ("log_options", "log_opt")):
        _merge(fields, name, dict(map(split_label, options[option])))
    _extend(fields, "constraints", options["constraint"])
    _merge(fields, "files", dict(map(file_of, options["file_in"])))
    _extend(fields, "outputs", options["file_out"])
    fields |= _given(require_outputs=options["require_file_out"])
    _add_container(fields, options, environ)
    if options["retry_policy"]:
        fields["retry"] = _retry_policy(options["retry_policy"])
    _merge(fields, "retry", _retry_fields(options))
    fields |= _given(**{name: options[name] or options["timeout"] for name in ("run_timeout", "pending_timeout")})
    if options["input"]:
        fields["input"] = json_input(options["input"])
    if options["stop_signal"]:
        fields["stop_signal"] = signal_of(options["stop_signal"])
    notes = list(_terminal_notes(options["interactive"], options["short_tty"]))
    if options["registry"]:
        registry, note = registry_of(options["registry"])
        notes += [note] if note else []
        if registry:
            fields["registry"] = registry
    spec = JobSpec.parse(over(inspected, fields) if inspected else fields)
    return JobRequest(spec, queue_timeout, tuple(notes))


def _add_container(fields: dict[str, Any], options: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    _extend(fields, "networks", [network_of(text) for text in options["network"]])
    mounts = [*map(mount_of, options["mount"]), *map(volume_of, options["volume"])]
    _extend(fields, "mounts", [*mounts, *map(tmpfs_of, options["tmpfs"])])
    _extend(fields, "secrets", [secret_of(text) for text in options["secret"]])
    for kind, short in (("limits", "limit"), ("reservations", "reserve")):
        _merge(fields, kind, _given(memory=options[f"{short}_memory"], cpus=options[f"{short}_cpu"]))
    plain, lists, maps = container_fields(options, environ)
    fields |= plain
    for name, values in lists.items():
        _extend(fields, name, values)
    for name, pairs in maps.items():
        _merge(fields, name, pairs)


def _retry_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    backoff = backoff_of(options["backoff"]) if options["backoff"] else None
    return _given(
        max_attempts=options["max_attempts"], max_cluster_retries=options["max_cluster_retries"], backoff=backoff
    )


def _terminal_notes(interactive: bool, tty: bool) -> Iterator[str]:
    if interactive and tty:
        yield f"-it: a job's process has no terminal (--tty gives it one) and an empty standard input; {_NO_STDIN}"
    elif interactive:
        yield f"-i: a job's process has an empty standard input; {_NO_STDIN}"
    elif tty:
        yield "-t: a job's process has no terminal (--tty gives it one); a time limit is written -t 60s"


def _timeout(text: str | None) -> float | None:
    from jaas_submit.model.fields import parse_duration

    try:
        return parse_duration(text) if text else None
    except ValueError as error:
        raise click.UsageError(f"--timeout: {text[:40]!r}: {error}" if text else str(error)) from None


def _base(file: IO[bytes] | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        data = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--spec: {file.name} is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise click.UsageError(f'--spec: {file.name} must hold a JSON object such as {{"image": "..."}}')
    return data


def _like(text: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the field that names a service; or what a file says of one, where a path or - is given."""
    if text is None:
        return {}, {}
    if text != "-" and "/" not in text and not text.endswith(".json"):
        if not is_service_name(text):
            raise click.UsageError(f"--like: {text[:40]!r} is no name of a service; a file is written ./FILE")
        return {"like_service": text}, {}
    try:
        with click.open_file(text, "rb") as file:
            return {}, fields_of_service(file.read())
    except OSError as error:
        raise click.UsageError(f"--like: {text}: {error.strerror}") from None


def json_input(text: str) -> Any:
    """Return the value of --input: JSON, or @FILE with JSON."""
    try:
        if text in {"-", "@-"}:
            return _json_or_text(sys.stdin.buffer.read())
        if not text.startswith("@"):
            return json.loads(text)
        with open(text[1:], "rb") as file:
            return json.loads(file.read())
    except OSError as error:
        raise click.UsageError(f"--input: {text[1:]}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError("--input -: standard input is no UTF-8 text; base64 can carry any bytes") from None
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--input: is not valid JSON ({error}); a text needs quotes of its own") from None


def _json_or_text(data: bytes) -> Any:
    """Return the JSON value on standard input, or all of it as a text if it is no JSON: what a pipe carries."""
    text = data.decode()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _retry_policy(text: str) -> dict[str, Any]:
    """Return the policy that a JSON object holds, or a file with one."""
    where = "--retry-policy"
    try:
        if not text.lstrip().startswith("{"):
            where = f"--retry-policy: {text}"
            with open(text, encoding="utf-8") as file:
                text = file.read()
        policy = json.loads(text)
    except OSError as error:
        raise click.UsageError(f"{where}: {error.strerror}; give a JSON object, or a file that holds one") from None
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{where} is not valid JSON: {error}") from None
    if not isinstance(policy, dict):
        raise click.UsageError(f'{where} must hold a JSON object such as {{"max_attempts": 3}}')
    return policy


def _given(**options: Any) -> dict[str, Any]:
    """Return what the user has given."""
    return {name: value for name, value in options.items() if value is not None}


def _merge(fields: dict[str, Any], name: str, more: Mapping[str, Any]) -> None:
    """Let ``more`` replace entries of an object; the validation refuses other values."""
    old = fields.get(name, {})
    if not more:
        return
    if isinstance(old, list) and name == "env":  # may also be a list of NAME=value; the last one of a name counts
        fields[name] = [*old, *(f"{key}={value}" for key, value in more.items())]
    elif isinstance(old, dict):
        fields[name] = {**old, **more}
    elif name == "healthcheck" and isinstance(old, bool):  # only what is named changes the image's own
        fields[name] = dict(more)


def _extend(fields: dict[str, Any], name: str, more: Sequence[Any]) -> None:
    """Add ``more`` to a list; the validation refuses other values."""
    old = fields.get(name, [])
    if more and isinstance(old, list):
        fields[name] = [*old, *more]


def _entrypoint(command: str | None, entrypoint: str | None) -> list[str] | None:
    if command and entrypoint:
        raise click.UsageError("--command and --entrypoint both set the entry point: give one of them")
    if entrypoint:
        return [entrypoint]
    try:
        return shlex.split(command) if command else None
    except ValueError as error:
        raise click.UsageError(f"--command: cannot be split into words ({error}): check its quotes") from None


def _environment(
    files: Sequence[IO[bytes]], pairs: Sequence[str], environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield variables, the files' first, so that those of the command line win."""
    for file in files:
        yield from read_env_file(file, environ)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if equals:
            yield name, value
        elif name in environ:
            yield name, environ[name]


def split_label(text: str) -> tuple[str, str]:
    """Return name and value of ``name=value``; a name alone has an empty value."""
    name, _, value = text.partition("=")
    return name, value

"""The options of `jaas run` and `jaas submit`, and how they become a job description. Prints and sends nothing."""

from __future__ import annotations

import base64
import binascii
import csv
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from jaas_submit.cli.input_files import read_env_file

if TYPE_CHECKING:
    from jaas_submit.model.job_spec import JobSpec

__all__ = ["JobRequest", "job_options", "job_request_of", "split_label"]

F = TypeVar("F", bound=Callable[..., Any])

_MOUNT_KEYS: Final = {
    "type": "type",
    "source": "source",
    "src": "source",
    "target": "target",
    "destination": "target",
    "dst": "target",
    "readonly": "read_only",
    "ro": "read_only",
}
_SECRET_KEYS: Final = {key: key for key in ("source", "target", "uid", "gid", "mode")} | {"src": "source"}
_TRUTH: Final = {"": True, "1": True, "true": True, "0": False, "false": False}

# Click shows options in this order.
_OPTIONS: Final = (
    click.option("-i", "--image", help="Image to run; else the first word that is no option names it."),
    click.option("--spec", type=click.File("rb"), metavar="FILE|-", help="JSON job description to start from."),
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
    click.option("-n", "--network", multiple=True, metavar="NAME", help="Overlay network to join; may be repeated."),
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
        "-s", "--secret", multiple=True, metavar="NAME", help="Swarm secret; or source=NAME,target=FILE,mode=0400."
    ),
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
    click.option("--limit-memory", metavar="SIZE", help="Memory limit, such as 512M."),
    click.option("--limit-cpu", metavar="CORES", help="Limit of cores, such as 0.5."),
    click.option("--reserve-memory", metavar="SIZE", help="Memory that must be free on the node."),
    click.option("--reserve-cpu", metavar="CORES", help="Cores that must be free on the node."),
    click.option("--name", help="For people: shown in lists and in Flower."),
    click.option("--label", multiple=True, metavar="KEY=VALUE", help="For finding the job again; may be repeated."),
    click.option("-u", "--user", metavar="USER[:GROUP]", help="User inside the container."),
    click.option("-w", "--workdir", metavar="PATH", help="Working folder inside the container."),
    click.option("--stop-signal", metavar="SIGNAL", help="Signal that ends it, such as SIGINT."),
    click.option("--stop-grace", metavar="TIME", help="Time between that signal and SIGKILL; 10s if not given."),
    click.option("--healthcheck/--no-healthcheck", default=None, help="Let the image's HEALTHCHECK kill the job."),
    click.option("--log-driver", metavar="NAME", help="What keeps its output on the node, such as local or json-file."),
    click.option("--log-opt", multiple=True, metavar="NAME=VALUE", help="Option of the log driver; may be repeated."),
    click.option("--check/--no-check", default=None, help="Whether a failed job is a FAILURE in Celery; default yes."),
    click.option("-a", "--registry", metavar="HOST", help="Registry whose credentials the worker uses to pull."),
    click.option(
        "--input", metavar="JSON|@FILE", help="The job's input: it finds it in the file that JAAS_INPUT names."
    ),
    click.option("--output", metavar="none|text|json", help="What the job returns of its stdout; none if not given."),
)

_PLAIN_FIELDS: Final = (
    *("image", "name", "user", "workdir", "stop_signal", "stop_grace", "healthcheck", "check"),
    *("deadline", "expires", "idempotent", "on_node_lost", "lost_after", "output", "log_driver"),
)
"""Options whose name and value are those of the field."""


class JobRequest(NamedTuple):
    """What the command line asks for."""

    spec: JobSpec
    queue_timeout: float | None
    """Seconds after which a job that no worker has taken is given up (-t)."""
    notes: tuple[str, ...]
    """What to tell the user."""


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
    from jaas_submit.model.fields import parse_duration
    from jaas_submit.model.job_spec import JobSpec

    fields = _base(options["spec"])
    fields |= _given(**{name: options[name] for name in _PLAIN_FIELDS})
    rest = list(words)
    if "image" not in fields:
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
    _merge(fields, "labels", dict(map(split_label, options["label"])))
    _merge(fields, "log_options", dict(map(split_label, options["log_opt"])))
    _extend(fields, "networks", options["network"])
    _extend(fields, "constraints", options["constraint"])
    _extend(fields, "mounts", [_mount(text) for text in options["mount"]])
    _extend(fields, "secrets", [_secret(text) for text in options["secret"]])
    for kind, short in (("limits", "limit"), ("reservations", "reserve")):
        _merge(fields, kind, _given(memory=options[f"{short}_memory"], cpus=options[f"{short}_cpu"]))
    if options["retry_policy"]:
        fields["retry"] = _retry_policy(options["retry_policy"])
    _merge(
        fields,
        "retry",
        _given(
            max_attempts=options["max_attempts"],
            max_cluster_retries=options["max_cluster_retries"],
            backoff=_backoff(options["backoff"]) if options["backoff"] else None,
        ),
    )
    fields |= _given(**{name: options[name] or options["timeout"] for name in ("run_timeout", "pending_timeout")})
    if options["input"]:
        fields["input"] = _input(options["input"])
    notes = []
    if options["registry"]:
        registry, note = _registry(options["registry"])
        notes += [note] if note else []
        if registry:
            fields["registry"] = registry
    spec = JobSpec.parse(fields)
    # The description is valid, so the time can be parsed.
    queue_timeout = parse_duration(options["timeout"]) if options["timeout"] else None
    return JobRequest(spec, queue_timeout, tuple(notes))


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


def _input(text: str) -> Any:
    try:
        if not text.startswith("@"):
            return json.loads(text)
        with open(text[1:], "rb") as file:
            return json.loads(file.read())
    except OSError as error:
        raise click.UsageError(f"--input: {text[1:]}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--input: is not valid JSON ({error}); a text needs quotes of its own") from None


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


_BACKOFF_KEYS: Final = {key: key for key in ("kind", "delay", "factor", "cap", "jitter")}


def _backoff(text: str) -> dict[str, str]:
    return _pairs("--backoff", text, _BACKOFF_KEYS) if "=" in text else {"delay": text}


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


def _pairs(option: str, text: str, keys: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of ``key=value,key=value`` (with CSV's quotes, as docker has it)."""
    fields: dict[str, str] = {}
    for item in next(csv.reader([text])):
        key, _, value = item.partition("=")
        if key not in keys:
            raise click.UsageError(f"{option}: {key[:40]!r} is not known; there are {', '.join(keys)}")
        fields[keys[key]] = value
    return fields


def _mount(text: str) -> dict[str, Any]:
    first, *more = text.split(",")
    if more and first.partition("=")[0] in _MOUNT_KEYS:
        fields: dict[str, Any] = _pairs("--mount", text, _MOUNT_KEYS)
        if "read_only" in fields:
            if fields["read_only"].lower() not in _TRUTH:
                raise click.UsageError(f"--mount: readonly takes true or false, not {fields['read_only']!r}")
            fields["read_only"] = _TRUTH[fields["read_only"].lower()]
        return fields
    source, equals, target = text.partition("=")
    if not equals or "=" in target:
        raise click.UsageError(
            f"--mount: write SRC=DEST such as /data=/data, or type=bind,source=SRC,target=DEST, not {text[:80]!r}"
        )
    return {"source": source, "target": target}


def _secret(text: str) -> dict[str, Any]:
    if "=" not in text:
        return {"source": text}
    fields: dict[str, Any] = _pairs("--secret", text, _SECRET_KEYS)
    if "mode" in fields:
        try:
            fields["mode"] = int(fields["mode"], 8)
        except ValueError:
            raise click.UsageError(f"--secret: mode is octal, such as 0440, not {fields['mode']!r}") from None
    return fields


def _registry(text: str) -> tuple[str | None, str]:
    """Return the registry's host and what to tell the user.

    The Go tool took credentials here, in base64: JSON, or user:password as ~/.docker/config.json has them. They must
    not be sent through Redis, so only the host is kept.
    """
    credentials = _decoded("".join(text.split()))
    if credentials is None:
        return text, ""
    host: object = None
    if credentials.startswith("{"):
        try:
            host = json.loads(credentials).get("serveraddress")
        except ValueError:
            host = None
    registry = host if isinstance(host, str) and host else None
    login = f"docker login {registry}" if registry else "docker login"
    return registry, (
        "--registry: the credentials given are not sent with the job; the workers use their own "
        f"(`{login}` where they run)"
    )


def _decoded(text: str) -> str | None:
    """Decode credentials from base64; None if the text is a host's name."""
    if "." in text or ":" in text or text == "localhost":  # not in base64, but in most host names
        return None
    try:
        alternative = b"-_" if set(text) & set("-_") else None
        plain = base64.b64decode(text + "=" * (-len(text) % 4), alternative, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    is_login = plain.isprintable() and plain.find(":") > 0
    return plain.strip() if plain.lstrip().startswith("{") or is_login else None

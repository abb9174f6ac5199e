"""Files that the commands read: env files, inputs one by one, batch files. An error names the line."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

from jaas_submit.errors import SpecError, how_to_install

if TYPE_CHECKING:
    from jaas_submit.batch_model.batch_file import BatchFile
    from jaas_submit.model.job_spec import JobSpec

__all__ = ["ReadFile", "read_batch_file", "read_env_file", "read_inputs"]

_KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".json": "json"}


def read_env_file(file: IO[bytes], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the variables of an env file, by the rules of `docker run --env-file`.

    Blank lines and those that start with ``#`` are ignored; a value is everything behind the first ``=``, with
    quotes and blanks included; a name alone is taken from the environment, and ignored if it is not set there.

    Args:
        file: UTF-8, with or without a byte order mark.
        environ: where names alone are looked up.

    Raises:
        click.UsageError: a line has no name or a blank in it; the file is no UTF-8.
    """
    where = f"--env-file {file.name}"
    try:
        lines = file.read().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise click.UsageError(f"{where}: is no UTF-8 text") from None
    for number, line in enumerate(lines, 1):
        text = line.removesuffix("\r").lstrip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not name or any(letter.isspace() for letter in name):
            raise click.UsageError(f"{where}, line {number}: {name[:40]!r} is no variable name; write NAME=value")
        if equals:
            yield name, value
        elif name in environ:
            yield name, environ[name]


def read_inputs(name: str, kind: str | None = None) -> Iterator[Any]:
    """Yield the inputs that a file holds.

    Args:
        name: the file's name, or - for standard input.
        kind: lines (of text, blank ones left out), jsonl, csv (with a line of names) or json (a list); None goes by
            the file's name.

    Raises:
        click.UsageError: it cannot be read; the text names the line.
    """
    kind = kind or _KINDS.get(os.path.splitext(name)[1].lower(), "lines")
    try:
        with click.open_file(name, encoding="utf-8-sig") as file:
            if kind == "lines":
                yield from (text for line in file if (text := line.rstrip("\r\n")).strip())
            elif kind == "jsonl":
                yield from _json_lines(name, file)
            elif kind == "csv":
                yield from _csv_rows(name, file)
            else:
                data = json.load(file)
                if not isinstance(data, list):
                    raise click.UsageError(f"{name}: must hold a JSON list; for one value a line use --format jsonl")
                yield from data
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{name}: is no UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{name}: is not valid JSON: {error}") from None


def _json_lines(name: str, file: IO[str]) -> Iterator[Any]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise click.UsageError(f"{name}, line {number}: is not valid JSON: {error}") from None


def _csv_rows(name: str, file: IO[str]) -> Iterator[dict[str, str]]:
    rows = csv.DictReader(file, strict=True)
    try:
        for row in rows:
            if None in row or None in row.values():
                raise click.UsageError(f"{name}, line {rows.line_num}: has not as many values as the first line names")
            yield row
    except csv.Error as error:
        raise click.UsageError(f"{name}, line {rows.line_num}: {error}") from None


@dataclass(frozen=True)
class ReadFile:
    """A batch file that has been read and checked."""

    path: str
    file: BatchFile
    spec: JobSpec
    reduce: JobSpec | None

    def inputs(self) -> Iterator[Any]:
        """Yield the inputs that it holds or names."""
        if self.file.inputs is not None:
            return iter(self.file.inputs)
        if self.file.inputs_file is None:
            raise click.UsageError(f"{self.path}: has neither inputs nor inputs_file; add one, or give --inputs FILE")
        return read_inputs(os.path.join(os.path.dirname(self.path), self.file.inputs_file))


def read_batch_file(path: str) -> ReadFile:
    """Return what a batch file holds.

    Args:
        path: a file in YAML or JSON.

    Raises:
        click.UsageError: it is not valid; the text names line and field.
    """
    from pydantic import ValidationError

    from jaas_submit.batch_model.batch_file import BatchFile
    from jaas_submit.model.job_spec import JobSpec
    from jaas_submit.model.validation import spec_error

    tree, data = _parsed(path)

    @contextmanager
    def checked(*before: str) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            unknown = first["type"] == "extra_forbidden"
            words = (
                f"is no field of a batch file; there are {', '.join(BatchFile.model_fields)}"
                if unknown
                else _words_of(spec_error(error))
            )
            raise _at(path, tree, [*before, *map(str, first["loc"])], words) from None
        except SpecError as error:
            field = error.field.split(".") if error.field else []
            raise _at(path, tree, [*before, *field], _words_of(error)) from None

    with checked():
        file = BatchFile.model_validate(data)
    with checked("job"):
        spec = _beside(path, JobSpec.parse(file.job))
    with checked("reduce"):
        reduce = _beside(path, JobSpec.parse(file.reduce)) if file.reduce is not None else None
    return ReadFile(path, file, spec, reduce)


def _words_of(error: SpecError) -> str:
    """Return what an error says of its field, without the field."""
    return str(error).removeprefix(f"{error.field}: ")


def _beside(path: str, spec: JobSpec) -> JobSpec:
    """Return a description whose files are named from the folder of the batch file, as ``inputs_file`` is."""
    folder = os.path.dirname(path)
    paths = {name: file.path for name, file in spec.files.items() if file.path is not None}
    changes = {name: {**spec.files[name].model_dump(), "path": os.path.join(folder, paths[name])} for name in paths}
    return spec.changed({"files": changes}) if changes else spec


def _parsed(path: str) -> tuple[Any, dict[str, Any]]:
    """Return a batch file as nodes, which know their lines, and as values."""
    try:
        import yaml  # an extra
    except ImportError:
        raise click.UsageError(f"--file: PyYAML is not installed; {how_to_install('cli')}") from None
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        if path.endswith(".json"):
            json.loads(text)  # invalid JSON must not be read as YAML
            text = text.replace("\t", " ")  # YAML allows no tabs, and JSON's texts no unescaped ones
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{path}: is no UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise click.UsageError(f"{path}, line {error.lineno}: {error.msg}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise click.UsageError(f"{path}{where}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(data, dict):
        raise click.UsageError(f"{path}: must hold an object with job and inputs")
    return tree, data


def _at(path: str, tree: Any, field: Sequence[str], words: str) -> click.UsageError:
    """Return an error that names the line of a field, or of the nearest object that contains it."""
    node, line = tree, tree.start_mark.line
    for name in field:
        found = None
        if isinstance(node.value, list):
            for number, entry in enumerate(node.value):
                if isinstance(entry, tuple):
                    if entry[0].value == name:
                        line, found = entry[0].start_mark.line, entry[1]
                elif str(number) == name:
                    line, found = entry.start_mark.line, entry
        if found is None:
            break
        node = found
    return click.UsageError(f"{path}, line {line + 1}: {'.'.join(field)}: {words}")

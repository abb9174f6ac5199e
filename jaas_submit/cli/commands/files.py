"""The command of `jaas` that fetches the files of a job: download."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import EXIT_JAAS, Target, complete_ids, output_options

if TYPE_CHECKING:
    from jaas_submit.model.files.listing import OutputFiles

__all__ = ["download"]


@click.command()
@click.argument("job_id", metavar="ID", shell_complete=complete_ids)
@click.option(
    "--to", metavar="FOLDER", type=click.Path(file_okay=False), default=".", help="Where to; this folder if not given."
)
@click.option("--attempt", type=click.IntRange(1), help="Of which attempt, counted from 1; the last one if not given.")
@click.option("-l", "--list", "only_list", is_flag=True, help="Only say which files there are: size, digest, name.")
@output_options
@click.pass_obj
def download(
    target: Target, job_id: str, to: str, attempt: int | None, only_list: bool, as_json: bool, quiet: bool
) -> int:
    """Fetch the files that a job handed out (--file-out), and print their paths.

    /out/a.pdf of the container becomes FOLDER/out/a.pdf. Exit code 125 means that some are missing; a line on stderr
    says why.
    """
    from jaas_submit.client.files.download import download as copied
    from jaas_submit.client.files.download import output_files

    progress = output.Progress(quiet)
    with target.client() as client:
        job_id = client.ledger.queries.full_id(job_id)
        number, found = output_files(client.session, job_id, attempt)
        try:
            paths = [] if only_list else [_shown(path) for path in copied(client.session, job_id, to, attempt)]
        except OSError as error:
            raise click.UsageError(f"--to: {error.filename or to}: {error.strerror or error}") from None
    if as_json:
        output.print_json({"job_id": job_id, "attempt": number, **found.model_dump(mode="json")})
    elif only_list:
        _list(found)
    else:
        for path in paths:
            click.echo(path)
    if found.reason:
        progress.warn(f"files {found.status}: {found.reason}")
    return EXIT_JAAS if found.reason else 0


def _shown(path: os.PathLike[str]) -> str:
    return os.fspath(path)


def _list(found: OutputFiles) -> None:
    for file in found.files:
        output.print_lines([f"{file.size:>12}  {file.sha256}  {file.name}"])

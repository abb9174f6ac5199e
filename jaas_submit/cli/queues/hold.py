"""The commands `jaas hold` and `jaas release`: jobs and batches that wait are not started, or are again."""

from __future__ import annotations

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import Target, complete_ids, for_each, output_options

__all__ = ["hold", "release"]


def _command(name: str, text: str, done: str) -> click.Command:
    """Return one of the two commands.

    Args:
        name: what it calls of a handle or batch.
        text: its help.
        done: what it says of each.
    """

    @click.argument("job_ids", nargs=-1, metavar="[ID...]", shell_complete=complete_ids)
    @click.option("--batch", metavar="BATCH", help="A whole batch instead.")
    @click.option("--why", default="", metavar="TEXT", help="The reason, which `jaas audit` shows.")
    @output_options
    @click.pass_obj
    def command(
        target: Target, job_ids: tuple[str, ...], batch: str | None, why: str, as_json: bool, quiet: bool
    ) -> int:
        if bool(job_ids) == (batch is not None):
            raise click.UsageError("give ids, or --batch")

        def tell(one: str, what: str) -> None:
            if as_json:
                output.print_json({"id": one, "held": name == "hold"})
            elif not quiet:
                click.echo(f"{what}{one}: {done}")

        with target.client() as client:
            if batch is not None:
                batch = client.ledger.queries.full_id(batch, "batch")
                getattr(client.batch(batch), name)(why)
                tell(batch, "batch ")
                return 0

            def act(job_id: str) -> None:
                getattr(client.handle(job_id), name)(why)
                tell(job_id, "")

            return for_each(client, job_ids, act)

    return click.command(name, help=text)(command)


hold = _command("hold", "Let no worker start jobs that wait, until `jaas release`. What runs goes on.", "held")
release = _command("release", "Let workers start jobs again that `jaas hold` holds.", "released")

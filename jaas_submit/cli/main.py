"""`jaas`: run, submit, follow and inspect jobs from a shell. Its exit code is the job's.

Imports are in the functions that need them: `jaas --help` and a TAB key must not wait for Celery.
"""

from __future__ import annotations

import os
from typing import NoReturn

import click

from jaas_submit.cli.commands.audit import audit
from jaas_submit.cli.commands.batch import batch
from jaas_submit.cli.commands.files import download
from jaas_submit.cli.commands.job import cancel, explain, list_, replay, rm
from jaas_submit.cli.commands.man import man
from jaas_submit.cli.commands.map import map_
from jaas_submit.cli.commands.operator import completion, doctor, help_, version
from jaas_submit.cli.commands.policy import policy
from jaas_submit.cli.commands.redis_acl import redis_acl
from jaas_submit.cli.commands.run import go_run, run, submit, wait
from jaas_submit.cli.commands.show import logs, schema, status
from jaas_submit.cli.commands.signing import signing
from jaas_submit.cli.commands.simulate import simulate
from jaas_submit.cli.commands.usage import usage
from jaas_submit.cli.common import EXIT_CODES, JaasGroup, Target, target_options, version_option
from jaas_submit.cli.nodes.pull import pull
from jaas_submit.cli.queues.hold import hold, release
from jaas_submit.cli.queues.queue import queue

__all__ = ["cli", "main"]


@click.group(
    cls=JaasGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=EXIT_CODES
)
@version_option
@target_options(environment=True)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run containers as jobs on a Docker swarm, through Redis and Celery.

    `jaas run alpine echo hello` runs a container and gives its output and exit code back. Data is printed on stdout,
    progress on stderr.
    """
    ctx.ensure_object(Target)
    if os.environ.get("NO_COLOR"):
        ctx.color = False


for _command in (
    *(run, submit, wait, status, logs, usage, schema, go_run),
    *(list_, explain, cancel, replay, map_, batch, policy, doctor, completion, help_, version, man, rm, signing, audit),
    *(download, redis_acl, simulate, queue, hold, release, pull),
):
    cli.add_command(_command)


def main() -> NoReturn:
    """Run `jaas`."""
    cli.main(prog_name="jaas")


if __name__ == "__main__":
    main()

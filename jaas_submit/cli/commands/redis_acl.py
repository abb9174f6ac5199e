"""The command `jaas redis-acl`: the ACL users of Redis for the programs of an installation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from jaas_submit.access.acl import password_rule, redis_version, rules_of
from jaas_submit.access.roles import Installation, Role, grants_of
from jaas_submit.cli.common import Target, target_options
from jaas_submit.errors import SpecError

__all__ = ["redis_acl"]

_MOST_OF_PASSWORD: Final = 4096

_PROGRAMS: Final = (
    *(Role.WORKER, Role.AGENT, Role.PRODUCER, Role.OPERATOR, Role.VIEWER, Role.CELERY, Role.FLOWER),
    *(Role.HEALTH, Role.ADMIN),
)
_AT_SERVERS: Final = (*_PROGRAMS, Role.REPLICA, Role.SENTINEL)
_AT_SENTINELS: Final = (Role.FINDER, Role.HEALTH, Role.ADMIN)


_NOBODY: Final = "user default off resetpass allkeys allchannels +@all"
"""Nobody can be this user. It keeps all rights, because servers replay their append-only file as this user: without
them they leave out all transactions and scripts at a restart. Source: redis/redis issue 14541, valkey-io/valkey issue
3983; seen with Redis 7.0."""


def _pairs(_ctx: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[Role, list[str]]:
    """Read ROLE=TEXT, of which a role may have several."""
    found: dict[Role, list[str]] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals or not text or name not in set(Role):
            # Not what was given: it may be a password.
            raise click.BadParameter(f"write ROLE=..., with one of the roles {', '.join(Role)}", param=option)
        found.setdefault(Role(name), []).append(text)
    return found


@click.command("redis-acl")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([str(role) for role in Role]),
    help="Only this user; may be repeated.",
)
@click.option("--redis", "version", default="7.2", metavar="VERSION", help="6.2, 7.0, 7.2 (default) or newer.")
@click.option(
    "--password-file",
    multiple=True,
    callback=_pairs,
    metavar="ROLE=FILE",
    help="A file with the role's password; of several each holds.",
)
@click.option("--hash", "digests", multiple=True, callback=_pairs, metavar="ROLE=SHA256", help="Its digest instead.")
@click.option("--also-queue", multiple=True, help="Further queue: of tasks that follow jobs, or of other workers.")
@click.option("--db", default=0, type=click.IntRange(0, 1_000_000), help="Number of the Redis database.")
@click.option("--sentinel", is_flag=True, help="Add users for replicas and Sentinels at the servers.")
@click.option("--at-sentinels", is_flag=True, help="The users of the Sentinels themselves instead.")
@click.option("--commands", is_flag=True, help="ACL SETUSER commands for redis-cli instead of an ACL file.")
@target_options(url=False)
@click.pass_obj
def redis_acl(
    target: Target,
    roles: Sequence[str],
    version: str,
    password_file: Mapping[Role, Sequence[str]],
    digests: Mapping[Role, Sequence[str]],
    also_queue: Sequence[str],
    db: int,
    sentinel: bool,
    at_sentinels: bool,
    commands: bool,
) -> None:
    """Print the ACL users of Redis for this installation, one for each kind of program.

    Each may do what its program needs and nothing else; SECURITY.md has the table. The output is an ACL file
    (`redis-server --aclfile FILE`) without a usable default user. It has the passwords' digests only.
    """
    release = redis_version(version)
    usual = _AT_SENTINELS if at_sentinels else _AT_SERVERS if sentinel else _PROGRAMS
    chosen = [Role(name) for name in dict.fromkeys(roles)] or list(usual)
    from jaas_submit.connection.names import chosen_prefix, chosen_queue

    of = Installation(chosen_prefix(target.prefix), [chosen_queue(one) for one in (target.queue, *also_queue)], db)
    without: list[str] = []
    lines = [] if commands else [_NOBODY]
    for role in chosen:
        logins = [
            *(password_rule(digest) for digest in digests.get(role, ())),
            *(password_rule(password=_read(file)) for file in password_file.get(role, ())),
        ]
        if role is Role.HEALTH:
            logins = ["nopass"]
        elif not logins:
            logins = [password_rule()]
            without.append(role)
        words = ["on", *dict.fromkeys(logins), *rules_of(grants_of(role, of), release)]
        begin = ("ACL SETUSER", f"{of.prefix}-{role}", "reset") if commands else ("user", f"{of.prefix}-{role}")
        lines.append(" ".join([*begin, *words]))
    click.echo("\n".join(lines))
    if without:
        note = "nobody can log in as them until they have a password (--password-file ROLE=FILE, or --hash)"
        click.echo(f"jaas: {', '.join(without)}: {note}", err=True)


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            text = file.read(_MOST_OF_PASSWORD + 1)
    except OSError as error:
        raise SpecError(f"--password-file: {name} cannot be read ({error.strerror})", field="password") from None
    if len(text) > _MOST_OF_PASSWORD:
        raise SpecError(f"--password-file: {name} has over {_MOST_OF_PASSWORD:,} bytes; that is no password")
    return text

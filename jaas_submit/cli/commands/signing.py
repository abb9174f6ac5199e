"""The commands of `jaas` about keys that sign descriptions."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

import click

from jaas_submit.errors import SpecError

__all__ = ["signing"]


@click.group()
def signing() -> None:
    """Keys that sign the descriptions of jobs, so that workers can tell producers apart."""


@signing.command()
@click.argument("kid", metavar="KEY_ID")
@click.option("--producer", help="Who signs with it; by default the key's id.")
@click.option("--tenant", default="", help="The tenant that the producer belongs to.")
@click.option(
    "--algorithm",
    type=click.Choice(["EdDSA", "HS256"], case_sensitive=False),
    default="EdDSA",
    show_default=True,
    help="EdDSA: workers get the public key alone. HS256: one secret for producer and workers.",
)
@click.option("--out", type=click.Path(dir_okay=False), help="File for the producer's key; by default KEY_ID.key.")
def new(kid: str, producer: str | None, tenant: str, algorithm: str, out: str | None) -> int:
    """Make a key: write the producer's part to a file, and print the table for the workers' JAAS_VERIFY_KEYS."""
    path = Path(out or f"{kid}.key")
    if not kid.isprintable() or not kid or (out is None and "/" in kid):
        raise SpecError("KEY_ID: must be a name, such as team-2026; with a / in it, give --out", field="KEY_ID")
    private, public = _pair() if algorithm == "EdDSA" else _secret()
    try:
        # Never over another key, and for nobody else's eyes.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(private)
    except OSError as error:
        raise SpecError(f"--out: {error}", field="out") from None
    fields = {"algorithm": algorithm, "producer": producer or kid, **({"tenant": tenant} if tenant else {})}
    click.echo(f"[{json.dumps(kid)}]")
    for name, text in {**fields, "key": public}.items():
        click.echo(f"{name} = {json.dumps(text)}")
    click.echo(f"JAAS_SIGNING_KEY_FILE={path} JAAS_SIGNING_KID={kid} JAAS_SIGNING_PRODUCER={producer or kid}", err=True)
    return 0


def _pair() -> tuple[str, str]:
    from jaas_submit.signing.keys import new_pair

    return new_pair()


def _secret() -> tuple[str, str]:
    made = secrets.token_urlsafe(32)
    return made + "\n", made

"""The check of `jaas doctor` whether Flower asks for a password."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Final

from jaas_submit.doctor.check import Check, Verdict

__all__ = ["flower_checks"]

FLOWER: Final = "http://127.0.0.1:5555"
"""Where Flower is usually."""
_FLOWER_TIMEOUT_S: Final = 5.0


def flower_checks(url: str | None, usual: str = FLOWER) -> list[Check]:
    """Return whether Flower asks for a password.

    Args:
        url: its address; None checks ``usual``, and returns nothing if nothing answers there.
        usual: where it is if nobody says.
    """
    where = (url or usual).rstrip("/")
    if not where.startswith(("http://", "https://")):
        return [Check("flower", Verdict.FAIL, f"{where} is no URL", "set JAAS_FLOWER_URL to http://HOST:PORT")]
    try:
        # Flower's own page first: another program on that port is not checked.
        with urllib.request.urlopen(f"{where}/api/workers", timeout=_FLOWER_TIMEOUT_S) as answer:  # noqa: S310 (http)
            is_flower = answer.headers.get("Content-Type", "").startswith("application/json")
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            return [Check("flower", Verdict.OK, f"{where} asks for a password")]
        fix = "see Flower's log, and whether JAAS_FLOWER_URL is its own address"
        return [Check("flower", Verdict.WARN, f"{where} answers with status {error.code}", fix)] if url else []
    except OSError as error:
        fix = "see `docker service ps jaas_flower`, or correct JAAS_FLOWER_URL"
        return [Check("flower", Verdict.WARN, f"{where} does not answer ({error})", fix)] if url else []
    if not is_flower:
        return []
    fix = "start it with docker/flowerconfig.py, or with --basic_auth: anybody can cancel and submit jobs"
    return [Check("flower", Verdict.FAIL, f"{where} is open to everybody", fix)]

"""Colours of `jaas` on a terminal, through the whole command line."""

from __future__ import annotations

import pytest

from tests.unit.cli.test_output import NO_RICH, in_terminal

DOCTOR = """
import sys
sys.argv = ['jaas', 'doctor', '--no-engine']
from jaas_submit.cli.main import main
main()
"""


@pytest.mark.parametrize("prelude", ["", NO_RICH], ids=["with rich", "without rich"])
def test_no_color_is_honoured(redis_url: str, prefix: str, prelude: str) -> None:
    settings = {"JAAS_REDIS_URL": redis_url, "JAAS_PREFIX": prefix, "JAAS_QUEUE": prefix}
    assert "\x1b[32mok" in in_terminal(prelude + DOCTOR, **settings)
    assert "\x1b[3" not in in_terminal(prelude + DOCTOR, NO_COLOR="1", **settings)

"""`jaas signing new`: what it writes is what a producer signs with, and what it prints is what workers verify with."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from jaas_submit.cli.main import cli
from jaas_submit.signing import Gate, Producer, Signer, read_signing_key, read_verify_keys
from jaas_submit.signing.tokens import claims_in


@pytest.mark.parametrize("algorithm", ["EdDSA", "HS256"])
def test_a_new_key_signs_and_verifies(tmp_path: Path, algorithm: str) -> None:
    out, keys = tmp_path / "k", tmp_path / "keys.toml"
    words = ["signing", "new", "team/1", "--producer", "team", "--tenant", "blue", "--algorithm", algorithm]
    done = CliRunner().invoke(cli, [*words, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.stat().st_mode & 0o777 == 0o600
    keys.write_text(done.stdout)
    token = Signer(read_signing_key(out.read_text()), "team/1", "jaas", "team").sign('{"image":"a"}', "j")
    gate = Gate("jaas", read_verify_keys(str(keys)))
    assert gate.check("j", token, claims_in(token).issued_at).producer == Producer("team", "blue")
    assert ("PRIVATE" in done.output) is False
    assert "JAAS_SIGNING_KID=team/1" in done.stderr


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "k"
    out.write_text("mine")
    done = CliRunner().invoke(cli, ["signing", "new", "k", "--out", str(out)])
    assert done.exit_code == 2
    assert out.read_text() == "mine"

"""Which process of its machine an agent is, and whether that process has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaas_worker.agent.process_identity import ProcessIdentity

OWN = ProcessIdentity.own()


def test_a_text_of_it_says_the_same() -> None:
    assert ProcessIdentity.parse(str(OWN)) == OWN
    assert all(OWN)


@pytest.mark.parametrize("text", ["", "a b", "a b c d e f", "    "])
def test_what_is_no_identity_is_of_nobody(text: str) -> None:
    found = ProcessIdentity.parse(text)
    assert not found.has_ended()
    assert found.other_container() == ""


def test_a_process_that_has_gone_has_ended_and_one_that_runs_has_not() -> None:
    program = "from jaas_worker.agent.process_identity import ProcessIdentity; print(ProcessIdentity.own(), flush=True)"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{program}; input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin
    assert other.stdout
    identity = ProcessIdentity.parse(other.stdout.readline().strip())
    assert identity.pid == str(other.pid)
    assert not identity.has_ended()
    other.kill()
    other.communicate()
    assert identity.has_ended()


def test_a_process_whose_file_cannot_be_read_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    former = OWN._replace(pid=str(os.getppid()))
    gone = OWN._replace(pid="4194305")
    own = ProcessIdentity.own()
    monkeypatch.setattr(ProcessIdentity, "own", lambda: own)

    def refuse(path: Path, *_: object, **__: object) -> str:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert not former.has_ended()
    assert gone.has_ended()


@pytest.mark.parametrize(
    ("identity", "ended", "container"),
    [
        (OWN, False, ""),
        (OWN._replace(started="1"), True, ""),  # the id is another process' now
        (OWN._replace(pid="4194305"), True, ""),  # above the greatest that Linux gives
        (OWN._replace(pid="x"), False, ""),
        (OWN._replace(pid="9" * 30), False, ""),
        (OWN._replace(pid="9" * 5000), False, ""),
        (OWN._replace(boot="another", pid="4194305"), False, ""),  # of another machine, as far as is known
        (OWN._replace(namespace="pid:[1]", host="0123456789ab"), False, "0123456789ab"),
        (OWN._replace(namespace="pid:[1]", host="node1"), False, ""),
        (OWN._replace(namespace="pid:[1]", host="0123456789ab", boot="another"), False, ""),
    ],
)
def test_only_what_is_certain_counts(identity: ProcessIdentity, ended: bool, container: str) -> None:
    assert identity.has_ended() is ended
    assert identity.other_container() == container

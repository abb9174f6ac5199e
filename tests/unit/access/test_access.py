"""What each role may do: the tables cover the scripts and the documented keys. The rules that are made of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import jaas_submit.ledger
import jaas_submit.output
from jaas_submit.access.acl import password_rule, redis_version, rules_of
from jaas_submit.access.roles import LEDGER_KEYS, Grants, Installation, Key, Role, grants_of
from jaas_submit.cli.main import cli
from jaas_submit.errors import SpecError
from tests.support.pages import DOCS, rows

LEDGER, OUTPUT = (Path(str(room.__file__)).parent / "scripts" for room in (jaas_submit.ledger, jaas_submit.output))
OF = Installation("jaas", ["jobs"])
ENDS = {"ID", "JOB", "NODE", "HOLDER", "KEY", "NAME", "IMAGE", "FEED", "STATE"}


def commands_of(*folders: Path) -> set[str]:
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.lua")]
    return {name.lower() for text in texts for name in re.findall(r"redis\.p?call\('(\w+)'", text)}


@pytest.mark.parametrize(
    ("role", "folders"),
    [
        (Role.WORKER, (LEDGER, OUTPUT)),
        (Role.PRODUCER, (LEDGER / "submission", LEDGER / "batches", LEDGER / "shared", OUTPUT)),
        (Role.AGENT, (OUTPUT,)),
    ],
)
def test_a_role_may_run_the_commands_of_its_scripts(role: Role, folders: tuple[Path, ...]) -> None:
    assert commands_of(*folders) <= set(grants_of(role, OF).commands)


def test_somebody_has_decided_about_each_documented_key() -> None:
    listed = [row[0] for header in ("key", "key of output") for row in rows(DOCS / "ledger.md", header)]
    keys = {key.removeprefix("P:") for cell in listed for key in re.findall(r"P:[\w:]+", cell)}
    shapes = {f"{key.split(':')[0]}:*" if ":" in key else key for key in keys}
    assert {key.rstrip("*").rstrip(":") for key in shapes} == {key.rstrip("*").rstrip(":") for key in LEDGER_KEYS}


@pytest.mark.parametrize("role", [Role.PRODUCER, Role.VIEWER, Role.AGENT])
def test_nobody_else_has_what_belongs_to_workers(role: Role) -> None:
    grants = grants_of(role, OF)
    assert not {"jaas:lock:*", "jaas:seen:*", "jaas:unacked"} & {key.pattern for key in grants.keys}
    writes = {key.pattern for key in grants.keys if "w" in key.access}
    assert not {"jaas:holders", "jaas:held:*", "jaas:info:*", "jaas:identity", "jaas:cluster"} & writes
    assert not {"scan", "keys", "flushall", "flushdb", "config|get", "acl|setuser", "@all"} & set(grants.commands)


@pytest.mark.parametrize(
    ("version", "expected"),
    [((7, 2), ["%R~a:*", "%W~b", "~c"]), ((7, 0), ["%R~a:*", "%W~b", "~c"]), ((6, 2), ["~a:*", "~b", "~c"])],
)
def test_reading_and_writing_are_told_apart_from_redis_7_on(version: tuple[int, int], expected: list[str]) -> None:
    grants = Grants((Key("a:*", "r"), Key("b", "w"), Key("c")), ("x:*",), ("get", "client|setinfo"))
    setinfo = ["+client|setinfo"] if version >= (7, 2) else []
    assert rules_of(grants, version) == [
        *("resetkeys", "resetchannels", "-@all"),
        *(*expected, "&x:*", "+get"),
        *setinfo,
    ]


def test_a_queue_of_another_name_is_not_opened_by_the_way() -> None:
    patterns = {key.pattern for key in grants_of(Role.PRODUCER, Installation("a", ["jobs*[x]"])).keys}
    assert r"jobs\*\[x\]" in patterns
    assert not any(pattern.startswith("jobs*") for pattern in patterns)


@pytest.mark.parametrize(
    ("text", "version"), [("6.2", (6, 2)), ("7", (7, 0)), ("7.2", (7, 2)), ("8.0.1", (8, 0)), ("9", (9, 0))]
)
def test_versions(text: str, version: tuple[int, int]) -> None:
    assert redis_version(text) == version


@pytest.mark.parametrize("text", ["", "new", "6", "6.0", "5.0.14", "7.x", "-7", "7.2.1.1"])
def test_what_is_no_version_or_too_old_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="--redis"):
        redis_version(text)


def test_a_password_is_its_digest() -> None:
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    assert password_rule(password=b"secret\n") == password_rule(digest) == f"#{digest}"
    assert password_rule() == "resetpass"
    for bad in ({"password": b"\n"}, {"digest": "secret"}, {"digest": digest.upper()}):
        with pytest.raises(SpecError):
            password_rule(**bad)


def test_bad_options_are_one_sentence_and_never_show_a_password() -> None:
    for words in (
        ["--hash", "swordfish"],
        ["--password-file", "swordfish"],
        ["--password-file", "nobody=swordfish"],
        ["--hash", "worker=swordfish"],
        ["--redis", "5"],
    ):
        done = CliRunner().invoke(cli, ["redis-acl", *words])
        assert done.exit_code == 2, words
        assert "swordfish" not in done.output
        assert len(done.output.strip().splitlines()) == 1, done.output


def test_a_user_without_a_password_cannot_log_in_and_that_is_said() -> None:
    done = CliRunner().invoke(cli, ["redis-acl", "--role", "worker", "--role", "health"])
    assert done.exit_code == 0
    default, worker, health = done.stdout.splitlines()
    assert default == "user default off resetpass allkeys allchannels +@all"
    assert worker.startswith("user jaas-worker on resetpass ")
    assert health == "user jaas-health on nopass resetkeys resetchannels -@all +ping"
    assert done.stderr.startswith("jaas: worker: nobody can log in")


def test_of_several_passwords_each_holds(tmp_path: Path) -> None:
    first, second = "a" * 64, "b" * 64
    file = tmp_path / "third"
    file.write_text("third")
    words = [
        "--role",
        "agent",
        "--hash",
        f"agent={first}",
        "--hash",
        f"agent={second}",
        "--password-file",
        f"agent={file}",
    ]
    done = CliRunner().invoke(cli, ["redis-acl", *words, "--hash", f"agent={first}"])
    third = password_rule(password=b"third")
    assert done.stdout.splitlines()[1].startswith(f"user jaas-agent on #{first} #{second} {third} resetkeys ")

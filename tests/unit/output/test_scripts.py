"""The scripts of live output say in their heads what they do, and agree with docs/ledger.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import jaas_submit.output
from jaas_submit.output.scripts import source
from tests.support.pages import DOCS, rows

ROOM = Path(jaas_submit.output.__file__).parent
SCRIPTS = ROOM / "scripts"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.lua"))
SHARED = ("head", "budget")

KEYS = {
    "P:watch:JOB": r"P \.\. ':watch:' \.\.",
    "P:feed:FEED": r"\bfeed_key\(",
    "P:feed:FEED:state": r"\bstate_key\(",
    "P:whole:JOB:ATTEMPT": r"P \.\. ':whole:' \.\.",
    "P:files:JOB:ATTEMPT": r"\bfiles_key\(",
    "P:files:JOB:ATTEMPT:pieces": r"\bpieces_key\(",
    "P:agent:NODE": r"P \.\. ':agent:' \.\.",
    "P:agents": r"P \.\. ':agents'",
    "P:output:feeds": r"P \.\. ':output:(?:' \.\. kind|feeds')",
    "P:output:whole": r"P \.\. ':output:(?:' \.\. kind|whole')",
    "P:output:files": r"P \.\. ':output:(?:' \.\. kind|files')",
    "P:output:allowed": r"P \.\. ':output:allowed'",
    "C:watch": r"C \.\. ':watch',",
    "C:files": r"C \.\. ':files',",
    "C:output:JOB": r"C \.\. ':output:' \.\. args",
}
"""How the scripts write each key and channel."""


def text(name: str) -> str:
    return (SCRIPTS / f"{name}.lua").read_text(encoding="utf-8")


def code(name: str) -> str:
    return re.sub(r"--.*", "", text(name))


def head(name: str) -> str:
    return "\n".join(line[2:].removeprefix(" ") for line in text(name).split("\n\n")[0].splitlines())


def functions() -> dict[str, str]:
    both = "".join(code(f"shared/{part}") for part in SHARED)
    return {
        name: body
        for name, body in re.findall(
            r"^local function (\w+)\([^)]*\)((?: [^\n]* end$)|(?:.*?^end$))", both, re.MULTILINE | re.DOTALL
        )
        if name not in {"feed_key", "state_key", "files_key", "pieces_key"}
    }


def reached(name: str) -> str:
    """Return a script's own text, and that of the shared functions that it calls."""
    known, found, todo = functions(), "", [code(name)]
    while todo:
        piece = todo.pop()
        found += piece
        todo += [known.pop(one) for one in list(known) if re.search(rf"\b{one}\(", piece)]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_head_lists_the_arguments(name: str) -> None:
    part = re.search(r"^Arguments:(.*?)^(?:Texts|Answer)", head(name), re.MULTILINE | re.DOTALL)
    assert part
    listed = set(re.findall(r"^  (\w+)(?:  .*)?$", part[1], re.MULTILINE))
    assert listed == set(re.findall(r"\bargs\.(\w+)", reached(name)))
    assert re.search(r"^Answer: \S", head(name), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_head_lists_the_texts(name: str) -> None:
    assert re.findall(r"^  (\d)  ", head(name), re.MULTILINE) == sorted(set(re.findall(r"ARGV\[(\d)\]", code(name))))


@pytest.mark.parametrize("name", NAMES)
def test_a_head_lists_the_keys(name: str) -> None:
    lines = re.findall(r"^(?:Reads|Writes|Publishes): (.*(?:\n  .*)*)$", head(name), re.MULTILINE)
    assert len(lines) == 3
    listed = {key for line in lines for key in line.split()} - {"nothing"}
    assert listed == {key for key, pattern in KEYS.items() if re.search(pattern, reached(name))}


@pytest.mark.parametrize("name", NAMES)
def test_a_script_begins_with_what_it_needs_and_no_more(name: str) -> None:
    own = code(name)
    used = [
        part
        for part in SHARED
        if any(
            re.search(rf"\b{one}\b", own)
            for one in re.findall(r"^local (?:function )?(\w+)", code(f"shared/{part}"), re.MULTILINE)
        )
    ]
    assert f"Needs: shared/{used[-1]}\n" in head(name) + "\n"
    assert ("allowed_now" in source(name)) == (used[-1] == "budget")


def test_every_script_is_run_and_no_other() -> None:
    run = "".join(path.read_text(encoding="utf-8") for path in ROOM.glob("*.py"))
    assert set(re.findall(r'\.run\("(\w+)"', run)) == set(NAMES)


def test_all_keys_and_channels_are_documented() -> None:
    page = DOCS / "ledger.md"
    listed = {row[0] for header in ("key of output", "channel of output") for row in rows(page, header)}
    assert {key for cell in listed for key in re.findall(r"[CP]:[\w:]+", cell)} == KEYS.keys()


def test_luacheck_knows_what_the_scripts_share() -> None:
    known = set(re.findall(r'"(\w+)"', Path(__file__).parents[3].joinpath(".luacheckrc").read_text(encoding="utf-8")))
    shared = re.findall(r"^local (?:function )?(\w+)", "".join(code(f"shared/{p}") for p in SHARED), re.MULTILINE)
    assert {one for one in shared if any(re.search(rf"\b{one}\b", code(name)) for name in NAMES)} <= known

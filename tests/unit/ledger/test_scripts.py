"""The headers of the ledger's scripts are complete, and agree with the states and with docs/ledger.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jaas_submit.ledger.lua import SHARED, needed_by, source, states
from jaas_submit.model.causes import Cause
from jaas_submit.model.states import TERMINAL, TRANSITIONS, JobState
from tests.support.lua_keys import READS, SCRIPTS, WRITES, head_of, scripts, touched_by
from tests.support.pages import DOCS, rows

LEDGER = SCRIPTS.parent
PARTS = ("submission", "ownership", "maintenance", "batches", "notes", "sent_files", "queues")


def modules() -> dict[Path, str]:
    """Return the modules of the ledger, each with the part that it is, or belongs to."""
    return {path: path.stem if path.parent == LEDGER else path.parent.name for path in sorted(LEDGER.rglob("*.py"))}


def code(name: str) -> str:
    """Return a script's own text, without comments."""
    return re.sub(r"--.*", "", (SCRIPTS / f"{name}.lua").read_text(encoding="utf-8"))


def everything() -> str:
    return "".join(code(name) for name in [*(f"shared/{part}" for part in SHARED), *scripts()])


def keys_of(name: str, what: str) -> set[str]:
    """Return the keys that a line of a script's head lists."""
    found = re.search(rf"^{what}: (.*(?:\n  .*)*)", head_of(name), re.MULTILINE)
    assert found, f"{name} does not say what it {what.lower()}"
    return set(found[1].split()) - {"nothing"}


# -- states --------------------------------------------------------------------


def test_the_lists_of_states_are_those_of_the_model() -> None:
    lists = {
        name: set(re.findall(r"\w+", items)) - {"true"} for name, items in re.findall(r"(\w+) = \{(.*)\}", states())
    }
    assert lists == {"STATES": {*JobState}, "ENDED": {*TERMINAL}, "OPEN": {*JobState} - TERMINAL}
    assert all(source(name).startswith(states()) for name in scripts())


def test_no_script_has_a_list_of_states_of_its_own() -> None:
    assert not re.findall(r"\b(?:ENDED|OPEN|STATES) =", everything())


def test_scripts_name_no_state_or_cause_that_is_none() -> None:
    words = set(re.findall(r"'([A-Z]{4,})'", everything())) - READS - WRITES.keys()
    assert words - {"PUBLISH", "TIME", "LIMIT", "REPLACE"} == words & {*JobState}
    assert set(re.findall(r"(?:cause = |unstarted_attempt\('\w+', )'(\w+)'", everything())) <= {*Cause}


def test_scripts_move_jobs_as_the_model_allows() -> None:
    moves = re.findall(r"(?:set_state|move)\(\w+, '([A-Z]+)', '([A-Z]+)'", everything())
    assert len(moves) >= 5
    assert all(JobState(target) in TRANSITIONS[JobState(state)] for state, target in moves)


# -- heads --------------------------------------------------------------------


@pytest.mark.parametrize("name", scripts())
def test_a_head_lists_the_arguments(name: str) -> None:
    listed = re.search(r"^Arguments:(.*?)^(?:Texts|Answer)", head_of(name), re.MULTILINE | re.DOTALL)
    assert listed, "lists no arguments"
    named = {
        word
        for words in re.findall(r"^ +(\w+(?:, \w+)*)(?:  .*)?$", listed[1], re.MULTILINE)
        for word in words.split(", ")
    }
    used = set(re.findall(r"\bargs\.(\w+)", code(name))) - {"prefix"}
    if name == "submission/create":
        used |= set(re.findall(r"\bjob\.(\w+)", code(name)))
    assert named == used
    assert re.search(r"^Answer: \S", head_of(name), re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in scripts() if name != "submission/create"])
def test_a_head_lists_the_texts(name: str) -> None:
    listed = re.findall(r"^  (\d)  ", head_of(name), re.MULTILINE)
    assert sorted(set(re.findall(r"ARGV\[(\d)\]", code(name)))) == listed


@pytest.mark.parametrize("name", scripts())
def test_a_head_lists_the_keys(name: str) -> None:
    touched = touched_by(name)
    assert keys_of(name, "Reads") == touched.reads
    assert keys_of(name, "Writes") == touched.writes
    assert keys_of(name, "Publishes") == touched.publishes


@pytest.mark.parametrize("name", scripts())
def test_a_script_begins_with_what_it_needs_and_no_more(name: str) -> None:
    defined = {part: re.findall(r"^local (?:function )?(\w+)", code(f"shared/{part}"), re.MULTILINE) for part in SHARED}
    own = code(name)
    used = [part for part, names in defined.items() if any(re.search(rf"\b{one}\b", own) for one in names)]
    assert needed_by(name)[-1] == f"shared/{used[-1]}"


def test_every_script_is_run_and_no_other() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in modules())
    assert set(re.findall(rf'"((?:{"|".join(PARTS)})/\w+)"', text)) == set(scripts())


def test_a_script_is_run_by_the_part_that_its_folder_names() -> None:
    for part in PARTS:
        texts = [path.read_text(encoding="utf-8") for path, name in modules().items() if name == part]
        assert set(re.findall(r'"(\w+)/\w+",', "".join(texts))) == {part}


# -- docs/ledger.md --------------------------------------------------------------------


def listed(header: str) -> dict[str, list[str]]:
    return {row[0]: row for row in rows(DOCS / "ledger.md", header)}


def by_python() -> dict[str, set[str]]:
    """Return for each first word of a key the modules of the ledger that name it."""
    named: dict[str, set[str]] = {}
    for path, part in modules().items():
        for word in re.findall(r'(?:key|channel)\("(\w+)"', path.read_text(encoding="utf-8")):
            named.setdefault(word, set()).add(part)
    return named


def writers(cell: str) -> set[str]:
    told = set(cell.split(", "))
    everybody = {"submission", "ownership", "maintenance", "batches"} if "every part" in told else set()
    return (told - {"every part"}) | everybody


def test_all_keys_and_channels_are_documented_with_their_types() -> None:
    documented = {key: row[1] for key, row in listed("key").items()} | dict.fromkeys(listed("channel"), "channel")
    touched = [touched_by(name) for name in scripts()]
    assert {key for one in touched for key in one.reads | one.writes | one.publishes} <= documented.keys()
    for one in touched:
        for key, types in one.types.items():
            assert types == {documented[key]}, key
    words = {key.split(":")[1] for key in documented if ":" in key}
    assert by_python().keys() - {"state"} <= words


def test_who_writes_a_key_is_documented() -> None:
    for key, row in {**listed("key"), **listed("channel")}.items():
        told = writers(row[3] if len(row) > 3 else row[2])
        touched = {name: touched_by(name) for name in scripts()}
        scripted = {name.split("/")[0] for name, one in touched.items() if key in one.writes | one.publishes}
        assert scripted <= told, key
        for part in told - scripted:
            assert part in by_python()[key.split(":")[1]], (key, part)


def test_every_field_that_scripts_write_is_documented() -> None:
    text = (DOCS / "ledger.md").read_text(encoding="utf-8").partition("## Records")[2]
    fields = {field for name in scripts() for field in touched_by(name).fields}
    assert len(fields) > 30
    assert not {field for field in fields if f"`{field}`" not in text}


def test_luacheck_knows_what_the_scripts_share() -> None:
    text = Path(__file__).parents[3].joinpath(".luacheckrc").read_text(encoding="utf-8")
    shared = re.findall(r"^local (?:function )?(\w+)", "".join(code(f"shared/{part}") for part in SHARED), re.MULTILINE)
    known = set(re.findall(r'"(\w+)"', text))
    used = {name for name in shared if re.search(rf"\b{name}\b", "".join(code(name) for name in scripts()))}
    assert used <= known

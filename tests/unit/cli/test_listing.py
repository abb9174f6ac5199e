"""Lists: what is chosen, and how they fit a terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import click
import pytest

from jaas_submit.cli import output
from jaas_submit.cli.listing import Entry, Listing, Table, fitted, listing_of, short_ids

IDS = (
    "951d3b82-9d2e-4a1c-8f3e-6f1d2c3b4a59",
    "951d3b82-0000-4a1c-8f3e-6f1d2c3b4a59",
    "1c2d3e4f-9d2e-4a1c-8f3e-6f1d2c3b4a59",
)
BATCH = "7d0e9b1a-5a0e-4f0c-a4f6-4b2f1f5c1b1e"
ROWS = (
    (IDS[0], "RUNNING", "-", "12s", "9.1s", "node1", BATCH, "crawl: href-counter https://example.com/a/long/path", ""),
    (IDS[1], "SUCCEEDED", "0", "3m20s", "0.7s", "node2", "-", "alpine sh -c 'echo hello from $HOSTNAME'", ""),
    (
        IDS[2],
        "FAILED",
        "-",
        "2d4h",
        "-",
        "-",
        "-",
        "alpin true",
        "image: No such image: alpin:latest, or it needs a login",
    ),
)


def table(rows: tuple[tuple[str, ...], ...] = ROWS) -> Table:
    return Table(
        output.LIST_HEADERS,
        [Entry(row[0], row, dict) for row in rows],
        ids=("ID", "BATCH"),
        texts=("JOB", "WHY"),
        dispensable=("NODE", "RAN", "WHY", "EXIT", "AGE", "BATCH"),
    )


def screen(width: int, rows: tuple[tuple[str, ...], ...] = ROWS) -> list[str]:
    headers, lines = fitted(table(rows), width)
    widths = [max(map(len, column)) for column in zip(headers, *lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in [headers, *lines]]


SCREENS = {
    60: """
ID          STATE      EXIT  AGE    BATCH     JOB
951d3b82-9  RUNNING    -     12s    7d0e9b1a  crawl: href...
951d3b82-0  SUCCEEDED  0     3m20s  -         alpine sh -...
1c2d3e4f-9  FAILED     -     2d4h   -         alpin true
""",
    80: """
ID          STATE      EXIT  AGE    RAN   BATCH     JOB            WHY
951d3b82-9  RUNNING    -     12s    9.1s  7d0e9b1a  crawl: hre...
951d3b82-0  SUCCEEDED  0     3m20s  0.7s  -         alpine sh ...
1c2d3e4f-9  FAILED     -     2d4h   -     -         alpin true     image: No ...
""",
    120: """
ID          STATE      EXIT  AGE    RAN   NODE   BATCH     JOB                            WHY
951d3b82-9  RUNNING    -     12s    9.1s  node1  7d0e9b1a  crawl: href-counter https:...
951d3b82-0  SUCCEEDED  0     3m20s  0.7s  node2  -         alpine sh -c 'echo hello f...
1c2d3e4f-9  FAILED     -     2d4h   -     -      -         alpin true                     image: No such image: alpin...
""",
}


@pytest.mark.parametrize("width", SCREENS)
def test_screens(width: int) -> None:
    assert screen(width) == SCREENS[width].strip().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_a_line_fits_and_shows_the_state_in_full(width: int) -> None:
    lines = screen(width)
    assert len(lines) == 4, "one line a job"
    assert max(map(len, lines)) <= width
    assert [line.split()[1] for line in lines[1:]] == ["RUNNING", "SUCCEEDED", "FAILED"]
    assert all(word in " ".join(lines) for word in ("951d3b82-9", "951d3b82-0", "crawl: "))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_batch_and_name_are_visible(width: int) -> None:
    lines = screen(width)
    assert "7d0e9b1a" in lines[1]
    assert "crawl: " in lines[1]


def test_what_is_empty_takes_no_column() -> None:
    plain = tuple((*row[:5], "-", "-", "alpine", "") for row in ROWS)
    assert screen(80, plain)[0].split() == ["ID", "STATE", "EXIT", "AGE", "RAN", "JOB"]


def test_short_ids_tell_the_listed_ones_apart() -> None:
    assert short_ids(["aaaaaaaa-1", "aaaaaaaa-2"]) == {"aaaaaaaa-1": "aaaaaaaa-1", "aaaaaaaa-2": "aaaaaaaa-2"}
    assert short_ids([IDS[0], IDS[2], IDS[0]]) == {IDS[0]: "951d3b82", IDS[2]: "1c2d3e4f"}
    assert short_ids(["a", "ab"]) == {"a": "a", "ab": "ab"}
    assert short_ids([]) == {}


def options(**given: Any) -> dict[str, Any]:
    return {"form": "table", "limit": 20, "since": None, "until": None, "filters": (), "watch": False, **given}


def listing(**given: Any) -> Listing:
    return listing_of(options(**given), ("state", "name"), as_json=False, quiet=False)


@pytest.mark.parametrize(
    ("form", "as_json", "quiet", "expected"),
    [
        ("table", False, False, "table"),
        ("table", True, False, "jsonl"),
        ("table", False, True, "name"),
        ("wide", False, True, "wide"),
        ("json", True, False, "json"),
    ],
)
def test_json_and_quiet_are_forms(form: str, as_json: bool, quiet: bool, expected: str) -> None:
    assert listing_of(options(form=form), (), as_json=as_json, quiet=quiet).form == expected


@pytest.mark.parametrize(
    ("given", "hours_ago", "taken"),
    [
        ({"since": "2h"}, 1, True),
        ({"since": "2h"}, 3, False),
        ({"until": "2h"}, 1, False),
        ({"until": "2h"}, 3, True),
        ({"since": "1d", "until": "2h"}, 3, True),
        ({"since": "2026-01-01"}, 0, True),
        ({"since": "2999-01-01T08:00"}, 0, False),
        ({"filters": ("name=crawl*",)}, 0, True),
        ({"filters": ("name=craw",)}, 0, False),
        ({"filters": ("state=failed", "name=crawl-*")}, 0, True),
        ({"filters": ("state=failed", "name=x")}, 0, False),
    ],
)
def test_what_is_taken(given: dict[str, Any], hours_ago: float, taken: bool) -> None:
    created = datetime.now(UTC) - timedelta(hours=hours_ago)
    assert listing(**given).takes(created, {"state": "FAILED", "name": "crawl-1"}) is taken


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"since": "yesterday"}, "--since: 'yesterday' is no time; write how long ago"),
        ({"until": "-"}, "--until: '-' is no time"),
        ({"filters": ("colour=red",)}, "--filter: 'colour' is not known; there are state, name"),
        ({"filters": ("state",)}, "--filter: write state=VALUE"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        listing(**given)
    assert refused.value.message.startswith(said)


def test_watching_lists_again_until_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("jaas_submit.cli.listing.time.sleep", sleep)
    listing(form="name", watch=True).show(table, output.Progress(quiet=False), "nothing")
    assert capsys.readouterr().out.split() == list(IDS) * 3


def test_watching_clears_a_terminal_when_the_next_list_has_been_read(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def sleep(_: float) -> None:
        done.append("pause")
        if done.count("pause") == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("jaas_submit.cli.listing.time.sleep", sleep)
    monkeypatch.setattr("jaas_submit.cli.listing.sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("jaas_submit.cli.listing.click.clear", lambda: done.append("clear"))
    monkeypatch.setattr("jaas_submit.cli.output.print_lines", done.extend)

    def read() -> Table:
        done.append("read")
        return Table(("ID",), [Entry("a", ("a",), dict)], say=lambda: done.append("say"))

    listing(form="name", watch=True).show(read, output.Progress(quiet=False), "nothing")
    assert done == ["read", "clear", "say", "a", "pause"] * 2


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("name", "a\nb\n"),
        ("jsonl", '{"id": "a"}\n{"id": "b"}\n'),
        ("json", '[\n  {\n    "id": "a"\n  },\n  {\n    "id": "b"\n  }\n]\n'),
    ],
)
def test_forms(form: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [Entry(name, (name,), partial(dict, id=name)) for name in "ab"]
    listing(form=form).show(lambda: Table(("ID",), entries), output.Progress(quiet=False), "nothing")
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("form", "out", "err"), [("json", "[]\n", ""), ("name", "", ""), ("table", "", "jaas: nothing\n")]
)
def test_an_empty_list(form: str, out: str, err: str, capsys: pytest.CaptureFixture[str]) -> None:
    listing(form=form).show(lambda: Table(("ID",), []), output.Progress(quiet=False), "nothing")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (out, err)

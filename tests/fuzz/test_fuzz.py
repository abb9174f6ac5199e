"""The fuzzer with a fixed seed, and whether it can fail at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jaas_submit import JobSpec
from jaas_submit.errors import SpecError
from tests.fuzz import pure
from tests.fuzz.arrivals import carried_id
from tests.fuzz.cases import Case, Hang, sentence_defect, summary, within
from tests.fuzz.ledger import LedgerLevel
from tests.fuzz.poison import Poison
from tests.fuzz.worker import WorkerLevel
from tests.support.redis_server import OwnRedis

pytestmark = pytest.mark.redis

SEED = 2026
"""`scripts/fuzz` draws others."""


_VERSION_1 = (
    b'{"headers": {}, "body": "eyJpZCI6ICJiIn0=", "content-type": "application/json",'
    b' "properties": {"body_encoding": "base64"}}'
)


@pytest.fixture
def ledger_level(own_redis: Callable[..., OwnRedis]) -> Iterator[LedgerLevel]:
    level = LedgerLevel(own_redis().url)
    yield level
    level.close()


def test_descriptions_messages_and_notices() -> None:
    failures = pure.run(SEED, 0, 5000)
    assert not failures, summary(failures)


def test_poisoned_records(ledger_level: LedgerLevel) -> None:
    failures = ledger_level.run(SEED, 0, 500)
    assert not failures, summary(failures)


@pytest.mark.timeout(600)
def test_a_worker_lives_and_works_whatever_arrives(tmp_path: Path) -> None:
    with WorkerLevel.made(tmp_path) as level:
        failures = level.run(SEED, 0, 400)
    assert not failures, summary(failures)


# -- the fuzzer itself ------------------------------------------------------------------------------------------------


def test_the_same_seed_and_number_make_the_same_case(ledger_level: LedgerLevel) -> None:
    for number in range(100):
        assert pure.case(SEED, number).title == pure.case(SEED, number).title
        first, again = ledger_level.case(SEED, number), ledger_level.case(SEED, number)
        assert (first.title, first.content.commands) == (again.title, again.content.commands)
    assert len({pure.case(SEED, number).title for number in range(100)}) > 90


def test_an_error_that_is_not_documented_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_data: object) -> JobSpec:
        raise KeyError("image")

    monkeypatch.setattr(JobSpec, "parse", parse)
    failures = pure.run(SEED, 0, 50)
    assert any("KeyError" in one.why for one in failures)
    assert f"--seed {SEED} --case pure:" in str(failures[0])


@pytest.mark.parametrize("said", ["", "image: a\nb", "image: \x1b[2J", "image: \ud800", "x" * 2000])
def test_a_sentence_that_is_none_is_a_failure(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    def parse(_data: object) -> JobSpec:
        raise SpecError(said, field="image")

    monkeypatch.setattr(JobSpec, "parse", parse)
    assert sentence_defect(said)
    assert pure.run(SEED, 0, 50)


def test_what_takes_for_ever_is_a_failure() -> None:
    def loop() -> None:
        while True:
            pass

    with pytest.raises(Hang), within(0.05):
        loop()


def test_a_scene_that_nobody_poisoned_is_in_order(ledger_level: LedgerLevel) -> None:
    ledger_level.case(SEED, 0)
    ledger_level.restore()
    assert ledger_level.check(Case("ledger", 0, "nothing", Poison("nothing", []))) == []


def test_a_list_that_lacks_a_good_job_is_a_failure(ledger_level: LedgerLevel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaas_submit.ledger.queries.Queries.find", lambda _ledger, _ids: [])
    assert any("lacks good ones" in one.why for one in ledger_level.run(SEED, 0, 3))


@pytest.mark.parametrize(
    ("raw", "task_id"),
    [
        (b'{"headers": {"task": "jaas.run", "id": "a"}}', "a"),
        (_VERSION_1, "b"),
        (b'{"headers": {"task": "jaas.run", "id": "\\ud800"}}', ""),
        (b'{"headers": {"task": "jaas.run", "id": "a", "jaas_wakeup": true}}', ""),
        (b'{"headers": {"task": "a\nb", "id": "a"}}', ""),
        (b"[" * 5000, ""),
    ],
)
def test_which_entries_carry_a_task_id(raw: bytes, task_id: str) -> None:
    assert carried_id(raw) == task_id

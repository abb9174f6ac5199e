"""The fuzzer with a fixed seed, and whether it can fail at all."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jaas_submit import JobSpec, ledger
from jaas_submit.errors import SpecError
from jaas_submit.policy.document import Policy
from tests.fuzz import pure, worker
from tests.fuzz.arrivals import CHANNELS, INDEXES, Arrival, carried_id
from tests.fuzz.cases import Case, Hang, sentence_defect, summary, within
from tests.fuzz.ledger import LedgerLevel
from tests.fuzz.poison import OWN, SHARED, Poison
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
    failures = pure.run(SEED, 0, 3000)
    assert not failures, summary(failures)


def test_poisoned_records(ledger_level: LedgerLevel) -> None:
    failures = ledger_level.run(SEED, 0, 300)
    assert not failures, summary(failures)


@pytest.mark.timeout(600)
def test_a_worker_lives_and_works_whatever_arrives(tmp_path: Path) -> None:
    with WorkerLevel.made(tmp_path) as level:
        failures = level.run(SEED, 0, 240)
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


def test_a_policy_that_lets_too_much_through_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.policy.POLICY", Policy(level="privileged"))
    assert any("the policy lets through: a path of the host" in one.why for one in pure.run(SEED, 0, 500))


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


@pytest.mark.parametrize("key", sorted({name.split(":")[0] for name in (*OWN, *SHARED, *CHANNELS, *INDEXES)}))
def test_what_is_poisoned_has_the_name_of_a_key_of_the_ledger(key: str) -> None:
    sources = [path for kind in ("lua", "py") for path in Path(ledger.__path__[0]).rglob(f"*.{kind}")]
    used = re.compile(rf"\b[PC]:{key}\b|(key|channel)\(\"{key}\"")
    assert any(used.search(path.read_text()) for path in sources)


def test_a_list_that_lacks_a_good_job_is_a_failure(ledger_level: LedgerLevel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaas_submit.ledger.queries.Queries.find", lambda _ledger, _ids: [])
    assert any("lacks good ones" in one.why for one in ledger_level.run(SEED, 0, 3))


def test_memory_that_a_case_takes_beyond_the_bound_is_a_failure(
    ledger_level: LedgerLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = iter((0, 2**30))
    monkeypatch.setattr("tests.fuzz.ledger.resource.getrusage", lambda _: SimpleNamespace(ru_maxrss=next(peaks)))
    ledger_level.restore()
    assert ledger_level.check(Case("ledger", 0, "nothing", Poison("nothing", []))) == ["it took 1048576 MiB of memory"]


def test_a_worker_that_loses_a_message_logs_a_traceback_or_ends_is_a_failure(tmp_path: Path) -> None:
    def case(**content: Any) -> Case:
        return Case("worker", 0, "x", Arrival("x", (), **content))

    with WorkerLevel.made(tmp_path, patience=5.0) as level:
        assert level.check([case()]) is None
        lost = level.check([case(), case(entry=b'{"headers": {"task": "jaas.run", "id": "lost"}}')])
        assert lost is not None
        assert "jobs with these ids" in lost.why
        assert len(lost.suspects) == 1
        most, level.max_growth = level.max_growth, -1
        grown = level.check([case()])
        level.max_growth = most
        assert grown is not None
        assert "memory has grown" in grown.why
        os.kill(level.worker.pid, signal.SIGKILL)
        ended = level.check([case()])
        assert ended is not None
        assert "the worker has ended" in ended.why
        assert level.check([case()]) is None


@pytest.mark.parametrize(
    ("log", "surprising"),
    [
        (
            "[error] a callback failed [jaas_worker.messaging.pool] a=b\nTraceback (most recent call last):\n  x\nE: y",
            True,
        ),
        ("[error] bad [celery.worker] a=b\nTraceback (most recent call last):\n  x\nE: y", False),
        ("[error] a callback failed [jaas_worker.messaging.pool] a=b\n[info] fine", False),
    ],
)
def test_which_tracebacks_count(log: str, surprising: bool) -> None:
    assert bool(worker.SURPRISE.search(log)) is surprising


@pytest.mark.parametrize(
    ("raw", "task_id"),
    [
        (b'{"headers": {"task": "jaas.run", "id": "a"}}', "a"),
        (_VERSION_1, "b"),
        (_VERSION_1.replace(b'{"headers"', b'{"priority": 1e999, "headers"'), ""),
        (b'{"headers": {"task": "jaas.run", "id": "a"}, "priority": 1e999}', "a"),
        (b'{"headers": {"task": "jaas.run", "id": "\\ud800"}}', ""),
        (b'{"headers": {"task": "jaas.run", "id": "a", "jaas_wakeup": true}}', ""),
        (b'{"headers": {"task": "a\nb", "id": "a"}}', ""),
        (b"[" * 5000, ""),
    ],
)
def test_which_entries_carry_a_task_id(raw: bytes, task_id: str) -> None:
    assert carried_id(raw) == task_id

"""``Executor`` with a client in memory; its calls are real processes of this machine's Python, by the same command."""

from __future__ import annotations

import importlib
import json
import operator
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, CancelledError, as_completed, wait
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jaas_submit import (
    Executor,
    FunctionFailed,
    JaasError,
    JobCancelled,
    JobFailed,
    JobFuture,
    JobState,
    LedgerUnavailable,
    SpecError,
    StoreUnavailable,
    UnknownJob,
)
from jaas_submit.client.queries import outlines
from jaas_submit.executor.executor import shortest_pause
from jaas_submit.executor.in_container import answer
from jaas_submit.testing import FakeClient, fails, runs, succeeds
from tests.support.calls_here import calls_in


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FakeClient]:
    with FakeClient(calls_in(tmp_path)) as made:
        yield made


@pytest.fixture
def pool(client: FakeClient) -> Iterator[Executor]:
    with Executor("python", client=client, python=sys.executable) as made:
        yield made


class Odd(Exception):
    pass


def raises_odd() -> None:
    raise Odd("odd", 5)


def fails_oddly(_: object) -> None:
    raise Odd("odd")


def test_functions_lambdas_and_closures(pool: Executor) -> None:
    factor = 3

    def upper(*, text: str) -> str:
        return text.upper()

    calls: list[JobFuture[Any]] = [
        pool.submit(operator.add, 1, 2),
        pool.submit(lambda x: x * factor, 5),
        pool.submit(upper, text="ab"),
        pool.submit(os.path.join, "a", "b"),
    ]
    assert [call.result(60) for call in calls] == [3, 15, "AB", "a/b"]
    assert wait(calls, 60, ALL_COMPLETED).not_done == set()
    assert set(as_completed(calls, 60)) == set(calls)
    assert calls[0].done()
    assert not calls[0].running()
    assert not calls[0].cancel()


def test_what_a_function_prints_is_the_jobs_output(pool: Executor) -> None:
    def talk() -> int:
        print("half a line", end="")
        sys.stdout = sys.stderr
        return 7

    call = pool.submit(talk)
    assert call.result(60) == 7
    assert call.job.logs().stdout.startswith("half a line\n")
    assert call.job.record().label.startswith("talk: python ")


def test_a_map_is_in_order_and_may_send_several_items_at_once(client: FakeClient, pool: Executor) -> None:
    assert list(pool.map(pow, [2, 3, 4], [3, 2, 1], timeout=60)) == [8, 9, 4]
    before = len(client.submitted())
    assert list(pool.map(pow, [2, 3, 4], [3, 2, 1], timeout=60, chunksize=2)) == [8, 9, 4]
    assert [spec.name for spec in client.submitted()[before:]] == ["pow", "pow"]
    with pytest.raises(ZeroDivisionError):
        list(pool.map(pow, [0], [-1], timeout=60, chunksize=2))
    with pytest.raises(FunctionFailed, match=r"test_executor\.fails_oddly raised Odd"):
        list(pool.map(fails_oddly, [1, 2], timeout=60, chunksize=2))
    with pytest.raises(ValueError, match="chunksize"):
        pool.map(pow, [1], [1], chunksize=0)


def test_a_built_in_exception_is_raised_with_its_traceback(pool: Executor) -> None:
    def divide() -> float:
        return 1 / 0

    call = pool.submit(divide)
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        call.result(60)
    assert "in divide" in str(caught.value.__cause__)
    assert "in_container" not in str(caught.value.__cause__)
    assert call.job.result().exit_code == 1
    assert call.job.logs().stderr.endswith("ZeroDivisionError: division by zero\n")
    with pytest.raises(KeyError, match="'missing'"):
        pool.submit(os.environ.__getitem__, "missing").result(60)


def test_other_exceptions_come_as_text_unless_pickles_are_asked_for(client: FakeClient, pool: Executor) -> None:
    with pytest.raises(FunctionFailed, match=r"raises_odd raised Odd: \('odd', 5\)") as caught:
        pool.submit(raises_odd).result(60)
    assert "in raises_odd" in str(caught.value.__cause__)
    with pytest.raises(FunctionFailed, match="SystemExit: 5"):
        pool.submit(sys.exit, 5).result(60)
    with Executor("python", client=client, python=sys.executable, unpickle=True) as other:
        with pytest.raises(Odd) as found:
            other.submit(raises_odd).result(60)
        assert found.value.args == ("odd", 5)
        assert other.submit(Decimal, "1.5").result(60) == Decimal("1.5")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Decimal("1.5"), r"returned a Decimal that cannot be sent back .*use Executor\(unpickle=True\)"),
        (lambda: float("nan"), "returned a float that cannot be sent back"),
        (lambda: {1, 2}, "returned a set that"),
    ],
)
def test_values_that_json_does_not_have(pool: Executor, call: Callable[[], Any], text: str) -> None:
    with pytest.raises(FunctionFailed, match=text):
        pool.submit(call).result(60)


def test_a_module_that_the_image_does_not_have(
    client: FakeClient, pool: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "only_here.py").write_text("def twice(x):\n    return 2 * x\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    only_here = importlib.import_module("only_here")
    with pytest.raises(FunctionFailed, match=r"cannot import .*'only_here'.*by_value=\[module\]"):
        pool.submit(only_here.twice, 4).result(60)
    with Executor("python", client=client, python=sys.executable, by_value=[only_here]) as other:
        assert other.submit(only_here.twice, 4).result(60) == 8


def test_a_wrong_python_is_named() -> None:
    assert answer({"python": "3.2"})["problem"].endswith("the caller Python 3.2; both must be the same")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda pool: pool.submit(len, threading.Lock()), "len: cannot be sent: .*inside the function"),
        (lambda pool: pool.submit(len, os.urandom(700_000)), "more than the 524,288 allowed; pass a path or URL"),
        (lambda pool: Executor("python", client=pool.client, command=["x"]), "command: the executor sets it itself"),
        (lambda pool: Executor("", client=pool.client), "image: "),
    ],
)
def test_what_is_refused(pool: Executor, make: Callable[[Executor], Any], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        make(pool)


@pytest.mark.parametrize(
    ("ending", "kind", "text"),
    [
        (fails(cause="image", reason="no such image"), JobFailed, "no such image"),
        (fails(cause="oom"), JobFailed, "cause: oom"),
        (succeeds({"something": "else"}), FunctionFailed, "no answer of a call"),
        (succeeds(stdout="no json"), JobFailed, "cause: output"),
        (
            fails(stdout='{"jaas_call": 1, "raised": {"module": "os", "name": "system", "args": ["x"]}}\n'),
            FunctionFailed,
            "",
        ),
        (
            fails(stdout='{"jaas_call": 1, "raised": {"module": "builtins", "name": "exec", "args": ["x"]}}\n'),
            FunctionFailed,
            "",
        ),
        (fails(stdout=json.dumps({"jaas_call": 1, "raised": {"pickle": "x"}})), FunctionFailed, ""),
        (fails(stdout="[]"), JobFailed, "exit code 1"),
    ],
)
def test_containers_that_give_no_good_answer(ending: Any, kind: type[JaasError], text: str) -> None:
    with (
        FakeClient(ending) as client,
        Executor("python", client=client) as pool,
        pytest.raises(kind, match=text or "raised"),
    ):
        pool.submit(len, []).result(60)


def test_calls_are_cancelled_also_while_they_run() -> None:
    with FakeClient(runs()) as client, Executor("python", client=client) as pool:
        call, other = pool.submit(len, []), pool.submit(len, [])
        assert call.running()
        told = threading.Event()
        call.add_done_callback(lambda _: told.set())
        assert call.cancel()
        assert call.cancel()
        assert told.is_set()
        assert wait([call], 0).done == {call}
        with pytest.raises(CancelledError):
            call.result(0)
        assert call.job.state is JobState.CANCELLED
        client.handle(other.job.id).cancel("by somebody else")
        with pytest.raises(JobCancelled, match="by somebody else"):
            other.result(60)


def test_shutdown_cancels_what_does_not_run_yet() -> None:
    with FakeClient(runs()) as client:
        pool = Executor("python", client=client)
        running = pool.submit(len, [])
        waiting = Executor("python", client=client)
        assert repr(pool) == "Executor('python', 1 open)"
        pool.shutdown(wait=False, cancel_futures=True)
        assert not running.cancelled()
        with pytest.raises(RuntimeError, match="shut down"):
            pool.submit(len, [])
        client.end(running.job, fails(3))
        with pytest.raises(JobFailed):
            running.result(60)
        pool.shutdown()
        waiting.shutdown()


def test_jobs_that_are_lost(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.ends = runs()
    with Executor("python", client=client) as pool:
        call = pool.submit(len, [])
        monkeypatch.setattr("jaas_submit.executor.executor.outlines", lambda *_: [])
        with pytest.raises(UnknownJob):
            call.result(60)


def away(*_: object) -> list[Any]:
    raise LedgerUnavailable("Redis does not answer")


def test_a_redis_that_is_away_for_too_long(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.ends = runs()
    monkeypatch.setattr("jaas_submit.client.wait.RETRY_PAUSE_S", 0.01)
    monkeypatch.setattr("jaas_submit.client.wait.REDIS_OUTAGE_TIMEOUT_S", 0.0)
    with Executor("python", client=client) as pool:
        with monkeypatch.context() as now:
            now.setattr("jaas_submit.executor.executor.outlines", away)
            with pytest.raises(LedgerUnavailable):
                pool.submit(len, []).result(60)
        client.ends = succeeds({"jaas_call": 1, "value": 7})
        assert pool.submit(len, []).result(60) == 7


def test_a_redis_that_is_away_at_the_first_look(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaas_submit.client.wait.RETRY_PAUSE_S", 0.01)
    client.ends = succeeds({"jaas_call": 1, "value": 7})
    answers = iter([away])

    def first_away(*given: Any) -> list[Any]:
        return next(answers, outlines)(*given)

    monkeypatch.setattr("jaas_submit.executor.executor.outlines", first_away)
    with Executor("python", client=client) as pool:
        assert pool.submit(len, []).result(60) == 7
    assert next(answers, None) is None


def test_a_store_that_is_away(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    fetch = client.fetch

    def store(value: Any) -> Any:
        asked.append(value)
        if value["value"] == "lost" or len(asked) == 1:
            raise StoreUnavailable("the store does not answer")
        return fetch(value)

    monkeypatch.setattr(client, "fetch", store)
    with Executor("python", client=client) as pool:
        client.ends = succeeds({"jaas_call": 1, "value": 7})
        assert pool.submit(len, []).result(60) == 7
        assert len(asked) == 2
        monkeypatch.setattr("jaas_submit.client.wait.REDIS_OUTAGE_TIMEOUT_S", 0.0)
        client.ends = succeeds({"jaas_call": 1, "value": "lost"})
        lost = pool.submit(len, [])
        client.ends = succeeds({"jaas_call": 1, "value": 8})
        assert pool.submit(len, []).result(60) == 8
        with pytest.raises(StoreUnavailable):
            lost.result(60)


def test_a_callback_that_exits_does_not_end_the_others(client: FakeClient) -> None:
    client.ends = runs()
    with Executor("python", client=client) as pool:
        calls = [pool.submit(len, []) for _ in range(2)]
        calls[0].add_done_callback(lambda _: sys.exit(3))
        for call in calls:
            client.end(call.job, succeeds({"jaas_call": 1, "value": 7}))
            assert call.result(60) == 7


def test_an_answer_that_exits_fails_alone(client: FakeClient) -> None:
    class Exits:
        def __reduce__(self) -> tuple[Any, ...]:
            return sys.exit, (3,)

    with Executor("python", client=client, python=sys.executable, unpickle=True) as pool:
        with pytest.raises(FunctionFailed, match="its answer raised SystemExit: 3"):
            pool.submit(Exits).result(60)
        assert pool.submit(len, "ab").result(60) == 2


def test_a_watcher_that_fails_gives_up_its_futures_and_is_replaced(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ends = runs()

    def broken(*_: object) -> list[Any]:
        raise MemoryError("no room")

    with Executor("python", client=client) as pool:
        with monkeypatch.context() as now:
            now.setattr("jaas_submit.executor.executor.outlines", broken)
            call = pool.submit(len, [])
            with pytest.raises(JaasError, match=f"job {call.job.id} goes on, .*MemoryError: no room") as caught:
                call.result(60)
        assert isinstance(caught.value.__cause__, MemoryError)
        client.ends = succeeds({"jaas_call": 1, "value": 7})
        assert pool.submit(len, []).result(60) == 7


@pytest.mark.parametrize(("calls", "seconds"), [(0, 0.05), (100, 0.05), (200, 0.1), (20_000, 10.0)])
def test_many_open_calls_are_read_less_often(calls: int, seconds: float) -> None:
    assert shortest_pause(calls) == pytest.approx(seconds)


def test_new_calls_do_not_have_all_others_read_at_once(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.ends = runs()
    pauses: list[float] = []
    reads: list[int] = []
    paused, go_on = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        paused.set()
        assert go_on.wait(60)

    def read(ledger: Any, ids: Sequence[str]) -> list[Any]:
        reads.append(len(ids))
        return outlines(ledger, ids)

    monkeypatch.setattr("jaas_submit.executor.executor.time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("jaas_submit.executor.executor.outlines", read)
    with Executor("python", client=client) as pool:
        calls = [pool.submit(len, [])]
        assert paused.wait(60)
        calls += [pool.submit(len, []) for _ in range(2)]
        assert (reads, pauses) == ([1], [0.05])
        for call in calls:
            client.end(call.job, succeeds({"jaas_call": 1, "value": 7}))
        go_on.set()
        assert [call.result(60) for call in calls] == [7, 7, 7]
        assert reads == [1, 3]

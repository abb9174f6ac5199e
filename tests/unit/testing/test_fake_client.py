"""The clients in memory: the suite of all clients, and what only they have."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaas_submit import AsyncClient, Cause, Client, JaasError, JobFailed, JobSpec, JobState, SpecError, WaitTimeout
from jaas_submit.testing import Ending, FakeAsyncClient, FakeClient, fails, runs, succeeds
from tests.support.client_contract import ClientContract, ending_of
from tests.support.pages import DOCS
from tests.support.twins import TWINS, twin_of

SPEC = JobSpec(image="alpine")


class TestFakeClients(ClientContract):
    @pytest.fixture(params=TWINS)
    def client(self, request: pytest.FixtureRequest) -> Iterator[Client]:
        if request.param == "sync":
            with FakeClient(ending_of) as client:
                yield client
        else:
            with twin_of(lambda: FakeAsyncClient(ending_of)) as twin:
                yield twin


def test_jobs_succeed_if_nothing_is_said() -> None:
    with FakeClient() as client:
        assert client.submit(SPEC).state is JobState.SUCCEEDED
        assert repr(client) == "FakeClient('memory://', queue='jaas', prefix='jaas')"


def test_the_same_functions_take_both_kinds() -> None:
    def submit(client: Client) -> JobState:
        return client.submit(SPEC).state

    async def submit_async(client: AsyncClient) -> JobState:
        return await (await client.submit(SPEC)).state()

    async def run() -> JobState:
        async with FakeAsyncClient(fails(cause="oom")) as client:
            return await submit_async(client)

    assert submit(FakeClient()) is JobState.SUCCEEDED
    assert asyncio.run(run()) is JobState.FAILED


def test_what_was_submitted_is_told_in_order() -> None:
    with FakeClient(runs()) as client:
        client.map(SPEC.changed({"command": ["{item}"]}), ["a", "b"])
        client.ends = succeeds()
        client.submit({"image": "busybox"})
        assert [(spec.image, spec.command) for spec in client.submitted()] == [
            ("alpine", ("a",)),
            ("alpine", ("b",)),
            ("busybox", None),
        ]


@pytest.mark.parametrize(
    ("ending", "cause", "code", "node"),
    [
        (fails(), Cause.EXIT, 1, "memory"),
        (fails(4), Cause.EXIT, 4, "memory"),
        (fails(cause=Cause.OOM), Cause.OOM, 137, "memory"),
        (fails(cause="image", reason="no such image"), Cause.IMAGE, None, None),
        (fails(cause="run_timeout", stdout="half"), Cause.RUN_TIMEOUT, 143, "memory"),
        (fails(cause="node_lost"), Cause.NODE_LOST, None, "memory"),
    ],
)
def test_failures(ending: Ending, cause: Cause, code: int | None, node: str | None) -> None:
    with FakeClient(ending) as client, pytest.raises(JobFailed, match=ending.reason or "failed") as caught:
        client.submit(SPEC).wait(1)
    result = caught.value.result
    assert result is not None
    assert (result.cause, result.exit_code, result.node, result.stdout) == (cause, code, node, ending.stdout)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"cause": "cancelled"}, "no job fails by cancelled"),
        ({"cause": "nope"}, "cause: "),
        ({"exit_code": 0}, "a job that exits with 0 has succeeded"),
    ],
)
def test_failures_that_cannot_be(arguments: dict[str, str], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        fails(**arguments)  # type: ignore[arg-type] # that is the point


def test_an_output_that_the_description_does_not_declare() -> None:
    with FakeClient(succeeds({"n": 1})) as client:
        with pytest.raises(SpecError, match=r'declares no output; add output="json"'):
            client.submit(SPEC)
        result = client.submit(SPEC.changed({"output": "json"})).wait(1)
        assert (result.output, result.stdout) == ({"n": 1}, '{"n": 1}\n')


def test_what_the_test_raises_comes_out_of_the_call() -> None:
    def strict(spec: JobSpec) -> Ending:
        raise AssertionError(f"{spec.image} is not expected")

    with FakeClient(strict) as client:
        with pytest.raises(AssertionError, match="alpine is not expected"):
            client.submit(SPEC)
        (record,) = client.active()
        assert record.state is JobState.RUNNING


def test_a_job_that_runs_is_ended_by_the_test() -> None:
    with FakeClient(runs()) as client:
        first, second = client.submit_many([SPEC, SPEC])
        threading.Timer(0.1, client.end, (first,)).start()
        assert first.wait(30).ok
        client.end(second.id, fails(2))
        assert second.result().exit_code == 2
        with pytest.raises(JaasError, match="is FAILED, and only one that runs can be ended"):
            client.end(second)


def test_a_start_time_is_kept_until_the_test_goes_on() -> None:
    with FakeClient() as client:
        handle = client.submit(SPEC, not_before=0.05)
        assert handle.state is JobState.WAITING
        with pytest.raises(WaitTimeout):
            handle.wait(0.1)
        client.play()
        assert handle.done()


def test_the_environment_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAAS_REDIS_URL", "JAAS_QUEUE", "JAAS_PREFIX", "JAAS_STORE_URL"):
        monkeypatch.setenv(name, "no such thing://")
    assert FakeClient().submit(SPEC).done()


def test_the_documented_example_runs(tmp_path: Path) -> None:
    page = (DOCS / "testing.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)).replace(
        "from shop import convert\n", ""
    )
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(code, "docs/testing.md", "exec"), names)
    tests = [test for name, test in names.items() if name.startswith("test_") and callable(test)]
    assert len(tests) == 3
    for test in tests:
        test()

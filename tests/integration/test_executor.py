"""``Executor`` with real containers: an image that has Python and nothing else."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from concurrent.futures import as_completed

import pytest

from jaas_submit import Client, Executor, FunctionFailed, JobState
from tests.support.jobs import LONG, until

IMAGE, ITS_PYTHON = "jaas-python:bookworm", (3, 11)


@pytest.fixture
def pool(client: Client) -> Iterator[Executor]:
    with Executor(IMAGE, client=client, stop_grace="1s") as made:
        yield made


@pytest.mark.usefixtures("worker")
def test_functions_run_in_containers_of_the_same_python(client: Client, pool: Executor) -> None:
    if sys.version_info[:2] != ITS_PYTHON:  # then that is all that can be seen here
        with pytest.raises(FunctionFailed, match=r"the image runs Python 3\.11, the caller"):
            pool.submit(len, []).result(LONG)
        return
    here = platform.node()

    def where(number: int) -> tuple[int, str]:
        return number * number, platform.node()

    found = list(pool.map(where, range(3), timeout=LONG))
    assert [square for square, _ in found] == [0, 1, 4]
    assert len({node for _, node in found} - {here}) == 3

    def divide(number: int) -> float:
        return 1 / number

    good, bad = pool.submit(divide, 2), pool.submit(divide, 0)
    assert set(as_completed([good, bad], LONG)) == {good, bad}
    assert good.result() == 0.5
    with pytest.raises(ZeroDivisionError) as caught:
        bad.result()
    assert "in divide" in str(caught.value.__cause__)
    assert client.handle(bad.job.id).state is JobState.FAILED

    def sleeps() -> None:
        import time

        time.sleep(600)

    slow = pool.submit(sleeps)
    until(client, slow.job.id, JobState.RUNNING)
    assert slow.running()
    assert slow.cancel()

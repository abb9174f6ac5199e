"""What holds for every ``Client``: the real one with a real worker, and the one in memory.

A job's command is a piece of shell, and ``ENDINGS`` says how a client in memory has it end.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from jaas_submit import (
    BatchFailed,
    Cause,
    Client,
    JobCancelled,
    JobFailed,
    JobNotEnded,
    JobSpec,
    JobState,
    Piece,
    SpecError,
    UnknownJob,
    WaitTimeout,
)
from jaas_submit.testing import Ending, fails, runs, succeeds
from tests.support.jobs import LONG, shell, until

__all__ = ["ClientContract", "ending_of"]

HELLO, OOPS, NUMBER, TEXT, SLEEP = (
    "echo hello",
    "echo oops >&2; exit 3",
    """echo some text; echo '{"n": 1}'""",
    "echo no json",
    "exec sleep 600",
)

ENDINGS: Final[dict[str, Ending]] = {
    HELLO: succeeds(stdout="hello\n"),
    OOPS: fails(3, stderr="oops\n"),
    NUMBER: succeeds(stdout='some text\n{"n": 1}\n'),
    TEXT: succeeds(stdout="no json\n"),
    SLEEP: runs(),
}


def ending_of(spec: JobSpec) -> Ending:
    """Return how a job of this suite ends."""
    assert spec.command is not None
    return ENDINGS[spec.command[2]]


class ClientContract:
    """The suite; a subclass gets its ``client`` from a fixture."""

    def test_a_job_that_succeeds(self, client: Client) -> None:
        handle = client.submit(shell(HELLO, labels={"suite": "contract"}))
        result = handle.wait(LONG)
        assert (result.state, result.cause, result.exit_code) == (JobState.SUCCEEDED, Cause.EXIT, 0)
        assert (result.stdout, result.stderr, result.output) == ("hello\n", "", None)
        assert len(result.attempts) == 1
        assert result.started_at is not None
        assert handle.done()
        assert handle.result().ok
        assert handle.logs().stdout_bytes == b"hello\n"
        assert b"".join(one.data for one in handle.logs(follow=True) if isinstance(one, Piece)) == b"hello\n"
        assert [change.state for change in handle.follow(LONG)][-1] is JobState.SUCCEEDED
        assert handle.id in {record.id for record in client.history("succeeded", labels={"suite": "contract"})}
        assert handle.cancel("too late") is JobState.SUCCEEDED

    def test_a_job_that_fails(self, client: Client) -> None:
        handle = client.submit(shell(OOPS))
        with pytest.raises(JobFailed, match="failed with exit code 3") as caught:
            handle.wait(LONG)
        assert caught.value.exit_code == 3
        assert str(caught.value).endswith("last output:\noops")
        assert handle.wait(LONG, check=False).stderr == "oops\n"
        assert handle.id in {record.id for record in client.history(JobState.FAILED, cause="exit")}
        again = client.replay(handle.id, command=["sh", "-c", HELLO])
        assert again.wait(LONG).ok
        assert again.record().replay_of == handle.id

    @pytest.mark.parametrize(
        ("text", "kind", "output"), [(NUMBER, "json", {"n": 1}), (HELLO, "text", "hello\n"), (TEXT, "json", None)]
    )
    def test_typed_output(self, client: Client, text: str, kind: str, output: Any) -> None:
        result = client.submit(shell(text, output=kind)).wait(LONG, check=False)
        assert result.output == output
        assert result.cause is (Cause.OUTPUT if output is None else Cause.EXIT)

    def test_what_is_not_known(self, client: Client) -> None:
        for call in (lambda: client.wait("nope"), lambda: client.handle("nope"), lambda: client.explain("nope")):
            with pytest.raises(UnknownJob, match="no job nope is known"):
                call()
        with pytest.raises(UnknownJob, match="no batch nope is known"):
            client.batch("nope")
        with pytest.raises(SpecError, match="image"):
            client.submit({"command": ["true"]})

    def test_a_key_makes_one_job_of_two_calls(self, client: Client) -> None:
        one, same = (client.submit(shell(HELLO), key="contract") for _ in range(2))
        assert (one.id == same.id, one.existing, same.existing) == (True, False, True)

    def test_jobs_after_others(self, client: Client) -> None:
        well, badly = client.submit(shell(HELLO)), client.submit(shell(OOPS))
        after_well, after_badly = (client.submit(shell(HELLO), after=[job]) for job in (well, badly))
        anyway = client.submit(shell(HELLO), after=[badly], on="failure")
        assert after_well.wait(LONG).ok
        with pytest.raises(JobCancelled, match="was skipped"):
            after_badly.wait(LONG)
        assert anyway.wait(LONG).ok

    def test_a_job_that_runs_until_it_is_cancelled(self, client: Client) -> None:
        handle = client.submit(shell(SLEEP, stop_grace="1s"))
        until(client, handle.id, JobState.RUNNING)
        with pytest.raises(WaitTimeout):
            handle.wait(0.1)
        for call in (handle.result, lambda: client.forget(handle.id)):
            with pytest.raises(JobNotEnded):
                call()
        assert handle.id in {record.id for record in client.active()}
        later = client.submit(shell(HELLO), not_before=3600)
        assert later.state is JobState.WAITING
        assert later.cancel() is JobState.WAITING
        assert handle.cancel("seen enough") is JobState.RUNNING
        with pytest.raises(JobCancelled, match="seen enough"):
            handle.wait(LONG)

    def test_a_batch(self, client: Client) -> None:
        batch = client.map(JobSpec(image=shell("").image, command=["sh", "-c", "{item}"]), [HELLO, OOPS, HELLO])
        with pytest.raises(BatchFailed, match=r"2 of 3 jobs succeeded.*1 x exit code 3"):
            batch.wait(LONG)
        assert [result.exit_code for result in batch.results(ordered=True, timeout=LONG)] == [0, 3, 0]
        assert [record.index for record in batch.failed] == [1]
        assert [batch.job(index).done() for index in range(3)] == [True] * 3
        again = batch.retry_failed(command=["sh", "-c", HELLO], in_place=True)
        assert again.wait(LONG).state is JobState.SUCCEEDED

    def test_map_reduce(self, client: Client) -> None:
        both = [shell(NUMBER, output="json")] * 2
        assert client.map_reduce(both[0], ["a", "b"], both[1], fan_in=2).wait(LONG).output == {"n": 1}

    def test_several_jobs_at_once(self, client: Client) -> None:
        handles = client.submit_many([shell(HELLO), shell(OOPS)])
        assert {handle.id for handle in client.as_completed(handles, LONG)} == {handle.id for handle in handles}
        assert [result.exit_code for result in client.gather(handles, LONG, check=False)] == [0, 3]
        with pytest.raises(JobFailed):
            client.gather(handles, LONG)

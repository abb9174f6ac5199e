"""The output of a job, written by a test in the place of an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from jaas_submit import LogLine, Logs, LogStatus, Piece
from jaas_submit.ledger import Ledger
from jaas_submit.model.logs import Stream
from jaas_submit.output import FeedEnd, Feeds
from tests.support.stage import HOLDER, Stage, ended
from tests.support.wait import eventually

__all__ = ["WRITTEN_AT", "OutputScene", "meanwhile"]

WRITTEN_AT = "2026-11-30T12:00:00.000000001Z"


@contextmanager
def meanwhile(play: Callable[[], object]) -> Iterator[None]:
    """Run a function in a thread; wait for its end."""
    with ThreadPoolExecutor(1) as pool:
        playing = pool.submit(play)
        yield
        playing.result(30)


class OutputScene:
    """A job, its worker's part, and the writer of its output.

    Args:
        ledger: where the job is.
        stage: plays the worker's part.
    """

    def __init__(self, ledger: Ledger, stage: Stage) -> None:
        self.ledger = ledger
        self.stage = stage
        self.feeds = Feeds(ledger.client, ledger.prefix)
        self.job = ""
        self.at: dict[Stream, int] = {"stdout": 0, "stderr": 0}

    def feed(self, attempt: int = 1) -> str:
        """Return the feed that is wanted of an attempt, as soon as it is."""

        def wanted() -> list[str]:
            return [one.feed for one in self.feeds.wanted([self.job]).get(self.job, []) if one.attempt == attempt]

        return eventually(wanted, what="a watch")[0]

    def write(self, data: bytes, attempt: int = 1, *, err: bool = False) -> None:
        """Append to the feed of an attempt."""
        stream: Stream = "stderr" if err else "stdout"
        assert self.feeds.append(self.feed(attempt), [Piece(stream, self.at[stream], WRITTEN_AT, data)])
        self.at[stream] += len(data)

    def end_feed(self, attempt: int = 1) -> None:
        """Say that all was written."""
        self.feeds.finish(self.feed(attempt), FeedEnd("complete", "", self.at["stdout"], self.at["stderr"]))

    def end(self, text: str, status: LogStatus = LogStatus.COMPLETE, code: int = 0) -> None:
        """End the job in the ledger, with this output stored."""
        logs = Logs(
            (LogLine(WRITTEN_AT, "stdout", text.encode()),), status, "" if status is LogStatus.COMPLETE else "cut"
        )
        assert self.ledger.ownership.finish(self.job, HOLDER, [ended(code=code)], logs)

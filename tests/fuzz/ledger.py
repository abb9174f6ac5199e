"""Level ``ledger``: poisoned keys in a real Redis.

What a case must show, where one record, worker or batch is poisoned: the reconciler's round raises nothing and takes
up the good jobs, every list holds the good ones, and who asks for the poisoned one gets a documented error at most.
Where a key that all share has another type, everything may fail, but with a documented error.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Iterator
from typing import Any, Final

from jaas_submit import Client
from jaas_submit.connection import connect
from jaas_submit.errors import JaasError
from jaas_submit.ledger import Ledger
from jaas_worker.maintenance.reconciler import Reconciler
from jaas_worker.messaging.kept_messages import message_of
from jaas_worker.settings import Settings
from tests.fuzz.cases import Case, Failure, Hang, random_of, sentence_defect, within
from tests.fuzz.poison import Poison, poison
from tests.fuzz.scene import BATCHES, GOOD, LABEL, TAKEN, VICTIMS, Scene
from tests.support.maintained import MaintainedWorker

__all__ = ["LEVEL", "LedgerLevel"]

LEVEL: Final = "ledger"
_PREFIX: Final = "fuzz"
_GROWTH: Final = 640 * 2**10
"""KiB by which a case may raise the peak of this process' memory: twice the 256 MiB that a log may have, and a bit."""


class LedgerLevel:
    """Runs cases of this level.

    Args:
        url: of a Redis that nobody else uses: its database is emptied.
    """

    def __init__(self, url: str) -> None:
        self._client = Client(url, queue="q", prefix=_PREFIX)
        self._raw = connect(url)
        self._scene = Scene(self._raw, _PREFIX)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._raw.close()

    def restore(self) -> None:
        """Put everything back as it is before a case."""
        self._scene.restore()

    def case(self, seed: int, number: int) -> Case:
        """Return a case; the scene is restored for it."""
        self.restore()
        one = poison(random_of(seed, LEVEL, number), self._raw, _PREFIX)
        return Case(LEVEL, number, one.title, one)

    def run(self, seed: int, first: int, count: int) -> list[Failure]:
        """Run cases; return what failed.

        Args:
            seed: of the run.
            first: number of the first case.
            count: how many.
        """
        found = []
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # each case has something to warn of
        try:
            for number in range(first, first + count):
                one = self.case(seed, number)
                found += [Failure(seed, one.name, one.title, why) for why in self.check(one)]
        finally:
            logging.disable(before)
        return found

    def check(self, one: Case) -> list[str]:
        """Return which promises a case shows to be broken."""
        done: Poison = one.content
        done.apply(self._raw, _PREFIX)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with within():
                wrong = [*self._lists(done), *self._single(), *self._round(done)]
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            return [*wrong, f"it took {grown >> 10} MiB of memory"] if grown > _GROWTH else wrong
        except Hang as error:
            return [str(error)]

    def _lists(self, done: Poison) -> Iterator[str]:
        """Read what holds many; yield what is wrong."""
        client, ledger = self._client, self._client.ledger
        readers: dict[str, Callable[[], object]] = {
            "history": lambda: {record.id for record in client.history(limit=1000)} >= set(GOOD),
            "active": lambda: {record.id for record in client.active()} >= set(GOOD) - {"good-ended"},
            "ids": lambda: set(ledger.queries.ids()) >= set(GOOD),
            "find": lambda: {record.id for record in ledger.queries.find([*VICTIMS, *GOOD])} >= set(GOOD),
            "outlines": lambda: {one.id for one in ledger.queries.outlines([*VICTIMS, *GOOD])} >= set(GOOD),
            "counts": ledger.queries.counts,
            "standing": ledger.queries.counts_and_ages,
            "batches": lambda: BATCHES["good"] in {batch.id for batch in ledger.batches.recent()},
            "workers": lambda: "living-worker" in {one["holder"] for one in ledger.queries.workers()},
            "result of a good job": lambda: client.result("good-ended").output == {"a": 1},
            "output of a good job": lambda: client.logs("good-ended").text == "out\n",
        }
        for name, read in readers.items():
            try:
                complete = read()
            except JaasError as error:
                if not done.shared:
                    yield f"{name}: {type(error).__name__}: {str(error)[:200]}"
            except Exception as error:  # noqa: BLE001 (any but the documented one is what we look for)
                yield f"{name}: {type(error).__name__}: {str(error)[:200]!r} comes out"
            else:
                if not complete and not done.shared:
                    yield f"{name}: lacks good ones"

    def _single(self) -> Iterator[str]:
        """Ask for each victim, of which the asker may be told that it cannot be read; yield what is wrong."""
        client, ledger = self._client, self._client.ledger
        asked: list[tuple[str, Callable[..., object], tuple[Any, ...]]] = [
            ("result", client.result, ("bad-ended",)),
            *(("logs", client.logs, (job_id,)) for job_id in VICTIMS),
            *(("explain", client.explain, (job_id,)) for job_id in VICTIMS),
            ("batch", ledger.batches.get, (BATCHES["bad"],)),
            ("cluster", ledger.queries.cluster, ()),
        ]
        for name, read, arguments in asked:
            if why := self._documented(name, read, *arguments):
                yield why

    @staticmethod
    def _documented(name: str, read: Callable[..., object], *arguments: Any) -> str:
        try:
            read(*arguments)
        except JaasError as error:
            wrong = sentence_defect(str(error))
            return f"{name}: {wrong}" if wrong else ""
        except ValueError as error:
            # What a result says of a job in a state that only a newer version knows.
            return "" if "has not ended" in str(error) else f"{name}: ValueError: {str(error)[:200]!r} comes out"
        except Exception as error:  # noqa: BLE001 (as above)
            return f"{name}: {type(error).__name__}: {str(error)[:200]!r} comes out"
        return ""

    def _round(self, done: Poison) -> Iterator[str]:
        """Have a reconciler make two rounds; yield what is wrong."""
        taken: list[str] = []
        reconciler = _reconciler(self._client.ledger, taken)
        for _ in range(2):
            try:
                reconciler.run_once()
            except JaasError as error:
                if not done.shared:
                    yield f"the reconciler's round: {type(error).__name__}: {str(error)[:200]}"
            except Exception as error:  # noqa: BLE001 (as above)
                yield f"the reconciler's round: {type(error).__name__}: {str(error)[:200]!r} comes out"
        missing = [job_id for job_id in TAKEN if job_id not in taken]
        if missing and not done.shared:
            yield f"the reconciler did not take {missing}"


def _reconciler(ledger: Ledger, taken: list[str]) -> Reconciler:
    """Return a reconciler of a worker that reads what it takes, as the pool does."""

    def taking(job_id: str) -> None:
        record = ledger.queries.get(job_id)
        assert ledger.ownership.foreign_message(job_id) or message_of(record)

    worker = MaintainedWorker(taking, taken=taken)
    return Reconciler(
        Settings(redis_url="redis://unused", queue="q"), ledger, Scene.engine(), "living-worker", LABEL, worker
    )

"""``Executor``: calls of Python functions, each in a container."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from datetime import timedelta
from types import ModuleType
from typing import Any, Final, ParamSpec, TypeVar

from jaas_submit.client.client import Client
from jaas_submit.client.queries import outlines
from jaas_submit.client.wait import Outage
from jaas_submit.errors import (
    FunctionFailed,
    JaasError,
    LedgerUnavailable,
    SpecError,
    StoreUnavailable,
    UnknownJob,
)
from jaas_submit.executor.calls import COMMAND, call_input, exception_of, job_name, name_of, value_of
from jaas_submit.executor.futures import JobFuture
from jaas_submit.model.bounds import shown
from jaas_submit.model.job_spec import MAX_SPEC_BYTES, JobSpec
from jaas_submit.model.states import JobState

__all__ = ["Executor", "shortest_pause"]

P = ParamSpec("P")
T = TypeVar("T")

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_READ_AT_ONCE: Final = 100
"""For each so many open calls the shortest pause grows by the first one: the load on Redis does not grow with them."""

_OWN_FIELDS: Final = ("command", "entrypoint", "input", "input_lines", "gather", "output", "check")


class Executor(futures.Executor):
    """Calls Python functions in containers; a ``concurrent.futures.Executor``.

    Each call is a job. Its function and its arguments are pickled (cloudpickle, by value where they are not from an
    installed module) and unpickled in the container. What it returns comes back as JSON, so that a container cannot run
    code here.

    Args:
        image: an image with the Python that runs here (the same 3.x), as ``python3``. It needs no other package than
            those that the function imports.
        client: submits the jobs; None makes a ``Client()``, which ``shutdown`` closes.
        unpickle: take any picklable value and exception back. Then whoever can write what the container answers (the
            image, the swarm, Redis) can run code here.
        by_value: modules of yours that the image does not have: their functions and classes are sent along.
        python: the name of Python in the image.
        fields: further fields of each job's description, such as ``limits={"memory": "2G"}`` or ``retry``.

    Raises:
        SpecError: a field is not valid, or is one that the executor sets itself.
    """

    def __init__(
        self,
        image: str,
        *,
        client: Client | None = None,
        unpickle: bool = False,
        by_value: Sequence[ModuleType] = (),
        python: str = "python3",
        **fields: Any,
    ) -> None:
        if taken := [name for name in _OWN_FIELDS if name in fields]:
            raise SpecError(f"{taken[0]}: the executor sets it itself; leave it out", field=taken[0])
        self._spec = JobSpec.parse({"image": image, **fields, "command": [python, "-c", COMMAND], "output": "json"})
        self.client = Client() if client is None else client
        """What submits the jobs."""
        self._own_client = client is None
        self._unpickle = unpickle
        self._by_value = tuple(by_value)
        self._open: dict[str, JobFuture[Any]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._new = False
        self._stores: dict[str, Outage] = {}
        self._watcher: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"Executor({self._spec.image!r}, {len(self._open)} open)"

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]:
        """Call a function in a container.

        Args:
            fn: the function.
            args: its arguments.
            kwargs: its named arguments.

        Returns:
            Its future; ``future.job`` is the job. ``result()`` raises what the function raised, if that is a built-in
            exception or with ``unpickle``, else ``FunctionFailed``; the traceback in the container is its cause.
            ``JobFailed`` means that the container failed: no such image, too little memory, cancelled.

        Raises:
            SpecError: it cannot be pickled, or is too large.
            RuntimeError: after ``shutdown``.
            LedgerUnavailable: Redis does not answer.
        """
        name = name_of(fn)
        call = call_input(fn, args, kwargs, self._by_value, unpickle=self._unpickle)
        size = sum(len(value) for value in call.values() if isinstance(value, str))
        if size > MAX_SPEC_BYTES and self.client.store is None:
            raise SpecError(
                f"{name}: function and arguments have {size:,} bytes, more than the {MAX_SPEC_BYTES:,} allowed; pass a "
                "path or URL instead of the data, or set JAAS_STORE_URL, for workers too",
                field="input",
            )
        with self._changed:
            if self._closed:
                raise RuntimeError("the executor has been shut down and takes no more calls")
            job = self.client.submit(self._spec.changed({"name": self._spec.name or job_name(name)}), input=call)
            future: JobFuture[T] = JobFuture(job, name)
            self._open[job.id] = future
            self._new = True
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="jaas executor", daemon=True)
                self._watcher.start()
            self._changed.notify()
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Iterator[T]:
        """Call a function for each item; yield the results in order.

        Args:
            fn: the function.
            iterables: its arguments, as for the built-in ``map``.
            timeout: seconds to wait for a result, from this call on; None waits for ever.
            chunksize: how many items a container gets: starting it takes longer than a short call.
            more: what Python's own ``map`` takes, such as ``buffersize`` (3.14).

        Raises:
            ValueError: ``chunksize`` is less than 1.
            TimeoutError: the time has passed; the calls that have not ended are cancelled.
        """
        if chunksize < 1:
            raise ValueError("chunksize: must be 1 at least")
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=seconds, **more)
        several = super().map(_of_each(fn), _chunks(zip(*iterables, strict=False), chunksize), timeout=seconds, **more)
        return itertools.chain.from_iterable(several)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for those that there are.

        Args:
            wait: whether to wait. Otherwise their futures are settled while this process lives, and the jobs go on.
            cancel_futures: cancel the calls whose container does not run yet.

        Raises:
            LedgerUnavailable: Redis does not answer a cancellation.
        """
        with self._changed:
            self._closed = True
            waiting = dict(self._open) if cancel_futures else {}
            watcher = self._watcher
            self._changed.notify()
        for one in outlines(self.client.ledger, list(waiting)) if waiting else ():
            if one.state is not JobState.RUNNING:
                waiting[one.id].cancel()
        if wait and watcher is not None:
            watcher.join()
        if watcher is None:
            self._close()

    def _close(self) -> None:
        if self._own_client:
            self.client.close()

    def _watch(self) -> None:
        """Settle the futures of calls that have ended, until the executor is shut down and none is left."""
        try:
            self._settle_all()
        except BaseException as error:  # noqa: BLE001 (whatever it is, nobody may wait for ever for a thread that ended)
            closed = self._abandon(error)
        else:
            closed = True
        if closed:
            self._close()

    def _settle_all(self) -> None:
        pause, outage = _FIRST_PAUSE_S, Outage()
        outage.over()  # Redis has just taken a call
        while waiting := self._next():
            try:
                ended = self._settle(waiting)
                outage.over()
            except LedgerUnavailable as error:
                ended = self._bear(outage, error, waiting)
            with self._changed:
                for job_id in ended:
                    self._open.pop(job_id, None)
                    self._stores.pop(job_id, None)
                left = len(self._open)
            shortest = shortest_pause(left)
            pause = shortest if ended else max(shortest, min(pause * 1.5, _LONGEST_PAUSE_S))
            if left and self._has_new_after(shortest, pause):
                pause = _FIRST_PAUSE_S

    def _has_new_after(self, shortest: float, longest: float) -> bool:
        """Wait, and return whether there is a new call, which ends the wait after the shortest time."""
        time.sleep(shortest)  # not for each new call: all open ones are read after it
        with self._changed:
            return self._changed.wait_for(lambda: self._new, longest - shortest)

    def _abandon(self, error: BaseException) -> bool:
        """Let all futures fail, as their watcher ends; the next call gets a new one. Return whether none may come."""
        with self._changed:
            left, self._open, self._watcher = self._open, {}, None
            self._stores.clear()
            closed = self._closed
        for future in left.values():
            lost = JaasError(
                f"job {future.job.id} goes on, but its executor failed: {type(error).__name__}: {shown(str(error))}; "
                "Client.handle(id).result() has its output"
            )
            lost.__cause__ = error
            future.give_up(lost)
        return closed

    def _next(self) -> dict[str, JobFuture[Any]]:
        """Wait for calls, and return those that are open; none when the executor has been shut down."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or self._closed)
            self._new = False
            return dict(self._open)

    def _bear(self, outage: Outage, error: LedgerUnavailable, waiting: Mapping[str, JobFuture[Any]]) -> Sequence[str]:
        """Wait a little for a Redis that is away; when it is away for too long, let all futures fail."""
        try:
            time.sleep(outage.retry_delay(error))
        except LedgerUnavailable as last:
            for future in waiting.values():
                future.give_up(last)
            outage.over()  # the next outage is another one: a further call comes only if Redis has taken it
            return list(waiting)
        return ()

    def _settle(self, waiting: Mapping[str, JobFuture[Any]]) -> Sequence[str]:
        """Settle those of the futures whose job has ended; return the ids of the jobs."""
        found = {one.id: one for one in outlines(self.client.ledger, list(waiting))}
        ended = [job_id for job_id in waiting if job_id not in found or found[job_id].terminal]
        return [job_id for job_id in ended if self._settle_one(waiting[job_id], known=job_id in found)]

    def _settle_one(self, future: JobFuture[Any], *, known: bool) -> bool:
        """Settle the future of a job that has ended, or has no record; return whether that is done."""
        if future.done():
            return True
        if not known:
            future.give_up(UnknownJob(f"no job {future.job.id} is known; its record may have expired"))
            return True
        try:
            result = future.job.result()
            if result.ok:
                future.settle(value_of(self.client.fetch(result.output), unpickle=self._unpickle), failed=False)
            else:
                future.settle(exception_of(result, future.name, unpickle=self._unpickle), failed=True)
        except LedgerUnavailable:
            raise
        except StoreUnavailable as error:
            return self._store_is_away(future, error)
        except JaasError as error:
            future.give_up(error)
        except Exception as error:  # noqa: BLE001 (a pickle may raise anything, and the others must not wait for it)
            future.settle(error, failed=True)
        except BaseException as error:  # noqa: BLE001 (the same; but an answer may not end this program by its exception)
            failed = FunctionFailed(f"{future.name}: its answer raised {type(error).__name__}: {shown(str(error))}")
            failed.__cause__ = error
            future.settle(failed, failed=True)
        return True

    def _store_is_away(self, future: JobFuture[Any], error: StoreUnavailable) -> bool:
        """Let a future fail when the store has not answered for too long; return whether that is so.

        Each future counts for itself: the answers of others may not be in the store.
        """
        if (outage := self._stores.get(future.job.id)) is None:
            outage = self._stores[future.job.id] = Outage()
            outage.over()  # the store took the answer
        try:
            outage.retry_delay(error)
        except StoreUnavailable as last:
            future.give_up(last)
            return True
        return False


def shortest_pause(calls: int) -> float:
    """Return the seconds between two looks at all open calls.

    Args:
        calls: how many are open.
    """
    return _FIRST_PAUSE_S * max(1.0, calls / _READ_AT_ONCE)


def _of_each(fn: Callable[..., T]) -> Callable[[Sequence[Sequence[Any]]], list[T]]:
    # A function within a function is sent by value: the image does not have jaas.
    def calls(items: Sequence[Sequence[Any]]) -> list[T]:
        return [fn(*item) for item in items]

    calls.__module__ = "__main__"
    calls.__qualname__ = name_of(fn)  # what jobs and errors are called
    return calls


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk

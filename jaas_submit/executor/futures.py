"""The future of a call."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from typing import TypeVar

from jaas_submit.client.job_handle import JobHandle
from jaas_submit.errors import JaasError
from jaas_submit.model.states import JobState

__all__ = ["JobFuture"]

T = TypeVar("T")

logger = logging.getLogger(__name__)


class JobFuture(Future[T]):
    """The future of a call in a container; ``concurrent.futures.wait`` and ``as_completed`` take it.

    Args:
        job: the call's job.
        name: of the function, for people.
    """

    def __init__(self, job: JobHandle, name: str) -> None:
        super().__init__()
        self.job = job
        self.name = name
        self._settling = threading.RLock()  # a callback may cancel, too

    def __repr__(self) -> str:
        return f"JobFuture({self.name}, job={self.job.id!r})"

    def running(self) -> bool:
        """Return whether the container runs now; this asks Redis.

        Raises:
            UnknownJob: the job's record has expired.
            LedgerUnavailable: Redis does not answer.
        """
        return not self.done() and self.job.state is JobState.RUNNING

    def cancel(self) -> bool:
        """Cancel the call; unlike other executors this one stops a container that runs, too.

        Returns:
            Whether the future is cancelled now; False if the call had ended.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        with self._settling:
            # A job that has ended meanwhile is not changed: its answer is on its way.
            if not self.done() and not self.job.cancel("its future was cancelled").is_terminal:
                super().cancel()
                self.set_running_or_notify_cancel()
            return self.cancelled()

    def settle(self, value: T | BaseException, *, failed: bool) -> None:
        """Give the future its result; a cancelled one stays as it is.

        Args:
            value: the value, or the exception.
            failed: whether it is the exception.
        """
        with self._settling:
            if self.done():
                return
            try:
                if failed and isinstance(value, BaseException):
                    self.set_exception(value)
                else:
                    self.set_result(value)  # type: ignore[arg-type] # not an exception, unless the function returned one
            except BaseException:
                if not self.done():
                    raise
                # A callback called sys.exit(), say. This thread settles other futures, too, so it may not end it.
                logger.exception("a callback of %r raised", self)

    def give_up(self, error: JaasError) -> None:
        """Let the future fail because nothing is known of its job.

        Args:
            error: why.
        """
        self.settle(error, failed=True)

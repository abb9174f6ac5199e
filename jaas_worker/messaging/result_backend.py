"""Celery's Redis result backend, in which a chord never loses its body, and storing errors do not change outcomes.

Celery 5.7.0 counts each part of a chord once, in one step, and gives one worker the claim to settle the chord (its
scripts are used here). These parts are wrong for a job that is reported until it succeeds:

* A claim has a token of the call. If its reply is lost, or the worker dies, the next report of the part counts as done,
  and nobody publishes the body. Here the token is the part's task id, so that the next report continues the claim.
* If Redis does not answer between claim and publication, or is full, Celery fails the chord. Here such an error leaves
  the part unreported, and a worker reports it again. The body may be published twice, as with Celery when a claim
  expires; a body that is a job has the same id, and runs once.
* If the next task of a chain cannot be published, Celery stores that as the task's failure.
* A part of a chord among the rest of a failed chain is counted only the first time, even if that failed: Celery skips
  it once its state is stored.
* A result is read, compared and stored in several steps, each repeated for 20 seconds, maybe on the event loop; and
  STARTED replaces a failure. Since 5.7.0 a worker does not mark a task REVOKED that another one runs; a worker that was
  suspended may still write too late.

Keys and their meaning are Celery's (``.j`` parts by index, ``.d`` those counted, ``.s`` size, ``.t`` values added to
the size,
``.c`` the claim), so that parts of one chord may run on other Celery workers.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Final

import redis
from celery import states
from celery.app.task import Context
from celery.backends import redis as stock
from celery.canvas import maybe_signature
from celery.exceptions import BackendError, BackendStoreError, ChordError
from celery.result import GroupResult, allow_join_result
from kombu.exceptions import OperationalError

from jaas_submit.errors import JobFailed
from jaas_submit.messaging.sentinel_results import SentinelBackend as OurSentinelBackend
from jaas_submit.model.wire_names import TASK_RUN
from jaas_worker.failpoints import failpoint
from jaas_worker.messaging.message_checks import UUID_ID

__all__ = ["TEMPORARY_ERRORS", "Results", "SentinelResults"]

TEMPORARY_ERRORS: Final = (redis.RedisError, OperationalError, BackendError, OSError)
"""Temporary errors of storing a result or publishing the next task: Redis is away, or refuses."""

_CLAIM_TTL_S: Final = 300
"""Seconds for which no other worker settles the chord: more than publishing the body may take (``create_app``)."""

_ORDERED: Final = 1
"""Parts are stored by their index, which is Celery's default (``result_chord_ordered``)."""

_DONE_TTL_S: Final = 600
"""Seconds for which a chord is remembered as settled, for parts that are reported again."""

_STORE: Final = """
local key, value, seconds, loud = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local known = redis.call('GET', key)
-- Other Celery workers may store compressed results, which are not JSON.
local ok, meta = pcall(cjson.decode, known or '')
local status = ok and type(meta) == 'table' and meta.status
for i = 4, #ARGV do if status == ARGV[i] then return end end
if seconds > 0 then redis.call('SET', key, value, 'EX', seconds) else redis.call('SET', key, value) end
if loud == '1' then redis.call('PUBLISH', key, value) end
"""
"""Store a task's state, unless a final one is stored; in one step, where Celery takes two or three."""


class _Chords(stock.RedisBackend):
    """The fan-in of both backends below."""

    app: Any  # these are missing in celery-types
    expires: int | None
    chord_expires: int | None
    failure_expires: int | None
    _get_result_meta: Any
    _chord_part_return_script: Any
    _chord_claim_extend_script: Any
    _chord_cleanup_script: Any
    _chord_result_expires: int
    _unpack_chord_result: Any
    _MAX_STR_VALUE_SIZE: int

    def store_started(self, task_id: str, meta: dict[str, Any], request: Any) -> None:
        """Store that a task has started, unless it has ended.

        Args:
            task_id: the task.
            meta: its displayed details.
            request: Celery's context of the task.

        Raises:
            redis.RedisError: Redis is away or refuses.
        """
        self._store(task_id, meta, states.STARTED, None, request, loud=0, stay=states.READY_STATES)

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **_: Any
    ) -> Any:
        # Not repeated here, which could block the event loop: the caller tries again.
        self._store(task_id, result, state, traceback, request, loud=1, stay=(states.SUCCESS,))
        return result

    def _store(
        self, task_id: str, result: Any, state: str, traceback: Any, request: Any, *, loud: int, stay: Iterable[str]
    ) -> None:
        named = uuid.UUID(task_id) if request is not None and request.get(UUID_ID) else task_id
        value = self.encode({**self._get_result_meta(result, state, traceback, request), "task_id": named})
        if len(value) > self._MAX_STR_VALUE_SIZE:
            raise BackendStoreError(f"task {task_id}: its result has more than {self._MAX_STR_VALUE_SIZE:,} characters")
        seconds = self.failure_expires if state == states.FAILURE else self.expires
        self.client.eval(_STORE, 1, self.get_key_for_task(task_id), value, seconds or 0, loud, *stay)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do not subscribe to results of published tasks: the worker waits for none.

        Celery would, and would try for 20 s to end a subscription when Redis is away.
        """

    def on_chord_part_return(
        self,
        request: Any,
        state: str,
        result: Any,
        propagate: bool | None = None,  # noqa: ARG002 (Celery's signature)
        **_: Any,
    ) -> None:
        """Count a part of a chord and, when it was the last one, publish the body or fail it.

        Args:
            request: Celery's context of the part.
            state: its state.
            result: what it returned or raised.

        Raises:
            redis.RedisError, OperationalError: Redis is away or refuses; call it again.
        """
        group, task_id = request.group, request.id
        if not group or not task_id:
            return
        index = "+inf" if request.group_index is None else request.group_index
        parts, counted, size, more, claim = (self.get_key_for_group(group, f".{name}") for name in "jdstc")
        part = self.encode([1, task_id, state, self.encode_result(result, state)])
        known, on_top, due, claimed = self._chord_part_return_script(
            keys=[parts, more, size, counted, self.get_key_for_group(group), claim],
            args=[
                task_id,
                part,
                _ORDERED,
                index,
                self.chord_expires or 0,
                self._chord_result_expires,
                _CLAIM_TTL_S,
                task_id,
            ],
        )
        if not due or known != int(due) + int(on_top or 0):  # no chord, a settled one, or parts are missing
            return
        # Claimed by this part already, if it is reported again.
        if not claimed and not self._chord_claim_extend_script(keys=[claim, size], args=[task_id, _CLAIM_TTL_S]):
            return
        failpoint("chord.before")
        body = maybe_signature(request.chord, app=self.app)
        try:
            values = self._values(group, parts)
        except TEMPORARY_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 (a part's failure, or whatever keeps its result from being read)
            self.chord_error_from_stack(body, _chord_error("Join error", error))
            failpoint("chord.after")
            # As with Celery: without its size the chord is settled, and what its parts have returned can be looked up.
            self.client.delete(size)
            return
        self._publish(body, values)
        failpoint("chord.after")
        self._chord_cleanup_script(keys=[claim, parts, more, size, counted], args=[task_id, _DONE_TTL_S])

    def mark_as_failure(
        self,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Store a job's failure with its consequences; raise any other error.

        Args:
            task_id: the task.
            exc: what it raised.
            traceback: where.
            request: Celery's context of the task.
            store_result: whether the failure is kept.
            call_errbacks: whether its errbacks are called.
            state: what is stored.
        """
        if getattr(request, "task", None) == TASK_RUN and not isinstance(exc, JobFailed):
            raise exc
        super().mark_as_failure(task_id, exc, traceback, request, store_result, call_errbacks, state)

    def _fail_chain(self, chain: Any, exc: Any, *args: Any, state: str = states.FAILURE, **more: Any) -> None:
        # First the states: a client that waits for a chord's body looks for a failure among its parents as soon as the
        # body has a result, and must always find the same one. Then the parts again: Celery skips a part whose state is
        # stored, maybe in a try that failed before the part was counted.
        super()._fail_chain(chain, exc, *args, state=state, **more)  # type: ignore[misc] # missing in celery-types
        for part in _parts_among(chain):
            self.on_chord_part_return(part, state, exc)

    def _publish(self, body: Any, values: list[Any]) -> None:
        try:
            body.delay(values)
        except TEMPORARY_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 (whatever keeps the body from being published)
            self.chord_error_from_stack(body, _chord_error("Callback error", error))

    def _values(self, group: str, parts: Any) -> list[Any]:
        """Return what the parts returned, in order.

        Raises:
            ChordError: one of them failed.
        """
        nested: Any = GroupResult.restore(group, backend=self, app=self.app)
        if nested is None:
            return [self._unpack_chord_result(part, self.decode) for part in self.client.zrange(parts, 0, -1)]
        # Celery stores it if parts are groups, whose values are lists.
        for part in nested.results:
            if part.failed():
                raise ChordError(f"Dependency {part.id} failed")
        nested.on_ready()
        with allow_join_result():
            values: list[Any] = nested.join_native(timeout=self.app.conf.result_chord_join_timeout, propagate=True)
        return values


def _chord_error(what: str, error: Exception) -> ChordError:
    return error if isinstance(error, ChordError) else ChordError(f"{what}: {error!r}")


def _parts_among(chain: Any) -> Iterator[Context]:
    """Return the chord parts and chord bodies among the elements of a chain."""
    left = list(chain) if isinstance(chain, list | tuple) else []
    while left:
        element: Any = Context(left.pop())
        element.update(element.options)
        element.id, element.group = element.options.get("task_id"), element.options.get("group_id")
        if "chord" in element.options:
            yield element
        if getattr(element, "subtask_type", None) == "chord" and (body := (element.kwargs or {}).get("body")):
            left.append(body)


class Results(_Chords):
    """The results of `jaas.run` in one Redis."""


class SentinelResults(_Chords, OurSentinelBackend):
    """The results of `jaas.run` in a Redis that Sentinel watches."""

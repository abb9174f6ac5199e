"""``AsyncClient``, and what it returns, behind the interface of ``Client``: one suite of tests runs on both."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import jaas_submit
from jaas_submit import AsyncBatch, AsyncClient, AsyncJobHandle, AsyncMapReduce, AsyncQueues, Client

__all__ = ["TWINS", "client_of", "twin_of"]

TWINS = ("sync", "async")
"""What the kinds of client are called, for ``client_of``."""

T = TypeVar("T")

_KINDS = (AsyncClient, AsyncJobHandle, AsyncBatch, AsyncMapReduce, AsyncQueues)


@contextmanager
def client_of(kind: str, url: str, **options: Any) -> Iterator[Client]:
    """Yield a client of one of the two kinds, to be used as a ``Client``.

    Args:
        kind: ``sync`` or ``async``.
        url: Redis URL.
        options: further arguments of both.
    """
    if kind == "sync":
        with Client(url, **options) as client:
            yield client
        return
    with twin_of(lambda: AsyncClient(url, **options)) as twin:
        yield twin


@contextmanager
def twin_of(make: Callable[[], AsyncClient]) -> Iterator[Client]:
    """Yield an asynchronous client, to be used as a ``Client``.

    Args:
        make: makes it, in the event loop.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="event loop")
    thread.start()

    async def making() -> AsyncClient:
        return make()

    try:
        made = asyncio.run_coroutine_threadsafe(making(), loop).result()
        yield cast("Client", _Twin(made, loop))
        asyncio.run_coroutine_threadsafe(made.close(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Twin:
    """Calls an object's coroutines and asynchronous generators from a thread.

    Args:
        target: the object.
        loop: runs in another thread.
    """

    def __init__(self, target: object, loop: asyncio.AbstractEventLoop) -> None:
        self.twin_target = target
        self._loop = loop

    def __repr__(self) -> str:
        return f"_Twin({self.twin_target!r})"

    def __getattr__(self, name: str) -> Any:
        (kind,) = (one for one in _KINDS if isinstance(self.twin_target, one))
        if not hasattr(self.twin_target, name):  # what the tests look at and only Client has, such as its ledger
            return getattr(self.twin_target.sync, name)  # type: ignore[attr-defined] # a twin of an async client
        value = getattr(self.twin_target, name)
        like = getattr(jaas_submit, kind.__name__.removeprefix("Async"))
        if inspect.ismethod(value):
            return self._call(value) if isinstance(getattr(like, name), property) else self._later(value)
        return self._wrapped(value)

    def _later(self, method: Any) -> Any:
        return lambda *args, **kwargs: self._call(method, *args, **kwargs)

    def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        made = method(*map(_plain, args), **{name: _plain(value) for name, value in kwargs.items()})
        if inspect.isasyncgen(made):
            return self._iterate(made)
        return self._wrapped(self._run(made) if inspect.iscoroutine(made) else made)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> list[T]:
            return [item] if (item := await anext(items, None)) is not None else []

        while found := self._run(following()):
            yield self._wrapped(found[0])

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._wrapped(one) for one in value]
        return _Twin(value, self._loop) if isinstance(value, _KINDS) else value


def _plain(value: Any) -> Any:
    """Return an argument as the asynchronous side knows it."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.twin_target if isinstance(value, _Twin) else value

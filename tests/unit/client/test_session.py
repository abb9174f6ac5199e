"""The two drivers of the waiting steps are the same code, except for ``await``."""

from __future__ import annotations

import inspect

from jaas_submit.client.session import AsyncSession, Session

WORDS = {
    "        import asyncio\n\n": "",
    "async ": "",
    "await ": "",
    "Async": "",
    "enter_async_context": "enter_context",
    "aclose": "close",
    "asyncio.to_thread(call)": "call()",
    "asyncio.sleep": "time.sleep",
    "in this task": "in this thread",
}


def test_what_asyncio_does_is_what_a_thread_does() -> None:
    text = inspect.getsource(AsyncSession.run)
    for theirs, ours in WORDS.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    assert text == inspect.getsource(Session.run)

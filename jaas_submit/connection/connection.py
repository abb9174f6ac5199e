"""The connection to Redis: how it is made, and how its errors are converted.

redis-py is imported when a client is made: it takes longer than all of jaas, and a program that imports ``Client`` may
never make one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

from jaas_submit.errors import LedgerUnavailable

if TYPE_CHECKING:
    import redis
    import redis.asyncio
    from redis.exceptions import ResponseError

__all__ = [
    "answers",
    "as_text",
    "connect",
    "connect_async",
    "database_of",
    "is_refusal",
    "master_address",
    "redis_errors",
    "replicas_asked",
    "server_info",
    "wrong_type",
]


def connect(url: str, **options: Any) -> redis.Redis:
    """Return a Redis client that reconnects, and that gives up on an answer after 10 seconds.

    Args:
        url: of a server, or ``sentinel://`` (``jaas_submit.connection.url`` describes the forms).
        options: further arguments of ``redis.Redis``.

    Raises:
        SpecError: the URL has another form.
    """
    import redis
    from redis.backoff import ExponentialBackoff
    from redis.retry import Retry

    from jaas_submit.connection.sentinel import client

    settings: dict[str, Any] = {
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 30,
        # Scripts are idempotent (compare-and-set), so that repeating one after a lost reply is safe.
        "retry": Retry(ExponentialBackoff(cap=1, base=0.05), 3),
        "retry_on_error": [redis.ConnectionError, redis.TimeoutError],  # which redis-py 5 needs explicitly
    }
    return client(url, **{**settings, **options})


def connect_async(url: str) -> redis.asyncio.Redis:
    """Return a Redis client for asyncio, for subscriptions.

    Args:
        url: as for ``connect``.
    """
    from jaas_submit.connection.sentinel import async_client

    return async_client(url)


@contextmanager
def redis_errors(what: str) -> Iterator[None]:
    """Convert Redis' errors to errors of jaas.

    Args:
        what: is being done, for the error's text.

    Raises:
        LedgerUnavailable: Redis cannot be reached, or refuses.
    """
    import redis

    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError) as error:
        raise LedgerUnavailable(f"{what}: Redis does not answer ({error})") from error
    except redis.ResponseError as error:
        # OOM, READONLY, MISCONF, NOREPLICAS, LOADING: the server refuses temporarily.
        # A pipeline's error quotes the command, which may hold a description.
        said = str(error).rpartition("caused error: ")[2]
        if isinstance(error, redis.exceptions.NoPermissionError) or "executing the script can't" in said:
            said = f"{said}; `jaas doctor` names the rule that its user lacks"
        raise LedgerUnavailable(f"{what}: Redis refuses ({said})") from error


def server_info(made: redis.Redis) -> dict[str, Any]:
    """Return what the server says of itself (INFO).

    Args:
        made: a client as ``connect`` makes it.

    Raises:
        LedgerUnavailable: Redis cannot be reached, or refuses.
    """
    with redis_errors("server"):
        info: dict[str, Any] = made.info()
    return info


def database_of(made: redis.Redis) -> int:
    """Return the number of a client's database.

    Args:
        made: a client as ``connect`` makes it.
    """
    return int(made.connection_pool.connection_kwargs.get("db") or 0)


def master_address(made: redis.Redis) -> tuple[str, int] | None:
    """Return host and port of the master that Sentinel named; None where no Sentinel was asked.

    Args:
        made: a client as ``connect`` makes it.
    """
    where: tuple[str, int] | None = getattr(made.connection_pool, "master_address", None)
    return where


def answers(pipe: Any) -> list[Any]:
    """Return the answers to a pipeline's commands; to one about a key of a wrong type the answer is the error.

    Args:
        pipe: with commands about several keys: one bad key must not prevent reading the others.

    Raises:
        redis.RedisError: Redis does not answer, or refuses for another reason.
    """
    return [wrong_type(one) if is_refusal(one) else one for one in pipe.execute(False)]


def wrong_type(error: redis.ResponseError) -> redis.ResponseError:
    """Return an error that says that a key holds another kind of value than was expected.

    Raises:
        redis.ResponseError: it says something else.
    """
    if "WRONGTYPE" not in str(error):
        raise error
    return error


def is_refusal(answer: object) -> TypeGuard[ResponseError]:
    """Return whether an answer, or an error's cause, is Redis' refusal of a command."""
    from redis.exceptions import ResponseError

    return isinstance(answer, ResponseError)


def replicas_asked(made: redis.Redis) -> int:
    """Return how many replicas must confirm a client's writes by its URL; 0 by default."""
    finder = getattr(made.connection_pool, "sentinel_manager", None)  # a ``Finder``, or redis-py's own
    return int(getattr(finder, "replicas", 0))


def as_text(value: object) -> str:
    """Return what Redis holds as text; invalid bytes are shown as escapes."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)

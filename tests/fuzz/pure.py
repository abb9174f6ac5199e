"""Level ``pure``: functions that read what arrives, without Redis, engine or threads.

What a case must show: only the documented error comes out, in bounded time, with one sentence of bounded length that
names a field and holds no control character.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any, Final

from kombu.utils.json import loads

from jaas_submit import JobSpec
from jaas_submit.errors import SpecError
from jaas_submit.model.fields import parse_duration, parse_size
from jaas_submit.model.speculation import Speculation
from jaas_submit.model.wire_names import job_id_of
from jaas_submit.signing import Gate, Producer, VerifyKey
from jaas_worker.messaging.message_checks import (
    DEFECT,
    broadcast_message,
    is_task_id,
    queue_message,
    task_defect,
    task_name,
)
from jaas_worker.tracking.exit_notice import read_exit
from tests.fuzz.cases import Case, Failure, Hang, random_of, sentence_defect, within
from tests.fuzz.mutations import mutate, mutate_bytes
from tests.fuzz.odd import as_json, as_object, odd
from tests.fuzz.policy import policy_target
from tests.fuzz.specimens import (
    AUDIENCE,
    DURATIONS,
    EVENT,
    KINDS_OF_BODY,
    SECRET,
    SIZES,
    SPECS,
    entry,
    header_of,
    message,
    new_id,
    signed,
)

__all__ = ["LEVEL", "case", "check", "run"]

LEVEL: Final = "pure"

_GATE: Final = Gate(AUDIENCE, {"k": VerifyKey("HS256", SECRET, Producer("team"))}, required=True)

_SPECULATION: Final = {"factor": 2.0, "after": 0.75, "least": "10s", "most": 0.1}


def _good(error: SpecError) -> str:
    text = str(error)
    if wrong := sentence_defect(text):
        return wrong
    if not error.field and not text.startswith("the description"):
        return f"it names no field: {text[:200]!r}"
    return ""


def _parse(data: Any) -> str:
    try:
        parsed = JobSpec.parse(data)
    except SpecError as error:
        return _good(error)
    again = JobSpec.parse(json.loads(json.dumps(parsed.to_wire())))
    if again != parsed:
        return "it is another one when it is read again"
    return ""


def _spec_object(rng: random.Random) -> tuple[str, Callable[[], str]]:
    name = rng.choice(list(SPECS))
    tree, done = mutate(rng, SPECS[name])
    data = as_object(tree)
    return f"description {name!r} as an object: {done}", lambda: _parse(data)


def _spec_text(rng: random.Random) -> tuple[str, Callable[[], str]]:
    name = rng.choice(list(SPECS))
    tree, done = (SPECS[name], "") if rng.random() < 0.4 else mutate(rng, SPECS[name])
    raw = as_json(tree)
    if rng.random() < 0.7:
        raw, more = mutate_bytes(rng, raw)
        done = f"{done}; {more}"
    data: Any = raw if rng.random() < 0.5 else raw.decode("utf-8", "surrogateescape")
    return f"description {name!r} as {type(data).__name__}: {done}", lambda: _parse(data)


def _number(parse: Callable[[object], object], what: str, given: tuple[Any, ...]) -> Any:
    def make(rng: random.Random) -> tuple[str, Callable[[], str]]:
        if rng.random() < 0.5:
            one = odd(rng)
            data, done = one.value, one.name
        else:
            tree, done = mutate(rng, [rng.choice(given)])
            data = as_object(tree)
            data = data[0] if isinstance(data, list) and data else data

        def look() -> str:
            try:
                parse(data)
            except ValueError as error:
                return sentence_defect(str(error))
            return ""

        return f"{what}: {done}", look

    return make


def _speculation(rng: random.Random) -> tuple[str, Callable[[], str]]:
    tree, done = mutate(rng, _SPECULATION)
    data = as_object(tree)

    def look() -> str:
        try:
            Speculation.of(data)
        except SpecError as error:
            return _good(error)
        return ""

    return f"speculation: {done}", look


def _queued(raw: bytes) -> str:
    """Look at a queue entry as the transport and the consumer do."""
    ready = queue_message(raw, "q", "tag")
    headers = ready["headers"] or {}
    if said := headers.get(DEFECT, ""):
        return sentence_defect(said)
    body = ready["body"].encode()
    try:
        payload = loads(base64.b64decode(body) if ready["properties"].get("body_encoding") == "base64" else body)
    except Exception:  # noqa: BLE001 (kombu's types; the consumer refuses such a message)
        return ""
    task_name(headers, payload)
    said = task_defect(headers, payload)
    if is_task_id(headers.get("id")):
        job_id_of(headers["id"])
    return sentence_defect(said) if said else ""


def _broadcast(raw: bytes) -> str:
    try:
        broadcast_message(raw)
    except ValueError as error:
        return sentence_defect(str(error))
    return ""


def _message(rng: random.Random) -> tuple[str, Callable[[], str]]:
    kind = rng.choice(list(KINDS_OF_BODY))
    envelope, body = message(rng, kind, "q")
    whole, done = mutate(rng, {"envelope": envelope, "payload": body})
    whole = whole if isinstance(whole, dict) else {}
    raw = as_json(whole.get("payload"))
    if rng.random() < 0.2:
        raw, more = mutate_bytes(rng, raw)
        done = f"{done}; its body: {more}"
    text = entry(whole.get("envelope"), raw)
    if rng.random() < 0.2:
        text, more = mutate_bytes(rng, text)
        done = f"{done}; {more}"
    return f"message ({kind}): {done}", lambda: _queued(text) or _broadcast(text)


def _token(rng: random.Random) -> tuple[str, Callable[[], str]]:
    """A token: a header or description that nobody should have signed, or one that was changed after that."""
    job_id = new_id(rng)
    head, done = (header_of(job_id), "") if rng.random() < 0.5 else mutate(rng, header_of(job_id))
    spec, more = (SPECS["plain"], "") if rng.random() < 0.5 else mutate(rng, SPECS["plain"])
    good = signed(as_json(spec), head)
    changed, last = mutate_bytes(rng, good.encode()) if rng.random() < 0.5 else (good.encode(), "")
    text = changed.decode("utf-8", "surrogateescape")

    def look() -> str:
        try:
            passed = _GATE.check(job_id, text, 1.0)
        except SpecError as error:
            return sentence_defect(str(error))
        return "" if text == good and passed.producer is not None else "a changed token passes"

    return f"token: {'; '.join(filter(None, (done, more, last)))}", look


def _notice(rng: random.Random) -> tuple[str, Callable[[], str]]:
    tree, done = mutate(rng, EVENT)
    text = as_json(tree).decode()
    if rng.random() < 0.3:
        raw, more = mutate_bytes(rng, as_json(tree))
        text, done = raw.decode("utf-8", "replace"), f"{done}; {more}"

    def look() -> str:
        event = read_exit(text)
        return "" if event is None or isinstance(event.job_id, str) else "the tracker was told nonsense"

    return f"forwarded end: {done}", look


_TARGETS: Final[tuple[tuple[int, Callable[[random.Random], tuple[str, Callable[[], str]]]], ...]] = (
    (4, _spec_object),
    (3, _spec_text),
    (1, _number(parse_duration, "duration", DURATIONS)),
    (1, _number(parse_size, "size", SIZES)),
    (1, _speculation),
    (4, _message),
    (2, _notice),
    (2, _token),
    (4, lambda rng: policy_target(rng, SPECS)),
)


def case(seed: int, number: int) -> Case:
    """Return a case of this level; its content is the function that looks at it and says what is wrong."""
    rng = random_of(seed, LEVEL, number)
    make = rng.choices([make for _, make in _TARGETS], [weight for weight, _ in _TARGETS])[0]
    title, look = make(rng)
    return Case(LEVEL, number, title, look)


def check(one: Case) -> str:
    """Return which promise a case shows to be broken; empty when none is."""
    try:
        with within():
            return str(one.content())
    except Hang as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 (any but the documented one is what we look for)
        return f"{type(error).__name__}: {str(error)[:200]!r} comes out"


def run(seed: int, first: int, count: int) -> list[Failure]:
    """Run cases of this level; return what failed.

    Args:
        seed: of the run.
        first: number of the first case.
        count: how many.
    """
    found = []
    for number in range(first, first + count):
        one = case(seed, number)
        if why := check(one):
            found.append(Failure(seed, one.name, one.title, why))
    return found

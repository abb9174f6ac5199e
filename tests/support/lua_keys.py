"""Which keys of Redis the ledger's scripts touch, found in their text.

``python -m tests.support.lua_keys`` writes the lines "Reads", "Writes" and "Publishes" in the heads of all scripts
anew.
"""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import jaas_submit.ledger
from jaas_submit.ledger.lua import SHARED

__all__ = ["READS", "SCRIPTS", "WRITES", "Touched", "head_of", "scripts", "touched_by"]

SCRIPTS: Final = Path(jaas_submit.ledger.__file__).parent / "scripts"

READS: Final = frozenset(
    (
        "EXISTS",
        "GET",
        "HEXISTS",
        "HGET",
        "HGETALL",
        "HMGET",
        "LLEN",
        "SCARD",
        "SISMEMBER",
        "SRANDMEMBER",
        "TYPE",
        "ZCARD",
        "ZRANGEBYSCORE",
        "ZSCORE",
    )
)
WRITES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("HSET", "HSETNX", "HDEL", "HINCRBY"), "hash"),
    **dict.fromkeys(("ZADD", "ZREM", "ZPOPMIN", "ZREMRANGEBYSCORE", "ZREMRANGEBYRANK"), "sorted set"),
    **dict.fromkeys(("SADD", "SREM", "SPOP"), "set"),
    **dict.fromkeys(("LPUSH", "RPUSH", "RPOP"), "list"),
    "SET": "string",
    **dict.fromkeys(("EXPIRE", "UNLINK", "COPY"), ""),
}
"""Commands that write, and the type of key that each makes or needs; empty where it is any."""

_KEYS: Final = """
    P:job:ID P:log:ID:ATTEMPT P:batch:ID P:batch:ID:waiting P:batch:ID:ended
    P:batch:ID:inputs P:batch:ID:order P:batch:ID:places P:batches P:cancelling P:speculating
    P:pending_dependents P:after:ID P:jobs P:state:STATE P:held:HOLDER P:stop:HOLDER P:due P:deadlines P:key:KEY
    P:holders P:unowned P:ready P:newest_received P:last_claim P:revoked
    P:unacked P:unacked_index
    P:in_flight:NAME P:noted:ID
    P:queues P:rule_changes P:kept:PLACE P:opening
    P:info:HOLDER P:seen:HOLDER P:lock:NAME
    P:sent:DIGEST P:sent:DIGEST:users P:sent_files P:sent_left
    C:changes:ID C:changes:batch:ID C:cancels C:available QUEUE
"""
"""The keys and channels as the heads of the scripts and docs/ledger.md write them."""

_READERS: Final = ("read_fields", "members_until")
"""Shared functions that read the key that they are given."""

_CALL: Final = re.compile(r"redis\.p?call\('([A-Z]+)'(?:, (.*))?")


@dataclass
class Touched:
    """What a piece of Lua does with keys."""

    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    publishes: set[str] = field(default_factory=set)
    types: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    fields: set[str] = field(default_factory=set)
    """Those of hashes that it writes and names."""

    def add(self, other: Touched) -> None:
        """Add what another piece does."""
        self.reads |= other.reads
        self.writes |= other.writes
        self.publishes |= other.publishes
        self.fields |= other.fields
        for key, types in other.types.items():
            self.types[key] |= types


def scripts() -> list[str]:
    """Return the names of all scripts, as ``jaas_submit.ledger.lua.source`` takes them."""
    found = (path.relative_to(SCRIPTS).with_suffix("").as_posix() for path in sorted(SCRIPTS.rglob("*.lua")))
    return [name for name in found if not name.startswith("shared/")]


def head_of(name: str) -> str:
    """Return the comment that a script begins with, without its dashes."""
    lines = []
    for line in (SCRIPTS / f"{name}.lua").read_text().splitlines():
        if not line.startswith("--"):
            break
        lines.append(line[2:].removeprefix(" "))
    return "\n".join(lines)


def touched_by(name: str) -> Touched:
    """Return what a script does with keys, by itself and through the functions that it calls."""
    functions: dict[str, str] = {}
    for part in SHARED:
        functions |= _functions(_code(f"shared/{part}"))[0]
    for reader in _READERS:
        del functions[reader]
    own, body = _functions(_code(name))
    functions |= own
    touched, todo = Touched(), [body]
    seen: set[str] = set()
    while todo:
        text = todo.pop()
        touched.add(_touched(text))
        called = {one for one in re.findall(r"\b(\w+)\(", text) if one in functions} - seen
        seen |= called
        todo += [functions[one] for one in called]
    return touched


def _code(name: str) -> str:
    text = (SCRIPTS / f"{name}.lua").read_text()
    return re.sub(r",\n\s*", ", ", re.sub(r"--.*", "", text))


def _functions(text: str) -> tuple[dict[str, str], str]:
    """Return the bodies of the functions of a file, and what is left of it."""
    found: dict[str, str] = {}

    def take(match: re.Match[str]) -> str:
        found[match[1]] = match[2]
        return ""

    rest = re.sub(r"^local function (\w+)\([^)]*\)((?: [^\n]* end$)|(?:.*?^end$))", take, text, flags=re.M | re.S)
    return found, rest


def _touched(text: str) -> Touched:
    touched = Touched()
    for match in re.finditer(rf"\b(?:{'|'.join(_READERS)})\((.*)", text):
        touched.reads.add(_key(next(_split(match[1])), text))
    touched.fields |= set(re.findall(r"\badd_to_batch\(.+?, '(\w+)',", text))
    for match in _CALL.finditer(text):
        command, arguments = match[1], list(_split(match[2] or ""))
        if command == "TIME":
            continue
        key = _key(arguments[0], text)
        if command == "PUBLISH":
            touched.publishes.add(key)
            touched.types[key].add("channel")
        elif command == "COPY":
            touched.reads.add(key)
            touched.writes.add(_key(arguments[1], text))
        elif command in READS:
            touched.reads.add(key)
        else:
            touched.writes.add(key)
            named = arguments[1::2] if command == "HSET" else arguments[1:2] if command in {"HSETNX", "HINCRBY"} else []
            touched.fields |= {one.strip("'") for one in named if re.fullmatch(r"'\w+'", one)}
            if WRITES[command]:
                touched.types[key].add(WRITES[command])
    return touched


def _split(arguments: str) -> Iterator[str]:
    depth = start = 0
    for at, letter in enumerate(arguments):
        if letter in "({":
            depth += 1
        elif letter in ")}":
            depth -= 1
            if depth < 0:
                yield arguments[start:at].strip()
                return
        elif letter == "," and depth == 0:
            yield arguments[start:at].strip()
            start = at + 1
    yield arguments[start:].strip()


def _key(expression: str, text: str) -> str:
    """Return the key that an expression of Lua stands for, by its name in the documentation."""
    if local := re.search(rf"local {re.escape(expression)} = (.*)", text):
        expression = local[1]
    if expression in {"job.queue", "queue_list"}:
        return "QUEUE"
    shape = re.sub(r"job_key\((?:[^()]|\([^()]*\))*\)", "P:job:*", expression)
    shape = re.sub(r"batch_key\((?:[^()]|\([^()]*\))*\)", "P:batch:*", shape)
    parts = re.split(r" \.\. ", shape)
    shape = "".join(part if part in {"P", "C", "P:job:*", "P:batch:*"} else _literal(part) for part in parts)
    fits = [key for key in _KEYS.split() if re.fullmatch(re.sub(r"(?<=:)[A-Z]+", "[^:]+", key), shape)]
    if len(fits) != 1:
        raise ValueError(f"{expression!r} is no key that is documented: {shape}")
    return fits[0]


def _literal(part: str) -> str:
    return part[1:-1] if part.startswith("'") else "*"


def _lines(touched: Touched) -> str:
    said = {"Reads": touched.reads, "Writes": touched.writes, "Publishes": touched.publishes}
    text = ""
    for name, keys in said.items():
        words = " ".join(sorted(keys)) or "nothing"
        text += textwrap.fill(f"-- {name}: {words}", 120, subsequent_indent="--   ", break_on_hyphens=False) + "\n"
    return text


def _rewrite() -> None:
    for name in scripts():
        path = SCRIPTS / f"{name}.lua"
        before, _, rest = path.read_text().partition("-- Reads:")
        body = re.sub(r"\A.*\n(?:--.*\n)*", "", rest)
        path.write_text(before + _lines(touched_by(name)) + body)


if __name__ == "__main__":
    _rewrite()

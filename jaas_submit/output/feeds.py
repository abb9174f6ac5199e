"""Feeds: the output of running containers, from its first byte, while somebody watches."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from jaas_submit.connection.connection import answers, as_text, redis_errors
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.model.bounds import read_json
from jaas_submit.model.logs import Stream
from jaas_submit.output.budget import Budgeted, is_full, release_memory
from jaas_submit.output.packs import Pack, packs, unpacked
from jaas_submit.output.pieces import FeedEnd, Gap, Piece, Wanted

__all__ = ["WINDOW_BYTES", "FeedView", "Feeds"]

WINDOW_BYTES: Final = 4 * 1024 * 1024
"""Bytes that one feed may cost at most; the oldest are removed."""

WATCH_S: Final = 30
"""Seconds until a watch runs out that is not renewed."""

FEED_S: Final = 60
"""Seconds for which a feed is kept after the last write or watch."""

_MOST_FEEDS: Final = 4
"""Feeds of one job at the same time."""

_CALL_BYTES: Final = 1024 * 1024
"""Bytes that one call of the script gets."""

_READ_BYTES: Final = 512 * 1024
"""Bytes of a feed, with what its entries cost, that are read at once: more than one entry has."""

_WATCH_BYTES: Final = 1024
"""Bytes of what is said of a watch, at most."""

_MOST_LINES: Final = 1_000_000
"""Of the lines that are there already, at most so many are asked for."""

_STREAMS: Final[dict[Stream, int]] = {"stdout": 1, "stderr": 2}
_NAMES: Final[dict[bytes, Stream]] = {b"1": "stdout", b"2": "stderr"}


@dataclass(frozen=True, slots=True)
class FeedView:
    """What a reader finds in a feed.

    Args:
        pieces: the next ones, and gaps.
        cursor: where to go on reading.
        more: there is more to be read at once.
        writer: who writes it; empty until somebody does.
        end: what the writer says of the whole; None before the end, and where there is ``more``.
        begins: stream -> bytes of it before the feed's first piece, whether that is there still or not. A stream that
            has had no piece is left out.
    """

    pieces: tuple[Piece | Gap, ...]
    cursor: int
    more: bool
    writer: str
    end: FeedEnd | None
    begins: Mapping[Stream, int]


class Feeds(Budgeted):
    """All feeds.

    Every method raises LedgerUnavailable when Redis cannot be reached or refuses; it may then be called again.
    """

    # -- for writers --------------------------------------------------------------------

    def wanted(self, job_ids: Sequence[str]) -> dict[str, list[Wanted]]:
        """Return the feeds that somebody watches now and that have not ended.

        Args:
            job_ids: of these jobs; those that nobody watches are left out of the answer.
        """
        found: dict[str, list[Wanted]] = {}
        with redis_errors("feeds"):
            pipe = self.client.pipeline(transaction=False)
            pipe.time()
            for job_id in job_ids:
                pipe.hgetall(self.key("watch", job_id))
            (seconds, micros), *rows = answers(pipe)
            asked = [
                (job_id, wanted)
                for job_id, row in zip(job_ids, rows, strict=True)
                if isinstance(row, dict)
                for feed, text in row.items()
                if (wanted := _wanted(as_text(feed), text, seconds + micros / 1e6))
            ]
            for _, wanted in asked:
                pipe.hmget(self._state(wanted.feed), "cost", "1", "2", "end")
            states = pipe.execute() if asked else []
        for (job_id, wanted), (cost, stdout, stderr, end) in zip(asked, states, strict=True):
            if cost is not None and end is None:
                found.setdefault(job_id, []).append(wanted._replace(stdout=int(stdout or 0), stderr=int(stderr or 0)))
        return found

    def begin(self, feed: str, writer: str) -> bool:
        """Say that somebody writes a feed, before there is any output; see ``append``.

        Args:
            feed: the feed's id.
            writer: who, for people.
        """
        return self._append(feed, [], writer)

    def append(self, feed: str, pieces: Iterable[Piece | Gap]) -> bool:
        """Write pieces to a feed. Bytes that are there already are ignored.

        Where output has no room, the oldest pieces of the largest feeds are removed; readers count what they miss.

        Args:
            feed: the feed's id.
            pieces: in the order in which the container wrote them; each stream's are without gaps but for ``Gap``.

        Returns:
            False when nobody watches the feed any more: stop writing it.
        """
        return all(self._append(feed, chunk) for chunk in _chunks(pieces))

    def finish(self, feed: str, end: FeedEnd) -> bool:
        """End a feed, after its last piece; return whether there still is one.

        Args:
            feed: the feed's id.
            end: what the writer says of the whole. With ``unavailable`` its watchers are told the reason.
        """
        text = json.dumps(asdict(end)).encode()
        return bool(self.run("finish", "feed", text, job=_job_of(feed), feed=feed, keep=FEED_S))

    @property
    def watch_channel(self) -> str:
        """Name of the channel on which ``JOB FEED`` is published when a feed is to be written."""
        return self.channel("watch")

    # -- for readers --------------------------------------------------------------------

    def watch(self, job_id: str, attempt: int, since: str = "", tail: int | None = None) -> Wanted:
        """Watch an attempt's output, also before it has begun: take a feed that has all of it, or ask for a new one.

        Renew the watch (``renew``) every few seconds.

        Args:
            job_id: the job's id.
            attempt: which attempt.
            since: only output from this time on, RFC 3339; empty for all of it.
            tail: only so many of the lines that are there already, and all new ones; None for all of them.
        """
        feed = f"{job_id}.{attempt}.{uuid.uuid4().hex[:12]}"
        named: dict[str, Any] = {"job": job_id, "attempt": attempt, "since": since, "tail": tail}
        made = self.run("watch", "feed", feed=feed, most=_MOST_FEEDS, seconds=WATCH_S, keep=FEED_S, **named)
        return Wanted(as_text(made), attempt, since, tail)

    def renew(self, wanted: Wanted) -> bool:
        """Go on watching a feed; False when it has expired: watch again.

        Args:
            wanted: as ``watch`` returned it.
        """
        named: dict[str, Any] = {"attempt": wanted.attempt, "since": wanted.since, "tail": wanted.tail}
        job_id = _job_of(wanted.feed)
        return bool(self.run("renew", "feed", job=job_id, feed=wanted.feed, seconds=WATCH_S, keep=FEED_S, **named))

    def read(self, feed: str, cursor: int = 0) -> FeedView | None:
        """Return what a feed has from a place on; None when it has expired.

        Args:
            feed: the feed's id.
            cursor: of the last view; 0 for the beginning.
        """
        with redis_errors("feed"):
            # No transaction: a full Redis refuses them. What comes between the two reads is read again next time.
            pipe = self.client.pipeline(transaction=False)
            pipe.hmget(self._state(feed), "cost", "writer", "end", "from1", "from2")
            pipe.xrange(self.key("feed", feed), f"{cursor}-1", f"{cursor + _READ_BYTES}-1")
            (cost, writer, end, *begins), entries = pipe.execute()
        if cost is None:
            return None
        if int(cost) < cursor:  # Redis came back with older data; the reader knows by the offsets what it has
            return self.read(feed)
        more = int(cost) > cursor + _READ_BYTES
        if more and not entries:  # they have been removed
            with redis_errors("feed"):
                entries = self.client.xrange(self.key("feed", feed), f"{cursor}-1", "+", count=1)
            more = bool(entries)
        reached = _cost_before(entries[-1]) + 1 if entries else cursor
        return FeedView(
            tuple(piece for _, fields in entries for piece in _pieces(fields)),
            reached if more else max(int(cost), reached),
            more,
            as_text(writer or ""),
            None if more or end is None else _end(end),
            {stream: int(begin) for stream, begin in zip(_STREAMS, begins, strict=True) if begin is not None},
        )

    def output_channel(self, job_id: str) -> str:
        """Return the name of the channel on which ``FEED COST`` is published when a job's feed has got more."""
        return self.channel("output", job_id)

    def _append(self, feed: str, entries: Sequence[Pack | Gap], writer: str = "") -> bool:
        about = [_about(entry) for entry in entries]
        texts = [text for entry in entries if isinstance(entry, Pack) for text in (entry.heads, entry.data)]
        named: dict[str, Any] = {"job": _job_of(feed), "feed": feed, "writer": writer, "window": WINDOW_BYTES}
        try:
            return bool(self.run("append", "feed", *texts, entries=about, keep=FEED_S, **named, **self._budget))
        except LedgerUnavailable as error:
            if not is_full(error):
                raise
            # Redis is full: output is what has to go. The feed's readers count what they miss.
            release_memory(self.client, self.prefix)
            return True

    def _state(self, feed: str) -> str:
        return self.key("feed", feed, "state")


def _job_of(feed: str) -> str:
    return feed.rsplit(".", 2)[0]


def _cost_before(entry: tuple[bytes, Any]) -> int:
    return int(entry[0].partition(b"-")[0])


def _wanted(feed: str, text: bytes, now: float) -> Wanted | None:
    try:
        data = read_json(text, _WATCH_BYTES)
        if data["until"] <= now:
            return None
        attempt, since, tail = int(data["attempt"]), str(data["since"]), data.get("tail")
        if tail is None:
            return Wanted(feed, attempt, since, None)
        if not tail >= 0:
            return None
        return Wanted(feed, attempt, since, int(min(tail, _MOST_LINES)))
    except (ValueError, KeyError, TypeError, AttributeError):  # written by something else: nobody's feed
        return None


def _about(entry: Pack | Gap) -> dict[str, Any]:
    if isinstance(entry, Gap):
        return {"s": _STREAMS[entry.stream], "o": entry.offset, "missing": entry.missing, "why": entry.reason}
    return {"o": entry.offsets, "n": entry.lengths}


def _pieces(fields: dict[bytes, bytes]) -> Iterator[Piece | Gap]:
    if b"missing" in fields:
        yield Gap(_NAMES[fields[b"s"]], int(fields[b"o"]), int(fields[b"missing"]), as_text(fields[b"why"]))
        return
    if b"p" not in fields:  # an agent of an earlier version writes one piece in an entry
        yield Piece(_NAMES[fields[b"s"]], int(fields[b"o"]), as_text(fields[b"t"]), fields[b"d"])
        return
    stdout, _, stderr = fields.get(b"k", b"0 0").partition(b" ")
    yield from unpacked(fields[b"p"], fields[b"d"], (int(stdout), int(stderr)))


def _end(text: bytes) -> FeedEnd:
    data = json.loads(text)
    known = {name: data[name] for name in FeedEnd.__dataclass_fields__ if name in data}
    return FeedEnd(**known)


def _chunks(pieces: Iterable[Piece | Gap]) -> Iterator[list[Pack | Gap]]:
    """Yield the pieces in packs, as many of those as one call takes."""
    chunk: list[Pack | Gap] = []
    size = 0
    for entry in packs(pieces):
        chunk.append(entry)
        size += entry.size if isinstance(entry, Pack) else 0
        if size >= _CALL_BYTES or len(chunk) >= 1000:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk

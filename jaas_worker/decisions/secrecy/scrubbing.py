"""PURE: known values are replaced in output, wherever it is cut into pieces."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Final

from jaas_submit.model.logs import STREAMS, LogLine, Logs, LogStatus, Stream

__all__ = ["LEAST_BYTES", "MASK", "REPLACED", "Scrubber", "StreamScrubbers", "scrubbed"]

MASK: Final = b"***"
"""What stands in the place of a value."""

LEAST_BYTES: Final = 4
"""Shorter values are left alone: they are in any text."""

REPLACED: Final = "values of secrets were replaced by ***"


class Scrubber:
    """Replaces values in one stream of bytes that comes in pieces.

    The result is that of replacing them in the whole stream, from left to right, the longest first.

    Args:
        values: to be replaced; those that are too short are not.
    """

    def __init__(self, values: Collection[bytes]) -> None:
        self._values = sorted({value for value in values if len(value) >= LEAST_BYTES}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._values))) if self._values else None
        self._most = len(self._values[0]) - 1 if self._values else 0
        self._held = b""
        self.count = 0
        """How many values were replaced."""

    @property
    def held(self) -> bytes:
        """What may be the beginning of a value, and waits for the next piece."""
        return self._held

    def feed(self, data: bytes) -> bytes:
        """Return the next part of the result.

        Args:
            data: the next piece.
        """
        return b"".join(self._parts(self._held + data, final=False)) if self._pattern else data

    def end(self) -> bytes:
        """Return the last part of the result: there is no further piece."""
        return b"".join(self._parts(self._held, final=True)) if self._pattern else b""

    def _parts(self, data: bytes, *, final: bool) -> Iterator[bytes]:
        assert self._pattern is not None
        at, self._held = 0, b""
        while True:
            found = self._pattern.search(data, at)
            # Where a value begins whose end is not there yet. A shorter one at the same place has to wait for it.
            open_at = len(data) if final else self._begins(data, at)
            if found is None or found.start() >= open_at:
                yield data[at:open_at]
                self._held = data[open_at:]
                return
            yield data[at : found.start()]
            yield MASK
            self.count += 1
            at = found.end()

    def _begins(self, data: bytes, at: int) -> int:
        """Return the first place from which on all that is there is the beginning of a longer value."""
        first = len(data)
        for value in self._values:
            place = max(at, len(data) - len(value) + 1)
            while (place := data.find(value[:1], place)) != -1 and place < first:
                if value.startswith(data[place:]):
                    first = place
                    break
                place += 1
        return first


def scrubbed(logs: Logs, values: Collection[bytes]) -> Logs:
    """Return output without known values; it is then not complete any more.

    At a gap, a part of a value may be left of it: what looks like one is replaced, too.

    Args:
        logs: what was kept of it.
        values: to be replaced.
    """
    lines, count = list(logs.lines), 0
    for stream in STREAMS:
        places = [number for number, line in enumerate(lines) if line.stream == stream]
        gaps = {gap.before for gap in logs.gaps if gap.stream == stream}
        count += _scrub(lines, places, gaps, values)
    if not count:
        return logs
    status = logs.status if logs.status is LogStatus.UNAVAILABLE else LogStatus.PARTIAL
    return replace(logs, lines=tuple(lines), status=status, reason=", ".join(filter(None, (logs.reason, REPLACED))))


def _scrub(lines: list[LogLine], places: list[int], gaps: set[int], values: Collection[bytes]) -> int:
    """Replace values in the lines of one stream; return how many."""
    scrubber, count, last, after_gap = Scrubber(values), 0, -1, False
    for number in places:
        if any(last < gap <= number for gap in gaps):
            count += _close(lines, last, scrubber, cut=True)
            scrubber, after_gap = Scrubber(values), True
        data = lines[number].data
        if after_gap:
            data, cut = _without_rest(data, values)
            count, after_gap = count + cut, False
        lines[number] = lines[number]._replace(data=scrubber.feed(data))
        last = number
    cut = any(gap > last for gap in gaps)
    return count + _close(lines, last, scrubber, cut=cut)


def _close(lines: list[LogLine], last: int, scrubber: Scrubber, *, cut: bool) -> int:
    """Add to a stream's last line what the scrubber holds; where the stream was cut, that may be a part of a value."""
    if last < 0:
        return 0
    held = scrubber.held
    if cut and len(held) >= LEAST_BYTES:
        lines[last] = lines[last]._replace(data=lines[last].data + MASK)
        return scrubber.count + 1
    lines[last] = lines[last]._replace(data=lines[last].data + scrubber.end())
    return scrubber.count


def _without_rest(data: bytes, values: Collection[bytes]) -> tuple[bytes, int]:
    """Replace the end of a value with which data begins."""
    rests = [
        len(value) - start
        for value in values
        for start in range(1, len(value) - LEAST_BYTES + 1)
        if data.startswith(value[start:])
    ]
    return (MASK + data[max(rests) :], 1) if rests else (data, 0)


class StreamScrubbers:
    """Scrubs both streams of a container.

    Args:
        values: to be replaced.
    """

    def __init__(self, values: Collection[bytes]) -> None:
        self.of: dict[Stream, Scrubber] = {stream: Scrubber(values) for stream in STREAMS}

    @property
    def count(self) -> int:
        """How many values were replaced."""
        return sum(one.count for one in self.of.values())

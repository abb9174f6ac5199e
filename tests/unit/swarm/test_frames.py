"""A stream of frames is taken apart in whatever pieces it arrives, and one that is none is not believed."""

from __future__ import annotations

import struct

import pytest

from jaas_submit.errors import EngineUnavailable
from jaas_worker.swarm.engine import Frame
from jaas_worker.swarm.frames import FrameParser


def frame(kind: int, data: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BxxxI", kind, len(data) if length is None else length) + data


@pytest.mark.parametrize("size", [1, 3, 8, 1000])
def test_frames_come_out_whole(size: int) -> None:
    stream = frame(1, b"out") + frame(2, b"") + frame(0, b"in") + frame(2, b"err" * 20)
    parser = FrameParser()
    found: list[Frame] = []
    for at in range(0, len(stream), size):
        found += list(parser.feed(stream[at : at + size]))
    parser.end()
    assert found == [Frame("stdout", b"out"), Frame("stderr", b""), Frame("stderr", b"err" * 20)]


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (frame(1, b"x", 0xFFFFFFFF), "4,294,967,295 bytes"),
        (frame(1, b"x", 2 * 1024 * 1024 + 1), "2,097,153 bytes"),
        (frame(4, b"x"), "kind 4"),
        (b"plain text instead", "kind 112"),
        (b"\x01\x00\x01\x00\x00\x00\x00\x01x", "broken"),
        (frame(3, b"log gone\n"), "reading logs: log gone"),
    ],
)
def test_a_broken_stream_is_told_at_its_head_and_nothing_of_it_is_kept(stream: bytes, said: str) -> None:
    parser = FrameParser()
    found: list[Frame] = []
    whole = frame(1, b"good") + stream

    def read() -> None:
        for at in range(0, len(whole), 4):
            found.extend(parser.feed(whole[at : at + 4]))

    with pytest.raises(EngineUnavailable, match=said):
        read()
    assert found == [Frame("stdout", b"good")]


def test_an_end_within_a_frame_is_told() -> None:
    parser = FrameParser()
    assert list(parser.feed(frame(1, b"whole") + frame(1, b"half", 10))) == [Frame("stdout", b"whole")]
    with pytest.raises(EngineUnavailable, match="in the middle"):
        parser.end()


# -- a container with a terminal -----------------------------------------------------------------------------------

STAMP = b"2026-11-30T19:00:00.123456789Z "
LONG = b"x" * 16 * 1024
RAW: list[list[bytes]] = [
    [STAMP + b"one\r\n"],
    [STAMP + b"one\r\n", STAMP + b"\r\n", STAMP + b"a prompt: "],
    [STAMP + LONG, STAMP + LONG, STAMP + b"rest\r\n", STAMP + b"next\r\n"],
    [STAMP + LONG, STAMP + b"\n", STAMP + b"next\n"],
    [STAMP + STAMP + b"as a program prints it\n", STAMP],
    [STAMP + LONG],
    [STAMP + LONG + b"more at once\n", STAMP + b"next\n"],
    [],
]


@pytest.mark.parametrize("size", [1, 31, 1000, 100_000])
@pytest.mark.parametrize("messages", RAW, ids=lambda messages: f"{len(messages)}-{sum(map(len, messages))}")
def test_a_raw_stream_is_divided_where_its_messages_end(messages: list[bytes], size: int) -> None:
    stream = b"".join(messages)
    parser = FrameParser()
    found = [one for at in range(0, len(stream), size) for one in parser.feed(stream[at : at + size])]
    found += parser.end()
    assert found == [Frame("stdout", one) for one in messages]


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (
            STAMP + b"one\n" + b"Error grabbing logs: the node is away, it seems\n",
            "Error grabbing logs: the node is away",
        ),
        (STAMP + b"x" * 3_000_000, "a line without an end"),
        (STAMP + b"one\n" + STAMP[:20], "in the middle"),
    ],
)
def test_a_raw_stream_that_breaks_is_told(stream: bytes, said: str) -> None:
    parser = FrameParser()
    with pytest.raises(EngineUnavailable, match=said):
        list(parser.feed(stream)), parser.end()

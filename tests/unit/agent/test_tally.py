"""What is kept and counted of an output, and how a reading goes on where another one stopped."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from jaas_submit.model.logs import Stream
from jaas_worker.agent.kept_output.tally import Message, Position, Resumption, Tally, messages
from jaas_worker.swarm.engine import Frame


def at(second: int, data: bytes, stream: Stream = "stdout") -> Message:
    return Message(stream, f"2026-11-30T12:00:{second:02}.000000000Z".encode(), data)


def test_a_frame_holds_a_time_and_a_message() -> None:
    (found,) = messages([Frame("stderr", b"2026-11-30T12:00:00.000000001Z a b\n")])
    assert found == Message("stderr", b"2026-11-30T12:00:00.000000001Z", b"a b\n")


def test_bytes_are_counted_and_digested_by_stream_also_where_they_are_not_kept() -> None:
    tally, data = Tally(8), [bytes([n]) * 3 for n in range(10)]
    tally.add([at(n, piece) for n, piece in enumerate(data)])
    tally.add([at(11, b"\xff\x00", "stderr")])
    assert (tally.bytes("stdout"), tally.bytes("stderr"), tally.total) == (30, 2, 32)
    assert tally.digest("stdout") == hashlib.sha256(b"".join(data)).hexdigest()
    assert tally.cut == {"stdout": 22}
    kept = b"".join(line.data for line in tally.kept().lines if line.stream == "stdout")
    assert kept == b"".join(data)[:4] + b"".join(data)[-4:]


def test_pieces_are_counted() -> None:
    tally = Tally(100)
    tally.add([at(1, b"a\n"), at(2, b"b"), at(2, b"c\n")])
    assert tally.size == (5, 3, 1)


WHOLE = [
    at(1, b"a"),
    at(2, b"b", "stderr"),
    at(3, b"long "),
    at(3, b"long "),
    at(3, b"line\n"),
    at(2, b"c", "stderr"),  # written to the log behind what is younger
    at(5, b"d"),
]


@pytest.mark.parametrize("count", range(len(WHOLE) + 1))
def test_a_new_reading_lets_through_what_the_former_did_not_have(count: int) -> None:
    former = Position()
    former.add(WHOLE[:count])
    resumption = Resumption(former)
    found = [message for one in WHOLE for message in resumption.after([one])]
    assert found == WHOLE[count:]
    assert (resumption.found, resumption.lost) == (True, False)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 7])
def test_a_reading_from_the_time_of_the_newest_is_enough(count: int) -> None:
    former = Position()
    former.add(WHOLE[:count])
    resumption = Resumption(former)
    begin = min(message.time for message in WHOLE[:count] if message.stream == "stdout")
    assert resumption.after([message for message in WHOLE if message.time >= begin]) == WHOLE[count:]


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        ([at(5, b"d")], True),  # the newest that was read has gone
        ([at(3, b"long "), at(5, b"d")], True),  # some of its parts have
        ([at(3, b"other"), at(3, b"long "), at(3, b"line\n"), at(5, b"d")], True),  # they are others
        ([], False),
    ],
)
def test_it_is_known_that_messages_are_missing(rest: list[Message], found: bool) -> None:
    former = Position()
    former.add(WHOLE[:5:4] + WHOLE[2:4])  # stdout alone
    former = Position()
    former.add([at(1, b"a"), at(3, b"long "), at(3, b"long "), at(3, b"line\n")])
    resumption = Resumption(former)
    resumption.after(rest)
    assert resumption.found is found
    assert resumption.lost or not resumption.found


def test_the_log_is_asked_for_from_a_second_before_the_older_of_both_streams() -> None:
    former = Position()
    assert Resumption(former).since == ""
    former.add([at(10, b"a"), at(20, b"b", "stderr")])
    assert float(Resumption(former).since) % 60 == 9


def test_two_readings_are_the_same_if_all_bytes_are() -> None:
    one, other, third = Tally(10), Tally(10), Tally(10)
    one.add([at(1, b"ab"), at(2, b"c")])
    other.add([at(1, b"a"), at(2, b"bc")])
    third.add([at(1, b"abd")])
    assert one.same_as(other)
    assert not any(itertools.starmap(Tally.same_as, [(one, third), (third, one)]))

"""When an engine's answer is a refusal although its status does not say so."""

from __future__ import annotations

import pytest

from jaas_worker.decisions.engine_refusal import NO_ANSWER, SameAnswer, may_refuse, refuses

DESC = "creating service jaas-j-1: rpc error: code = Unknown desc = "


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (500, DESC + "it is not to our taste", True),
        (500, "internal server error", True),
        (None, "the engine does not answer", False),
        (503, DESC + "it is not to our taste", False),
        (502, "Bad Gateway", False),
        (504, "Gateway Time-out", False),
        (429, "slow down", False),
        (500, DESC + "The swarm does not have a leader. It's possible that too few managers are online.", False),
        (500, "rpc error: code = DeadlineExceeded desc = context deadline exceeded", False),
        (500, "rpc error: code = Canceled desc = context canceled", False),
        (500, "rpc error: code = Unavailable desc = transport is closing", False),
        (500, DESC + "raft: failed to process the request: node lost leader status", False),
        (500, "dial unix /run/containerd.sock: connect: connection refused", False),
        (500, "net/http: request timed out", False),
    ],
)
def test_which_answers_may_be_about_the_job(status: int | None, text: str, expected: bool) -> None:
    assert may_refuse(status, text) is expected


@pytest.mark.parametrize(
    ("times", "since", "created_at", "expected"),
    [
        (5, 70, 90, True),
        (9, 10, 71, True),
        (4, 70, 90, False),  # too seldom
        (5, 71, 90, False),  # not for long enough
        (5, 70, 70, False),  # nobody else's service was created since
        (5, 70, float("-inf"), False),
    ],
)
def test_when_the_same_answer_is_a_refusal(times: int, since: float, created_at: float, expected: bool) -> None:
    assert refuses(SameAnswer("no", times, since), 100, created_at) is expected


def test_another_answer_begins_anew() -> None:
    once = NO_ANSWER.again("a", 10)
    assert once == SameAnswer("a", 1, 10)
    assert once.again("a", 20) == SameAnswer("a", 2, 10)
    assert once.again("a", 20).again("b", 30) == SameAnswer("b", 1, 30)

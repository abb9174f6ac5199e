"""Which job starts: order, limits and reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaas_submit.queues.admission import Rule, admit, why_waits
from jaas_submit.queues.book import Book
from jaas_submit.queues.demand import Demand
from jaas_submit.queues.reasons import PRECEDENCE, Code, Reason
from jaas_submit.queues.rules import GroupRules, QueueRules, Rules, TenantRules
from jaas_submit.queues.snapshot import Line, LineKey, Nodes, Snapshot, Waiting, first_of, standing_reason
from tests.support.pages import DOCS, rows
from tests.support.sharing import demand, forms, nodes, plainly, rules, snapshots, started, whole

NOW = 1000.0


def key(queue: str = "q", tenant: str = "t", priority: int = 0, **asked: Any) -> LineKey:
    return LineKey(queue, tenant, priority, demand(**asked))


def book_with(said: Rules, *held: LineKey, now: float = NOW) -> Book:
    book = Book()
    for number, one in enumerate(held):
        book.hold(said, one.queue, one.tenant, one.demand, f"held{number}", now)
    return book


# -- properties --------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(snapshots(much_room=True), st.integers(1, 45), st.sampled_from([0.0, 1.0]))
def test_the_order_is_that_of_comparing_each_job_with_each_other(snapshot: Snapshot, limit: int, credit: float) -> None:
    snapshot.book.age_credit = credit
    assert started(snapshot, NOW, limit) == plainly(snapshot, NOW, limit)


@settings(max_examples=60, deadline=None)
@given(snapshots(), st.integers(1, 45))
def test_the_first_of_each_line_decide_what_the_whole_snapshot_decides(snapshot: Snapshot, count: int) -> None:
    whole_answer, answer = admit(snapshot, NOW, count), admit(first_of(snapshot, count), NOW, count)
    assert forms(answer) == forms(whole_answer)
    assert answer.reasons == whole_answer.reasons
    assert answer.reservations == whole_answer.reservations


@settings(max_examples=60, deadline=None)
@given(snapshots(), st.integers(1, 5))
def test_fewer_of_each_line_give_the_beginning_of_the_same_answer(snapshot: Snapshot, count: int) -> None:
    answer, full = forms(admit(first_of(snapshot, count), NOW)), forms(admit(snapshot, NOW))
    assert answer == full[: len(answer)]
    assert len(answer) >= min(count, len(full)), "and each pass goes on"


@settings(max_examples=60, deadline=None)
@given(snapshots())
def test_a_pass_changes_nothing_in_its_snapshot_and_gives_each_line_one_answer(snapshot: Snapshot) -> None:
    before = repr(snapshot.nodes), repr(snapshot.book.tenants), dict(snapshot.book.groups), snapshot.book.age_credit
    found = admit(snapshot, NOW)
    after = repr(snapshot.nodes), repr(snapshot.book.tenants), dict(snapshot.book.groups), snapshot.book.age_credit
    assert before == after
    assert len({one.job_id for one in found.admitted}) == len(found.admitted)
    through = {line.key: sum(one.key == line.key for one in found.admitted) for line in snapshot.lines}
    assert {line.key for line in snapshot.lines if through[line.key] < line.size} == set(found.reasons)


# -- the order, rule by rule --------------------------------------------------------------------

PAYROLL, CRAWL = QueueRules(priority=9), QueueRules()


@pytest.mark.parametrize(
    ("said", "jobs", "order"),
    [
        pytest.param({}, [(key(), 2, "b"), (key(), 1, "a"), (key(), 1, "A")], "Aab", id="by submission, then by id"),
        pytest.param(
            {}, [(key(), 1, "a"), (key(priority=255), 3, "c"), (key(priority=1), 2, "b")], "cba", id="priority"
        ),
        pytest.param(
            {"queues": {"payroll": PAYROLL, "crawl": CRAWL}},
            [(key("crawl", priority=255), 1, "a"), (key("payroll"), 2, "b")],
            "ba",
            id="the queue's priority counts before the job's",
        ),
        pytest.param(
            {"tenants": {"x": TenantRules(weight=3)}},
            [(key(tenant=name), at, f"{name}{at}") for name in "xy" for at in range(4)],
            ["x0", "y0", "x1", "x2", "x3", "y1", "y2", "y3"],
            id="tenants by weight",
        ),
        pytest.param(
            {"tenants": {"y": TenantRules(weight=9)}},
            [(key(tenant="x", priority=1), 1, "x"), (key(tenant="y"), 1, "y")],
            "xy",
            id="priority counts before the tenants' shares",
        ),
        pytest.param(
            {"tenants": {"x": TenantRules(quota_cpus=2)}},
            [(key(tenant="y"), 0, "y"), *((key(tenant="x"), at, f"x{at}") for at in (1, 2, 3))],
            ["x1", "x2", "y", "x3"],
            id="who is within its quota goes first",
        ),
        pytest.param(
            {"queues": {"p": QueueRules(weight=2), "q": QueueRules()}},
            [(key(name), at, f"{name}{at}") for name in "pq" for at in range(4)],
            ["p0", "q0", "p1", "p2", "q1", "p3", "q2", "q3"],
            id="queues by weight",
        ),
    ],
)
def test_order(said: dict[str, Any], jobs: list[tuple[LineKey, float, str]], order: str | list[str]) -> None:
    assert started(whole(rules(**said), jobs, nodes(cpus=100))) == list(order)


def test_what_a_tenant_holds_is_charged_when_it_is_admitted() -> None:
    said = rules()
    before = book_with(said, *[key(tenant="x")] * 10, now=NOW)  # in this very moment
    jobs = [(key(tenant=name), at, f"{name}{at}") for name in "xy" for at in range(3)]
    assert started(whole(said, jobs, nodes(cpus=100), book=before), limit=3) == ["y0", "y1", "y2"]


def test_one_in_twenty_starts_goes_to_the_oldest_of_the_old_jobs() -> None:
    said = rules(queues={"q": QueueRules(priority=1, age_after=0), "slow": QueueRules(age_after=500)})
    jobs = [(key(), 900, f"new{at:02}") for at in range(50)]
    jobs += [(key("slow"), 400 + at, f"old{at}") for at in range(3)] + [(key("slow", cpus=2), 600, "young")]
    book = Book()
    book.age_credit = 1.0
    found = admit(whole(said, jobs, nodes(cpus=1000), book=book), NOW, 42).admitted
    assert [(place, one.job_id) for place, one in enumerate(found) if one.rule is Rule.AGE] == [
        (0, "old0"),
        (20, "old1"),
        (40, "old2"),
    ]


# -- limits and reasons --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "held", "job", "reason"),
    [
        pytest.param({}, [], key("no"), Reason(Code.QUEUE_UNKNOWN, "no"), id="unknown queue"),
        pytest.param(
            {"queues": {"q": QueueRules(paused=True)}}, [], key(), Reason(Code.QUEUE_PAUSED, "q"), id="paused"
        ),
        pytest.param({"queues": {"q": QueueRules(draining=True)}}, [], key(), None, id="draining starts what waits"),
        pytest.param(
            {"queues": {"q": QueueRules(max_in_flight=2)}}, [key()] * 2, key(), Reason(Code.QUEUE_FULL, "q"), id="queue"
        ),
        pytest.param({"queues": {"q": QueueRules(max_in_flight=2)}}, [key()], key(), None, id="queue with a place"),
        pytest.param(
            {"tenants": {"t": TenantRules(max_in_flight=1)}}, [key()], key(), Reason(Code.TENANT_FULL, "t"), id="tenant"
        ),
        pytest.param(
            {"tenants": {"t": TenantRules(quota_cpus=2, borrow=False)}},
            [key()] * 2,
            key(),
            Reason(Code.QUOTA, "t"),
            id="quota",
        ),
        pytest.param({"tenants": {"t": TenantRules(quota_cpus=2)}}, [key()] * 2, key(), None, id="it borrows"),
        pytest.param({}, [], key(groups={"db": 1}), Reason(Code.GROUP_UNKNOWN, "db"), id="unknown group"),
        pytest.param(
            {"groups": {"db": GroupRules(1)}},
            [],
            key(groups={"db": 2}),
            Reason(Code.GROUP_TOO_SMALL, "db"),
            id="group too small",
        ),
        pytest.param(
            {"groups": {"db": GroupRules(3)}},
            [key(groups={"db": 2})],
            key(groups={"db": 2}),
            Reason(Code.GROUP_FULL, "db"),
            id="group full",
        ),
        pytest.param(
            {"groups": {"db": GroupRules(3), "disk": GroupRules(1)}},
            [key(groups={"disk": 1})],
            key(groups={"db": 2, "disk": 1}),
            Reason(Code.GROUP_FULL, "disk"),
            id="one of several groups",
        ),
        pytest.param({}, [key(singleton="s")], key(singleton="s"), Reason(Code.SINGLETON, "s"), id="singleton"),
        pytest.param({}, [key(singleton="s")], key(singleton="r"), None, id="another singleton"),
        pytest.param(
            {}, [key(rates={"r": "1/s"})], key(rates={"r": "1/s"}), Reason(Code.RATE, "r", until=NOW + 1), id="rate"
        ),
        pytest.param({}, [], key(cpus=5), Reason(Code.NO_NODE), id="larger than any node"),
        pytest.param({}, [], key(nodes="gpu"), Reason(Code.NO_NODE), id="no such node"),
        pytest.param({}, [], key(cpus=4), Reason(Code.CAPACITY), id="no room now"),
        pytest.param(
            {"tenants": {"other": TenantRules(quota_cpus=2, lend=False)}},
            [],
            key(cpus=2),
            Reason(Code.QUOTA_KEPT, "other"),
            id="kept for another tenant",
        ),
        pytest.param({"tenants": {"other": TenantRules(quota_cpus=2)}}, [], key(cpus=2), None, id="lent"),
        pytest.param({"jobs_per_node": 0}, [], key(cpus=0), Reason(Code.CAPACITY), id="jobs on a node"),
    ],
)
def test_limit(said: dict[str, Any], held: list[LineKey], job: LineKey, reason: Reason | None) -> None:
    some = rules(**said)
    snapshot = whole(some, [(job, 0, "j")], nodes(free=[3.0]), book=book_with(some, *held))
    found = admit(snapshot, NOW)
    assert [one.job_id for one in found.admitted] == ([] if reason else ["j"])
    assert found.reasons == ({job: replace(reason, since=NOW)} if reason else {})
    assert found.next_at == (reason.until if reason else None)


def test_the_reason_that_comes_first_is_told() -> None:
    """Take away one reason after the other: each time the next one in the order of precedence is told."""
    tenant = TenantRules(max_in_flight=1, quota_cpus=1, borrow=False)
    said = {
        "queues": {"q": QueueRules(paused=True, max_in_flight=1)},
        "tenants": {"t": tenant, "keeps": TenantRules(quota_cpus=3, lend=False)},
        "groups": {"db": GroupRules(1)},
    }
    asked: dict[str, Any] = {"groups": {"db": 1}, "singleton": "s", "rates": {"r": "1/s"}}
    held = key(**asked)
    steps: list[tuple[Code, dict[str, Any]]] = [
        (Code.QUEUE_UNKNOWN, {"queues": {}}),
        (Code.QUEUE_PAUSED, said),
        (Code.GROUP_UNKNOWN, {**said, "queues": {"q": QueueRules(max_in_flight=1)}, "groups": {}}),
        (Code.GROUP_TOO_SMALL, {**said, "queues": {"q": QueueRules(max_in_flight=1)}, "groups": {"db": GroupRules(0)}}),
        (Code.QUEUE_FULL, {**said, "queues": {"q": QueueRules(max_in_flight=1)}}),
        (Code.TENANT_FULL, {**said, "queues": {"q": QueueRules()}}),
        (Code.QUOTA, {**said, "queues": {"q": QueueRules()}, "tenants": {"t": replace(tenant, max_in_flight=None)}}),
        (Code.GROUP_FULL, {**said, "queues": {"q": QueueRules()}, "tenants": {}}),
        (Code.SINGLETON, {**said, "queues": {"q": QueueRules()}, "tenants": {}, "groups": {"db": GroupRules(2)}}),
    ]
    told = []
    for _, some in steps:
        said_now = rules(**some)
        snapshot = whole(said_now, [(held, 0, "j")], nodes(free=[0.0]), book=book_with(said_now, held))
        told.append(admit(snapshot, NOW).reasons[held].code)
    assert told == [code for code, _ in steps]
    assert told == sorted(told, key=PRECEDENCE.__getitem__)


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ({"held_by": "ann", "not_before": NOW + 5}, Reason(Code.HELD, "ann")),
        ({"held_by": None, "not_before": NOW + 5}, Reason(Code.NOT_BEFORE, until=NOW + 5)),
        ({"held_by": None, "not_before": NOW}, None),
        ({"held_by": None, "not_before": None}, None),
    ],
)
def test_what_is_in_no_line(given_: dict[str, Any], reason: Reason | None) -> None:
    assert standing_reason(now=NOW, **given_) == reason


def test_the_page_has_all_codes_in_their_order() -> None:
    assert [row[0] for row in rows(DOCS / "queues.md", "code")] == [str(code) for code in Code]


@pytest.mark.parametrize("code", list(Code))
def test_a_reason_has_a_sentence(code: Code) -> None:
    assert len(Reason(code, "x").sentence()) > 15


def test_a_reason_lasts_since_it_began() -> None:
    said = rules(queues={"q": QueueRules(paused=True)})
    line = Line(key(), [Waiting(0.0, "j")], 1, Reason(Code.QUEUE_PAUSED, "q", since=400.0))
    assert admit(Snapshot(said, [line], Book(), nodes()), NOW).reasons[key()].since == 400.0
    full = rules(queues={"q": QueueRules(max_in_flight=0)})
    assert admit(Snapshot(full, [line], Book(), nodes()), NOW).reasons[key()].since == NOW, "another reason begins now"


def test_a_job_that_waits_too_long_for_one_reason_is_named() -> None:
    said = rules(queues={"q": QueueRules(paused=True, wait_limits={Code.QUEUE_PAUSED: 100})})
    jobs = [Waiting(0.0, "old"), Waiting(890.0, "nearly"), Waiting(950.0, "young")]
    line = Line(key(), jobs, 3, Reason(Code.QUEUE_PAUSED, "q", since=500.0))
    found = admit(Snapshot(said, [line], Book(), nodes()), NOW)
    assert [(one.job_id, one.limit, one.reason.code) for one in found.overdue] == [
        ("old", 100, Code.QUEUE_PAUSED),
        ("nearly", 100, Code.QUEUE_PAUSED),
    ]
    assert found.next_at == 1050.0
    other = replace(line, blocked=Reason(Code.CAPACITY, since=0.0))
    assert not admit(Snapshot(said, [other], Book(), nodes()), NOW).overdue, "it waited for something else until now"


def test_quotas_lend_and_are_taken_back() -> None:
    said = rules(tenants={"owner": TenantRules(quota_cpus=4), "guest": TenantRules()})
    guests = [(key(tenant="guest"), at, f"g{at}") for at in range(9)]
    assert len(started(whole(said, guests, nodes(cpus=8)))) == 8, "all of it is lent"
    book = book_with(said, *[key(tenant="guest")] * 8, now=0.0)
    both = [*guests, (key(tenant="owner"), 500, "o1"), (key(tenant="owner"), 501, "o2")]
    assert started(whole(said, both, nodes(cpus=8, free=[1.0]), book=book)) == ["o1"], "the next room is the owner's"


def test_no_job_of_a_line_is_looked_at_after_the_first_that_waits() -> None:
    said = rules(groups={"db": GroupRules(1)})
    one = key(groups={"db": 1})
    found = admit(whole(said, [(one, at, f"j{at}") for at in range(5)], nodes(cpus=100)), NOW)
    assert [each.job_id for each in found.admitted] == ["j0"]
    assert found.reasons[one].code is Code.GROUP_FULL
    assert not found.cut


def test_why_waits_needs_no_pass() -> None:
    said = rules(queues={"q": QueueRules(paused=True)})
    snapshot = whole(said, [(key(), 0, "j")], Nodes())
    assert why_waits(snapshot, snapshot.lines[0], NOW) == Reason(Code.QUEUE_PAUSED, "q")


def test_demands_with_the_same_wishes_are_one_key() -> None:
    assert len({demand(groups={"a": 1, "b": 2}), demand(groups={"b": 2, "a": 1}), Demand()}) == 2

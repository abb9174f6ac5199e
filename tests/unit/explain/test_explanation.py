"""Why a job waits or ended, in words: every state, every cause."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.explain.explanation import Awaited, ExplainContext, Explanation, explain
from jaas_submit.explain.workers import WorkerLoad
from jaas_submit.model.causes import Cause
from jaas_submit.model.cluster import Node
from jaas_submit.model.fields import Resources
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Attempt, BatchRecord, JobRecord
from jaas_submit.model.retry_policy import RetryPolicy
from jaas_submit.model.states import TERMINAL, JobState
from jaas_submit.placement.preparing import preparing_detail
from tests.support.nodes import GIB, NOW, cluster, node

HOLDER = "host-1-x"
QUEUED, PENDING, RUNNING, BACKOFF = JobState.QUEUED, JobState.PENDING, JobState.RUNNING, JobState.BACKOFF


def attempt(number: int = 1, cause: Cause = Cause.EXIT, **fields: Any) -> Attempt:
    state = JobState.CANCELLED if cause is Cause.CANCELLED else JobState.FAILED
    return Attempt(number=number, cause=cause, **{"state": state, **fields})


def record(state: JobState, *attempts: Attempt, **fields: Any) -> JobRecord:
    """Return a record that was created 100 seconds ago and came into its state 30 seconds ago."""
    usual = {
        "spec": JobSpec(image="alpine"),
        "queue": "jaas",
        "holder": HOLDER if state in {JobState.LAUNCHING, PENDING, RUNNING} else "",
        "created_at": NOW - timedelta(seconds=100),
        "updated_at": NOW - timedelta(seconds=30),
    }
    return JobRecord(id="j1", state=state, attempts=attempts, **{**usual, **fields})


def worker(number: int = 1, **fields: Any) -> WorkerLoad:
    """Return the load of a worker. Worker 1 holds every job that has a holder."""
    usual = {"holder": HOLDER if number == 1 else f"w{number}", "queue": "jaas", "node": f"n{number}"}
    return WorkerLoad(**{**usual, "max_in_flight": 9, "window": 3, **fields})


def context(*nodes: Node, workers: int | list[WorkerLoad] = 2, **fields: Any) -> ExplainContext:
    up = [worker(n + 1) for n in range(workers)] if isinstance(workers, int) else workers
    return ExplainContext(cluster=cluster(*nodes) if nodes else None, workers=tuple(up), **fields)


def said(job: JobRecord, *nodes: Node, **fields: Any) -> list[str]:
    return list(explain(job, context(*nodes, **fields), NOW).sentences)


# -- a job that waits -------------------------------------------------------------------------------------------------


FULL, STARTING = {"in_flight": 9}, {"in_flight": 5, "starting": 3}
NO_WORKER = "No worker is up: start one on a manager node (`jaas worker`, or the stack)."
IN_FLIGHT = "with as many jobs in flight as JAAS_MAX_IN_FLIGHT allows; one that ends makes room."
AT_ONCE = "starting as many containers at once as the launch window holds; one that runs makes room."

# Jobs ahead; workers; the limit; all sentences but the first.
PLACES: dict[str, tuple[int, list[WorkerLoad], str | None, list[str]]] = {
    "no worker": (0, [], None, [NO_WORKER]),
    "no worker, and others wait, too": (7, [], None, [NO_WORKER]),
    "the next one": (0, [worker(), worker(2)], None, ["2 workers are up and it is the next one in queue 'jaas'."]),
    "not the next one": (7, [worker(in_flight=8)], None, ["1 worker is up and taking jobs in order."]),
    "workers of another queue": (
        0,
        [worker(queue="nightly"), worker(2, queue="nightly")],
        None,
        ["No worker takes queue 'jaas'; 2 workers are up, for 'nightly': start one with JAAS_QUEUE=jaas."],
    ),
    "one that takes it beside others": (
        1,
        [worker(), worker(2, queue="nightly", **FULL)],
        None,
        ["1 worker is up and taking jobs in order."],
    ),
    "full": (
        7,
        [worker(**FULL), worker(2, in_flight=10)],
        "max_in_flight",
        [
            f"2 workers are up, {IN_FLIGHT}",
            *("  n1: 9 of 9 jobs in flight, 0 of 3 starting", "  n2: 10 of 9 jobs in flight, 0 of 3 starting"),
        ],
    ),
    "starting": (
        0,
        [worker(**STARTING)],
        "max_starting",
        [f"1 worker is up, {AT_ONCE}", "  n1: 5 of 9 jobs in flight, 3 of 3 starting"],
    ),
    "full and starting": (
        1,
        [worker(**STARTING), worker(2, **FULL)],
        "max_starting",
        [
            f"2 workers are up, {AT_ONCE}",
            *("  n1: 5 of 9 jobs in flight, 3 of 3 starting", "  n2: 9 of 9 jobs in flight, 0 of 3 starting"),
        ],
    ),
    "an engine that is away": (
        1,
        [worker(engine_unavailable="the engine does not answer.")],
        "engine",
        ["1 worker is up and takes no new jobs: the engine does not answer."],
    ),
    "one of two has room": (1, [worker(**FULL), worker(2)], None, ["2 workers are up and taking jobs in order."]),
    "an older worker, which tells no limits": (
        0,
        [WorkerLoad(holder="w", in_flight=5)],
        None,
        ["1 worker is up and it is the next one in queue 'jaas'."],
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_queued_job_is_told_its_place_and_which_limit_holds_it(name: str) -> None:
    ahead, workers, limit, expected = PLACES[name]
    told = explain(record(QUEUED), context(ahead=ahead, workers=workers), NOW)
    jobs = "1 job submitted earlier is" if ahead == 1 else f"{ahead} jobs submitted earlier are"
    assert told.sentences == (f"It has been queued for 30 seconds; {jobs} still in the queue.", *expected)
    assert (told.ahead, told.limit) == (ahead, limit)
    assert told.workers == tuple(one for one in workers if one.queue != "nightly")


def test_many_workers_are_not_all_named() -> None:
    sentences = said(record(QUEUED), workers=[worker(n, **FULL) for n in range(1, 15)])
    assert [text.split(":")[0] for text in sentences[2:]] == [*(f"  n{n}" for n in range(1, 11)), "  and 4 more"]


def test_a_job_that_comes_after_others_is_told_which_of_them_have_not_ended() -> None:
    after = [
        Awaited(name="job a", on="success", state="RUNNING", ended=False),
        Awaited(name="job b", on="finish", state="SUCCEEDED", ended=True),
        Awaited(name="batch c", on="failure", state="open, 3 of 10 jobs ended", ended=False),
    ]
    told = explain(record(JobState.WAITING), context(after=after), NOW)
    assert told.sentences == (
        "For 30 seconds it has waited for what it comes after: 2 of 3 have not ended.",
        "  job a is RUNNING (it must succeed)",
        "  batch c is open, 3 of 10 jobs ended (it must fail)",
    )
    assert told.limit == "after"
    many = [Awaited(name=f"job {n}", on="finish", state="QUEUED", ended=False) for n in range(13)]
    sentences = said(record(JobState.WAITING), after=many)
    assert sentences[1] == "  job 0 is QUEUED (however it ends)"
    assert (len(sentences), sentences[-1]) == (12, "  and 3 more")


@pytest.mark.parametrize(("line", "before"), [(0, "0 jobs of the batch are"), (1, "1 job of the batch is")])
def test_a_job_that_waits_for_its_batch_is_told_its_place_in_line(line: int, before: str) -> None:
    batch = BatchRecord(id="b", created_at=NOW, max_parallel=4)
    told = explain(record(JobState.WAITING, batch="b"), context(batch=batch, line=line), NOW)
    assert told.sentences == (
        "For 30 seconds it has waited for a place in batch b, which may have 4 active jobs at once (max_parallel).",
        f"{before} before it.",
    )
    assert told.limit == "max_parallel"


def test_a_waiting_job_of_an_older_record_says_what_it_may_be() -> None:
    (sentence,) = said(record(JobState.WAITING))
    assert sentence == "For 30 seconds it has waited for the jobs that it comes after, or for a place in its batch."


def test_a_launching_job_names_its_worker_and_what_a_long_launch_means() -> None:
    assert said(record(JobState.LAUNCHING)) == ["Worker host-1-x is creating its service, for 30 seconds now."]
    long = said(record(JobState.LAUNCHING, updated_at=NOW - timedelta(minutes=3)))
    assert long[1:] == ["That takes moments as a rule; the worker's log says more."]
    answered = said(record(JobState.LAUNCHING, detail="creating service jaas-j-1: no such thing."))
    assert answered[1:] == [
        "That did not work yet and is tried again. The last answer: creating service jaas-j-1: no such thing."
    ]


@pytest.mark.parametrize("state", [JobState.LAUNCHING, PENDING, RUNNING])
def test_a_job_whose_worker_is_gone_says_so(state: JobState) -> None:
    taken_over = "another worker takes the job over in moments."
    assert not any("gone" in text for text in said(record(state)))
    assert any(text.endswith(taken_over) for text in said(record(state), workers=[worker(2)]))
    assert f"Its worker is gone; what is in the swarm goes on. {NO_WORKER}" in said(record(state), workers=0)
    assert any(text.endswith(taken_over) for text in said(record(state, holder="")))


def test_a_pending_job_says_what_the_swarm_says_which_nodes_there_are_and_that_nothing_ends_its_wait() -> None:
    job = record(
        PENDING,
        detail="no suitable node (insufficient resources on 1 node; scheduling constraints not satisfied on 1 node)",
        spec=JobSpec(image="a", constraints=["node.labels.disk==ssd"], reservations=Resources(memory="4G", cpus=2)),
    )
    nodes = [
        node("n1", labels={"disk": "ssd"}, free_memory=2 * GIB, free_cpus=1),
        node("n2", labels={"disk": "hdd"}),
        node("n3", state="down", labels={"disk": "ssd"}),
    ]
    assert said(job, *nodes) == [
        "Its service exists; no container has run for 30 seconds.",
        "What the swarm says: no suitable node (insufficient resources on 1 node; scheduling constraints not satisfied "
        "on 1 node).",
        "By the nodes as they were 12 seconds ago, it fits on none of them: insufficient memory on 1 node, "
        "insufficient cores on 1 node, constraint not met on 1 node, not ready on 1 node.",
        "  n1: 4.0 GiB of memory wanted, 2.0 GiB free; 2 cores wanted, 1 free (1 core and 2.0 GiB free)",
        "  n2: constraint node.labels.disk==ssd is not met (it has hdd) (4 cores and 8.0 GiB free)",
        "  n3: it is down (4 cores and 8.0 GiB free)",
        "It waits without a limit: it has neither pending_timeout nor deadline.",
    ]
    fits = explain(job, context(*nodes, node("n4", labels={"disk": "SSD"})), NOW)
    assert "it fits on n4." in str(fits)
    assert [(fit.hostname, fit.fits) for fit in fits.nodes] == [
        ("n1", False),
        ("n2", False),
        ("n3", False),
        ("n4", True),
    ]


def test_a_pending_job_that_is_being_prepared_is_not_compared_with_nodes() -> None:
    assert said(record(PENDING, detail="preparing", spec=JobSpec(image="a", pending_timeout=60)), node()) == [
        "Its service exists; no container has run for 30 seconds.",
        "What the swarm says: preparing.",
        "Its pending_timeout (60 seconds) ends it in 30 seconds.",
    ]


def test_a_node_that_pulls_the_image_is_named_with_how_long_it_does_so() -> None:
    detail = preparing_detail("node1", NOW - timedelta(seconds=12))
    assert said(record(PENDING, detail=detail), node())[1] == (
        "Node node1 pulls its image or makes its container, for 12 seconds now."
    )


def test_a_pending_attempt_shows_which_nodes_it_keeps_away_from() -> None:
    job = record(
        PENDING,
        attempt(node_id="id-n1", node="n1", exit_code=1),
        detail="no suitable node (scheduling constraints not satisfied on 1 node)",
        spec=JobSpec(image="a", retry=RetryPolicy(max_attempts=3, avoid_failed_nodes=True)),
    )
    shown = said(job, node("n1"), node("n2", state="down"), node("n3"))
    assert "  n1: an attempt failed there, and avoid_failed_nodes is set (4 cores and 8.0 GiB free)" in shown
    assert any("it fits on n3." in sentence for sentence in shown)


def test_a_pending_job_is_told_which_nodes_its_image_does_not_run_on() -> None:
    job = record(PENDING, detail="no suitable node", platforms=("linux/arm64",))
    (found,) = explain(job, context(node()), NOW).nodes
    assert found.lacks == ("platform",)


def test_a_pending_job_fits_nowhere_where_the_swarm_misses_a_plugin() -> None:
    detail = "no suitable node (missing plugin on 1 node)"
    with_driver = said(record(PENDING, detail=detail, spec=JobSpec(image="a", log_driver="loki")), HAS_LOCAL)
    assert "it fits on none of them: missing plugin on 1 node." in with_driver[2]
    assert with_driver[3] == "  n1: its engine has no log driver loki (4 cores and 8.0 GiB free)"
    with_network = said(record(PENDING, detail=detail, spec=JobSpec(image="a", networks=["net"])), HAS_LOCAL)
    assert "it fits on none of them: missing plugin on 1 node." in with_network[2]
    assert "see the driver of its networks, and the worker's log driver" in with_network[3]


HAS_LOCAL = node(log_drivers=("local",))


def test_a_running_job_says_where_for_how_long_and_until_when() -> None:
    job = record(
        RUNNING,
        node="n1",
        started_at=NOW - timedelta(seconds=45),
        spec=JobSpec(image="a", run_timeout="10m", deadline="2h", pending_timeout=5, expires=5),
    )
    assert said(job, node()) == [
        "Its container has run on n1 for 45 seconds.",
        "Its run_timeout (10 minutes) ends it in 9 minutes.",
        "Its deadline (2 hours) ends it in 118 minutes.",
    ]


def test_a_running_job_whose_node_is_away_says_so() -> None:
    detail = "node n2 is down since 2026-11-23T12:00:00Z: whether the container still runs is unknown"
    assert said(record(RUNNING, node="n2", detail=detail))[1] == f"What the swarm says: {detail}."


def test_a_job_between_two_attempts_says_which_rule_decided_and_when_the_next_comes() -> None:
    ended = attempt(
        exit_code=75,
        node="n1",
        reason="task: non-zero exit (75)",
        decision="rule 1 (retry) matched; 1 of 3 attempts used (max_attempts)",
    )
    job = record(BACKOFF, ended, detail="attempt 1 ended ...", due_at=NOW + timedelta(seconds=90))
    assert said(job) == [
        "It waits for its next attempt, which is due in 90 seconds (2026-11-23 12:01:30 UTC).",
        "Attempt 1 ended on n1 with exit code 75: its process ended by itself (cause exit; task: non-zero exit (75)). "
        "What followed was decided so: rule 1 (retry) matched; 1 of 3 attempts used (max_attempts).",
    ]
    told = explain(job, context(), NOW)
    assert told.next_attempt_at == job.due_at
    assert told.decision == "rule 1 (retry) matched; 1 of 3 attempts used (max_attempts)"
    assert said(job, workers=0)[1] == NO_WORKER
    assert "due now" in said(record(BACKOFF, ended, due_at=NOW - timedelta(seconds=2)))[0]


def test_a_job_that_waits_for_its_time_says_when_that_comes() -> None:
    job = record(JobState.WAITING, not_before=NOW + timedelta(hours=2))
    told = explain(job, context(), NOW)
    assert list(told.sentences) == ["It is not started before its time: in 2 hours (2026-11-23 14:00:00 UTC)."]
    assert told.limit == "not_before"
    assert "its time: now" in said(record(JobState.WAITING, not_before=NOW - timedelta(seconds=1)))[0]


@pytest.mark.parametrize("state", [QUEUED, JobState.LAUNCHING, PENDING, RUNNING, BACKOFF, JobState.WAITING])
def test_a_job_that_is_to_be_cancelled_says_so(state: JobState) -> None:
    assert "It is to be cancelled: wrong input." in said(record(state, cancel="wrong input"))


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (JobState.WAITING, {"expires", "deadline"}),
        (QUEUED, {"expires", "deadline"}),
        (JobState.LAUNCHING, {"pending_timeout", "deadline"}),
        (PENDING, {"pending_timeout", "deadline"}),
        (RUNNING, {"run_timeout", "deadline"}),
        (BACKOFF, {"deadline"}),
        *((state, set()) for state in sorted(TERMINAL)),
    ],
)
def test_each_time_limit_is_shown_where_it_counts(state: JobState, shown: set[str]) -> None:
    names = ("expires", "deadline", "pending_timeout", "run_timeout")
    job = record(state, spec=JobSpec(image="a", **dict.fromkeys(names, 1000)))
    assert {name for name in names if any(f"Its {name} (17 minutes)" in text for text in said(job))} == shown
    late = record(state, spec=JobSpec(image="a", **dict.fromkeys(names, 1)))
    assert {name for name in names if f"Its {name} (1 second) is over." in said(late)} == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7199, "120 minutes"),
        (7200, "2 hours"),
        (200_000, "2 days"),
        (-5, "0 seconds"),  # two machines' clocks
    ],
)
def test_times_have_one_unit(seconds: float, text: str) -> None:
    job = record(PENDING, updated_at=NOW - timedelta(seconds=seconds))
    assert said(job)[0] == f"Its service exists; no container has run for {text}."


# -- a job that has ended ---------------------------------------------------------------------------------------------

# The cause; words that explain it; words of the advice.
CAUSES: dict[Cause, tuple[str, str]] = {
    Cause.EXIT: ("its process ended by itself (cause exit, exit code 4; why)", ""),
    Cause.OOM: ("the kernel killed it for its memory (cause oom, exit code 4; why)", "retry.memory_factor"),
    Cause.IMAGE: ("its image is missing or may not be pulled (cause image", "registry"),
    Cause.UNSCHEDULABLE: ("no node could take it (cause unschedulable", "change constraints or reservations"),
    Cause.LAUNCH: ("its container could not be started (cause launch", "check command, mounts, networks"),
    Cause.NODE_LOST: ("its node went away (cause node_lost", "on_node_lost"),
    Cause.PREEMPTED: ("its node had to give it up (cause preempted", "max_cluster_retries"),
    Cause.RUN_TIMEOUT: ("it ran for too long (cause run_timeout", "raise run_timeout"),
    Cause.PENDING_TIMEOUT: ("it did not start in time (cause pending_timeout", "raise pending_timeout"),
    Cause.DEADLINE: ("its deadline came (cause deadline", "raise deadline"),
    Cause.EXPIRED: ("it was not started in time (cause expired", "raise expires"),
    Cause.CANCELLED: ("somebody cancelled it (cause cancelled", ""),
    Cause.REMOVED_OUTSIDE: ("somebody else removed its service (cause removed_outside", "max_cluster_retries"),
    Cause.SKIPPED: ("what it had to come after ended otherwise than was asked for (cause skipped", ""),
    Cause.OUTPUT: ("what it printed is not the output that it declares (cause output", "jaas logs"),
    Cause.REFUSED: (
        "its description is not valid, or the workers' policy does not allow it (cause refused",
        "correct the description",
    ),
    Cause.ENGINE: ("the engine failed (cause engine", "max_cluster_retries"),
}


@pytest.mark.parametrize("cause", Cause)
def test_each_cause_is_explained_in_words_with_what_may_help(cause: Cause) -> None:
    words, advice = CAUSES[cause]
    state = {Cause.CANCELLED: JobState.CANCELLED, Cause.SKIPPED: JobState.SKIPPED}.get(cause, JobState.FAILED)
    verb = {JobState.CANCELLED: "was cancelled", JobState.SKIPPED: "was skipped", JobState.FAILED: "failed"}[state]
    end = attempt(
        cause=cause,
        state=state,
        exit_code=4,
        reason="why",
        node="n1",
        container_id="c",
        decision="rule 9",
        oom_killed=True,
    )
    first, decision, *helps = said(record(state, end))
    assert first.startswith(f"It {verb} on n1: {words}")
    assert first.endswith(", exit code 4; why).")
    assert decision == "It is not tried again: rule 9."
    assert len(helps) == bool(advice)
    assert all(text.startswith("What may help: ") and advice in text for text in helps)


# Cause and exit code; whether the engine said that it was for memory; the words.
KILLS: list[tuple[Cause, int, bool, str]] = [
    (Cause.OOM, 137, True, "the kernel killed it for its memory (cause oom, exit code 137)"),
    (Cause.OOM, 137, False, "most likely for its memory, though no engine said so (cause oom, exit code 137)"),
    (Cause.EXIT, 137, False, "its process was ended by SIGKILL, as its exit code says (cause exit, exit code 137)"),
    (Cause.EXIT, 143, False, "its process was ended by SIGTERM, as its exit code says (cause exit, exit code 143)"),
    (
        Cause.EXIT,
        138,
        False,
        "its process was ended by SIGUSR1, as its exit code says",
    ),  # Linux's number
    (Cause.EXIT, 128, False, "its process ended by itself (cause exit, exit code 128)"),
    (Cause.EXIT, 255, False, "its process ended by itself (cause exit, exit code 255)"),
    (Cause.RUN_TIMEOUT, 137, False, "it ran for too long (cause run_timeout, exit code 137)"),
]


@pytest.mark.parametrize(("cause", "code", "confirmed", "words"), KILLS)
def test_what_is_only_likely_is_not_said_to_be_known(cause: Cause, code: int, confirmed: bool, words: str) -> None:
    end = attempt(cause=cause, exit_code=code, container_id="c", oom_killed=confirmed)
    told = said(record(JobState.FAILED, end))
    assert words in told[0]
    assert any("137 is a SIGKILL: somebody sent it" in text for text in told) == (cause is Cause.EXIT and code == 137)
    assert words.partition(" (")[0] in said(record(BACKOFF, end))[1]


def test_a_success_is_said_shortly_also_when_it_came_late() -> None:
    end = attempt(2, state=JobState.SUCCEEDED, exit_code=0, node="n2", container_id="c2")
    assert said(record(JobState.SUCCEEDED, end)) == ["It succeeded on n2 with exit code 0."]
    earlier = attempt(
        exit_code=1, node="n1", container_id="c1", decision="no retry rule matched; 1 of 2 attempts used (max_attempts)"
    )
    assert said(record(JobState.SUCCEEDED, earlier, end)) == [
        "It succeeded on n2 with exit code 0.",
        "Attempt 1 ended on n1 with exit code 1: its process ended by itself (cause exit). What followed was decided "
        "so: no retry rule matched; 1 of 2 attempts used (max_attempts).",
    ]


def test_all_attempts_of_a_failed_job_are_there() -> None:
    attempts = [attempt(n, exit_code=n, node=f"n{n}", container_id="c", decision=f"decision {n}") for n in (1, 2, 3)]
    first, decision, *earlier = said(record(JobState.FAILED, *attempts))
    assert "on n3" in first
    assert "exit code 3" in first
    assert decision == "It is not tried again: decision 3."
    assert [text.split(":")[0] for text in earlier] == [f"Attempt {n} ended on n{n} with exit code {n}" for n in (1, 2)]


def test_a_job_of_which_no_container_ran_says_so() -> None:
    silent = "No container was seen to start."
    never = attempt(0, Cause.EXPIRED, reason="not started within expires (5 s)")
    assert silent in said(record(JobState.FAILED, never))
    assert silent in said(record(JobState.CANCELLED, attempt(0, Cause.CANCELLED)))
    assert silent in said(record(JobState.FAILED, attempt(1, Cause.LAUNCH, reason="network x not found")))
    # one that ran before, or that was seen to run before its service was removed
    assert silent not in said(record(JobState.CANCELLED, attempt(1, container_id="c"), attempt(0, Cause.CANCELLED)))
    assert silent not in said(record(JobState.FAILED, attempt(1, Cause.REMOVED_OUTSIDE, started_at=NOW)))
    assert silent not in said(record(JobState.SUCCEEDED, attempt(state=JobState.SUCCEEDED, exit_code=0)))


def test_replays_are_linked_both_ways_and_a_note_about_the_image_is_shown() -> None:
    end = attempt(exit_code=1)
    assert said(record(JobState.FAILED, end, replayed_by="j2"))[-1] == "It was replayed as job j2."
    assert said(record(JobState.FAILED, end, replay_of="j0"))[-1] == "It is a replay of job j0."
    assert "Note: the local image is old." in said(record(RUNNING, note="the local image is old"))


def test_a_job_without_a_description_can_be_explained() -> None:
    end = attempt(0, Cause.REFUSED, reason="image: is required")
    assert "image: is required" in said(record(JobState.FAILED, end, spec=None), node())[0]
    assert said(record(PENDING, spec=None, detail="no suitable node"), node())


ATTEMPTS = st.builds(
    attempt,
    number=st.integers(0, 3),
    cause=st.sampled_from(Cause),
    exit_code=st.none() | st.integers(0, 255),
    reason=st.text("ab. ", max_size=5),
    decision=st.text("ab. ", max_size=5),
    node=st.none() | st.just("n1"),
)


@given(st.sampled_from(JobState), st.lists(ATTEMPTS, max_size=3), st.text("ab. \n", max_size=5), st.booleans())
def test_every_record_is_explained_with_whole_sentences(
    state: JobState, attempts: list[Attempt], detail: str, known: bool
) -> None:
    told = explain(record(state, *attempts, detail=detail), context(*[node()] * known, ahead=1), NOW)
    assert told.sentences
    assert all(text.startswith("  ") or text.endswith((".", ").")) for text in told.sentences)
    assert "None" not in str(told)
    assert Explanation.model_validate_json(told.model_dump_json()) == told
    assert bool(told.nodes) == (known and state not in TERMINAL)

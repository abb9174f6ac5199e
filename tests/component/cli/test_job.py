"""`jaas list --dead`, `explain`, `cancel`, `replay`, `--dry-run` and `--key`. Redis is real, the worker is played."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jaas_submit import Cause, Client, JobSpec, JobState
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.cli.commands import job
from jaas_submit.cli.job_options import job_request_of
from jaas_submit.cli.main import cli
from jaas_submit.ledger import Ledger
from jaas_submit.model.cluster import Cluster, Node
from jaas_submit.model.states import TERMINAL
from jaas_submit.nodes.facts import pack
from jaas_submit.output import AgentLeases
from jaas_submit.policy.document import Policy
from jaas_submit.policy.published import about_policy
from tests.support.stage import HOLDER, Stage, ended, on_a_terminal

GIB = 2**30


def dead(stage: Stage, cause: Cause = Cause.EXIT, code: int | None = 4, reason: str = "", **spec: Any) -> str:
    """Return the id of a job that gave up."""
    return stage.add(JobSpec(image="alpine", **spec), ended(cause, code, reason))


def know_nodes(ledger: Ledger, *nodes: Node) -> None:
    ledger.maintenance.save_cluster(Cluster(at=datetime.now(UTC), nodes=nodes))


def node(name: str, **fields: Any) -> Node:
    usual = {"cpus": 4, "memory": 8 * GIB, "free_cpus": 4, "free_memory": 8 * GIB}
    return Node(id=name, hostname=name, **{**usual, **fields})


# -- list --dead ------------------------------------------------------------------------------------------------------


def test_dead_jobs_are_listed_with_cause_attempts_and_age(stage: Stage) -> None:
    first = dead(stage, reason="task: non-zero exit (4)")
    stage.add(end=ended())  # ended well
    stage.add()  # waits
    second = stage.add(JobSpec(image="busybox"), None)
    stage.launch(second)
    attempts = [ended(Cause.OOM, 137, number=1), ended(Cause.IMAGE, None, "No such image: x", number=2)]
    assert stage.ledger.ownership.finish(second, HOLDER, attempts)
    table = [re.split(r"  +", line) for line in stage.jaas("list", "--dead").stdout.splitlines()]
    assert table[0] == ["ID", "CAUSE", "EXIT", "ATTEMPTS", "GAVE UP", "NODE", "REPLAYED", "JOB", "WHY"]
    assert [row[:4] for row in table[1:]] == [[second, "image", "-", "2"], [first, "exit", "4", "1"]]
    assert all(re.fullmatch(r"\d+s ago", row[4]) for row in table[1:])
    assert [row[5:] for row in table[1:]] == [
        ["node1", "-", "busybox", "No such image: x"],
        ["node1", "-", "alpine", "task: non-zero exit (4)"],
    ]
    assert stage.jaas("list", "--dead", "-q").stdout.split() == [second, first]
    records = [json.loads(line) for line in stage.jaas("list", "--dead", "--json").stdout.splitlines()]
    assert [len(record["attempts"]) for record in records] == [2, 1]
    assert records[0]["spec"] == {"version": 1, "image": "busybox"}


def test_a_dead_job_that_was_never_launched_had_no_attempt(stage: Stage) -> None:
    job_id = stage.add(end=ended(Cause.REFUSED, None, "image: is required", number=0))
    row = re.split(r"  +", stage.jaas("list", "--dead").stdout.splitlines()[1])
    assert row[:4] == [job_id, "refused", "-", "0"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--cause", "image"], "2"),
        (["--dead", "--cause", "exit"], "4 1"),
        (["--cause", "exit"], "4 3 1"),  # what ended well has a cause, too
        (["--dead", "--label", "team=a"], "2 1"),
        (["--dead", "--label", "team", "--cause", "exit"], "4 1"),
        (["--dead", "--limit", "1"], "4"),
        (["--dead", "--state", "failed"], "4 2 1"),
        (["--cause", "oom"], ""),
    ],
)
def test_jobs_are_chosen_by_cause_label_and_state(stage: Stage, args: list[str], expected: str) -> None:
    dead(stage, labels={"team": "a"})
    dead(stage, Cause.IMAGE, None, labels={"team": "a"})
    stage.add(end=ended())
    dead(stage, labels={"team": "b"})
    assert stage.jaas("list", "-q", *args).stdout.split() == [f"job-{number}" for number in expected.split()]


def test_jobs_are_chosen_by_their_batch(stage: Stage) -> None:
    stage.ledger.batches.create("b", name="", max_parallel=0, min_success=1.0)
    jobs = [NewJob(f"b-{n}", JobSpec(image="a"), stage.ledger.prefix, batch="b", index=n) for n in range(2)]
    stage.ledger.submission.create_many(jobs)
    stage.launch("b-1")
    stage.ledger.ownership.finish("b-1", HOLDER, [ended(code=4)])
    dead(stage)
    assert stage.jaas("list", "-q", "--batch", "b").stdout.split() == ["b-1", "b-0"]
    assert stage.jaas("list", "-q", "--dead", "--batch", "b").stdout.split() == ["b-1"]
    (made,) = stage.jaas("replay", "-q", "--batch", "b").stdout.split()
    assert stage.ledger.queries.get(made).replay_of == "b-1"
    assert stage.jaas("replay", "-q", "--batch", "b").stdout == ""


@pytest.mark.parametrize("place", [0, 1])
def test_jobs_are_chosen_by_their_queue_if_it_is_named_on_the_command_line(stage: Stage, place: int) -> None:
    mine = stage.add()
    other = f"{stage.ledger.prefix}-other"
    stage.ledger.submission.create("theirs", JobSpec(image="alpine"), other)
    words = ["list", "-q"]
    words[place:place] = ["--queue", other]
    assert stage.jaas(*words).stdout.split() == ["theirs"]
    assert stage.jaas("list", "-q").stdout.split() == ["theirs", mine], "JAAS_QUEUE must not hide the others"


@pytest.mark.parametrize("words", ["list", "replay", "cancel"])
def test_a_batch_that_is_not_known_is_said_to_be_so(stage: Stage, words: str) -> None:
    dead(stage)
    result = stage.jaas(words, "--batch", "nope")
    assert (result.exit_code, result.stdout) == (125, "")
    assert result.stderr == "jaas: no batch nope is known; its record may have expired\n"


def test_cancel_ends_a_whole_batch(stage: Stage) -> None:
    with Client(stage.environ["JAAS_REDIS_URL"], queue=stage.ledger.prefix, prefix=stage.ledger.prefix) as client:
        batch = client.map(JobSpec(image="a", command=["{item}"]), ["x", "y", "z"], max_parallel=1)
        result = stage.jaas("cancel", "--batch", batch.id, "--reason", "enough")
        assert (result.exit_code, result.stdout) == (0, f"batch {batch.id}: 3 jobs cancelled\n")
        assert (batch.status.state, batch.status.reason) == (JobState.CANCELLED, "enough")
        assert json.loads(stage.jaas("cancel", "--json", "--batch", batch.id).stdout) == {"id": batch.id, "jobs": 0}


def test_dead_and_another_state_contradict_each_other(stage: Stage) -> None:
    result = stage.jaas("list", "--dead", "--state", "running")
    assert result.exit_code == 2
    assert "--dead: means --state failed" in result.stderr


# -- explain ----------------------------------------------------------------------------------------------------------


def test_explain_prints_sentences(stage: Stage) -> None:
    queued = stage.add()
    result = stage.jaas("explain", queued)
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert re.fullmatch(
        r"It has been queued for \d+ seconds?; 0 jobs submitted earlier are still in the queue\.", first
    )
    assert second == "No worker is up: start one on a manager node (`jaas worker`, or the stack)."
    assert stage.jaas("explain", "-q", queued).stdout.count("\n") == 1


def test_explain_says_which_nodes_lack_what(stage: Stage) -> None:
    know_nodes(stage.ledger, node("n1", free_memory=GIB), node("n2", state="down"))
    job_id = stage.add(JobSpec(image="a", reservations={"memory": "2G"}))
    stage.ledger.maintenance.renew_lease(HOLDER, 60, {})
    stage.ledger.ownership.claim(job_id, HOLDER)
    stage.ledger.ownership.move(
        job_id, HOLDER, JobState.PENDING, detail="no suitable node (insufficient resources on 1 node)"
    )
    lines = stage.jaas("explain", job_id).stdout.splitlines()
    assert "  n1: 2.0 GiB of memory wanted, 1.0 GiB free (4 cores and 1.0 GiB free)" in lines
    assert "  n2: it is down (4 cores and 8.0 GiB free)" in lines
    told = json.loads(stage.jaas("explain", "--json", job_id).stdout)
    assert (told["job_id"], told["state"]) == (job_id, "PENDING")
    without_times = [re.sub(r"\d+ seconds?", "", text) for text in lines]
    assert [re.sub(r"\d+ seconds?", "", text) for text in told["sentences"]] == without_times
    assert [(n["hostname"], n["fits"]) for n in told["nodes"]] == [("n1", False), ("n2", False)]


def test_explain_counts_what_is_before_a_job_in_its_own_queue_and_says_which_limit_holds_it(stage: Stage) -> None:
    spec = JobSpec(image="a")
    for number, queue in enumerate(("q", "other", "q", "q")):
        stage.ledger.submission.create(f"j{number}", spec, queue)
    full = {"queue": "q", "node": "n1", "in_flight": 7, "starting": 1, "max_in_flight": 7, "window": 3}
    stage.ledger.maintenance.renew_lease(HOLDER, 60, full)
    stage.ledger.maintenance.renew_lease("idle", 60, {**full, "queue": "other", "in_flight": 0})
    told = json.loads(stage.jaas("explain", "--json", "j3").stdout)
    assert (told["ahead"], told["limit"], [w["holder"] for w in told["workers"]]) == (2, "max_in_flight", [HOLDER])
    assert told["sentences"][1:] == [
        "1 worker is up, with as many jobs in flight as JAAS_MAX_IN_FLIGHT allows; one that ends makes room.",
        "  n1: 7 of 7 jobs in flight, 1 of 3 starting",
    ]
    assert json.loads(stage.jaas("explain", "--json", "j1").stdout)["limit"] is None


def test_explain_says_what_a_job_waits_for(stage: Stage) -> None:
    prefix, spec = stage.ledger.prefix, JobSpec(image="a")
    over, open_ = stage.add(end=ended()), stage.add()
    stage.ledger.batches.create("b", name="", max_parallel=1, min_success=1.0)
    stage.ledger.submission.create_many([NewJob(f"b-{n}", spec, prefix, batch="b", index=n) for n in range(3)])
    after = ((over, "success"), (open_, "finish"), ("batch:b", "failure"))
    stage.ledger.submission.create_many([NewJob("after", spec, prefix, after=after)])
    told = json.loads(stage.jaas("explain", "--json", "after").stdout)
    assert told["limit"] == "after"
    assert told["sentences"][0].endswith(" it has waited for what it comes after: 2 of 3 have not ended.")
    assert told["sentences"][1:] == [
        f"  job {open_} is QUEUED (however it ends)",
        "  batch b is open, with 0 of 3 jobs ended (it must fail)",
    ]
    told = json.loads(stage.jaas("explain", "--json", "b-2").stdout)
    assert told["limit"] == "max_parallel"
    assert told["sentences"][0].endswith(
        " it has waited for a place in batch b, which may have 1 active job at once (max_parallel)."
    )
    assert told["sentences"][1:] == ["1 job of the batch is before it."]


def test_explain_several_also_when_one_is_not_known(stage: Stage) -> None:
    first, second = dead(stage, Cause.OOM, 137), stage.add(end=ended())
    result = stage.jaas("explain", first, "nope", second)
    assert result.exit_code == 125
    assert result.stderr == "jaas: no job nope is known; its record may have expired\n"
    parts = result.stdout.split("\n\n")
    assert [part.splitlines()[0] for part in parts] == [f"job {first}", f"job {second}"]
    assert "most likely for its memory, though no engine said so (cause oom, exit code 137)" in parts[0]
    assert "What may help: raise limits.memory" in parts[0]
    assert parts[1].splitlines()[1:] == ["It succeeded on node1 with exit code 0."]


def test_status_shows_every_attempt(stage: Stage) -> None:
    job_id = stage.add()
    stage.launch(job_id)
    attempts = [ended(code=75, number=1).model_copy(update={"decision": "rule 1 (retry) matched"}), ended(number=2)]
    assert stage.ledger.ownership.finish(job_id, HOLDER, attempts)
    lines = stage.jaas("status", job_id).stdout.splitlines()
    assert "attempt 1: exit, exit code 75, on node1, ran 1.5s, rule 1 (retry) matched" in lines
    assert "exit code: 0" in lines


# -- cancel -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def four(stage: Stage) -> list[str]:
    """Jobs QUEUED (team a), RUNNING (team a), QUEUED (team b) and ended (team a)."""
    a, b = ({"team": team} for team in "ab")
    jobs = [stage.add(JobSpec(image="alpine", labels=labels)) for labels in (a, a, b)]
    stage.launch(jobs[1])
    return [*jobs, dead(stage, labels=a)]


def states(stage: Stage, jobs: list[str]) -> list[str]:
    return [
        stage.ledger.queries.get(job).state if not stage.ledger.queries.get(job).cancel else "cancelled" for job in jobs
    ]


def test_cancel_by_label(stage: Stage, four: list[str]) -> None:
    result = stage.jaas("cancel", "--label", "team=a", "--reason", "enough")
    assert result.exit_code == 0
    assert sorted(result.stdout.splitlines()) == [
        f"{four[0]}: cancelled",
        f"{four[1]}: is RUNNING; its worker stops the container",
    ]
    assert states(stage, four) == ["cancelled", "cancelled", "QUEUED", "FAILED"]
    assert stage.ledger.queries.get(four[1]).cancel == "enough"
    assert stage.jaas("cancel", "--label", "team=b", "--label", "other").stdout == ""
    assert states(stage, four)[2] == "QUEUED"
    assert stage.jaas("cancel", "--label", "team", "--json").stdout.count("state_before") == 2


def test_cancel_all_needs_a_yes(stage: Stage, four: list[str]) -> None:
    result = stage.jaas("cancel", "--all")
    assert result.exit_code == 2
    assert "--all: this is no terminal to ask on; say --yes" in result.stderr
    assert states(stage, four) == ["QUEUED", "RUNNING", "QUEUED", "FAILED"]
    result = stage.jaas("cancel", "--all", "--yes", "-q")
    assert (result.exit_code, result.output) == (0, "")
    assert states(stage, four) == ["cancelled", "cancelled", "cancelled", "FAILED"]


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_cancel_all_asks_on_a_terminal(
    stage: Stage, four: list[str], monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    on_a_terminal(monkeypatch)
    result = stage.jaas("cancel", "--all", stdin=f"{answer}\n")
    assert result.exit_code == code
    assert "cancel 3 jobs: all that have not ended, of Client(" in result.stderr
    assert ("nothing was cancelled" in result.stderr) == bool(code)
    assert states(stage, four)[0] == ("QUEUED" if code else "cancelled")


@pytest.mark.parametrize(
    "args", [[], ["job-1", "--all"], ["job-1", "--label", "a"], ["--all", "--label", "a"], ["--all", "--batch", "b"]]
)
def test_cancel_wants_one_way_of_choosing(stage: Stage, args: list[str]) -> None:
    stage.add()
    result = stage.jaas("cancel", "--yes", *args)
    assert result.exit_code == 2
    assert "give ids, or --label, or --batch, or --all" in result.stderr
    assert stage.ledger.queries.get("job-1").state == "QUEUED"


def test_cancel_where_there_is_nothing(stage: Stage) -> None:
    result = stage.jaas("cancel", "--all")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "jaas: no such jobs\n")


def test_cancel_reaches_every_state_that_is_not_an_end(stage: Stage) -> None:
    first, later = stage.add(), stage.add()
    stage.ledger.submission.create_many([NewJob("waits", JobSpec(image="a"), "q", after=((first, "success"),))])
    jobs = {JobState.QUEUED: first, JobState.RUNNING: later, JobState.WAITING: "waits"}
    stage.launch(later)
    for state in (JobState.LAUNCHING, JobState.PENDING, JobState.BACKOFF):
        job_id = jobs[state] = stage.add()
        stage.ledger.ownership.claim(job_id, HOLDER)
        if state is JobState.PENDING:
            stage.ledger.ownership.move(job_id, HOLDER, state)
        elif state is JobState.BACKOFF:
            stage.ledger.ownership.back_off(job_id, HOLDER, [ended(code=1)], None, 3600, "")
    assert (
        {stage.ledger.queries.get(job_id).state for job_id in jobs.values()} == jobs.keys() == set(JobState) - TERMINAL
    )
    result = stage.jaas("cancel", "--all", "--yes", "--json")
    told = {line["id"]: line["state_before"] for line in map(json.loads, result.stdout.splitlines())}
    assert told == {job_id: str(state) for state, job_id in jobs.items()}
    assert all(stage.ledger.queries.get(job_id).cancel for job_id in jobs.values())


# -- replay -----------------------------------------------------------------------------------------------------------


def test_replay_prints_the_new_id_and_links_both(stage: Stage) -> None:
    job_id = dead(stage, env={"A": "1"}, labels={"team": "a"})
    result = stage.jaas("replay", job_id)
    assert result.exit_code == 0
    made = stage.ledger.queries.get(result.stdout.strip())
    assert (made.state, made.replay_of, made.spec) == (JobState.QUEUED, job_id, stage.ledger.queries.get(job_id).spec)
    assert stage.ledger.queries.get(job_id).replayed_by == made.id
    assert result.stderr == f"jaas: job {made.id} repeats job {job_id}\n"
    quiet = stage.jaas("replay", "-q", job_id)
    assert (quiet.stderr, quiet.stdout) == ("", f"{stage.ledger.queries.get(job_id).replayed_by}\n")
    told = json.loads(stage.jaas("replay", "--json", job_id).stdout)
    assert told == {"id": stage.ledger.queries.get(job_id).replayed_by, "replay_of": job_id}
    assert f"replay:    {told['id']}" in stage.jaas("status", job_id).stdout
    assert " yes " in stage.jaas("list", "--dead").stdout


def test_replay_by_cause_and_label_in_the_order_in_which_they_gave_up(stage: Stage) -> None:
    a, b = {"team": "a"}, {"team": "b"}
    oom = [dead(stage, Cause.OOM, 137, labels=labels) for labels in (a, b, a)]
    dead(stage, Cause.IMAGE, None, labels=a)
    stage.add(JobSpec(image="alpine", labels=a), ended())
    made = [json.loads(line) for line in stage.jaas("replay", "--json", "--cause", "oom").stdout.splitlines()]
    assert [one["replay_of"] for one in made] == oom
    # Once is enough: those that were replayed are passed over, unless they are named.
    again = stage.jaas("replay", "--cause", "oom")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "all of them have been replayed" in again.stderr
    assert stage.jaas("replay", "-q", oom[0]).exit_code == 0
    made = [json.loads(line) for line in stage.jaas("replay", "--json", "--label", "team=a").stdout.splitlines()]
    (last,) = [stage.ledger.queries.get(one["replay_of"]).last for one in made]
    assert last is not None
    assert last.cause is Cause.IMAGE


SETTINGS: list[tuple[list[str], dict[str, Any]]] = [
    (["memory=2G"], {"limits": {"cpus": 1.0, "memory": 2 * GIB}}),
    (["limits.memory=2G", "cpus=0.5"], {"limits": {"cpus": 0.5, "memory": 2 * GIB}}),
    (["reservations.memory=1G"], {"reservations": {"memory": GIB}}),
    (["image=busybox:2"], {"image": "busybox:2"}),
    (["env.A=2", "env.NEW=x=y"], {"env": {"A": "2", "B": "2", "NEW": "x=y"}}),
    (["env.A="], {"env": {"A": "", "B": "2"}}),
    (["labels.run=7"], {"labels": {"team": "a", "run": "7"}}),
    (
        ["run_timeout=1h", "deadline=2h", "expires=30m", "pending_timeout=5"],
        {"run_timeout": 3600.0, "deadline": 7200.0, "expires": 1800.0, "pending_timeout": 5.0},
    ),
    (["retry.max_attempts=5"], {"retry": {"max_attempts": 5, "max_cluster_retries": 1}}),
    (["on_node_lost=retry", "lost_after=90"], {"on_node_lost": "retry", "lost_after": 90.0}),
    (["user=1:2", "registry=team-a", "stop_grace=3s"], {"user": "1:2", "registry": "team-a", "stop_grace": 3.0}),
]


@pytest.mark.parametrize(("settings", "expected"), SETTINGS)
def test_set_changes_what_it_names_and_nothing_else(
    stage: Stage, settings: list[str], expected: dict[str, Any]
) -> None:
    before: dict[str, Any] = {
        "env": {"A": "1", "B": "2"},
        "labels": {"team": "a"},
        "limits": {"cpus": 1, "memory": "1G"},
        "retry": {"max_attempts": 3, "max_cluster_retries": 1},
    }
    job_id = dead(stage, **before)
    args = [word for setting in settings for word in ("--set", setting)]
    made = stage.ledger.queries.get(stage.jaas("replay", "-q", *args, job_id).stdout.strip())
    assert made.spec == JobSpec.parse({**JobSpec(image="alpine", **before).to_wire(), **expected})


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "give ids, or choose with --cause, --label and --batch"),
        (["job-1", "--cause", "oom"], "give ids, or choose with --cause, --label and --batch"),
        (["--cause", "bad-luck"], "bad-luck"),
        (["--set", "memory", "job-1"], "--set: write FIELD=VALUE, such as memory=2G"),
        (["--set", "colour=red", "job-1"], "'colour' cannot be set; there are memory, cpus, image, limits.memory"),
        (["--set", "env=A", "job-1"], "'env' cannot be set; there are"),
        (["--set", "command=x", "job-1"], "'command' cannot be set"),
        (["--set", "memory=lots", "job-1"], "limits.memory: "),
        (["--set", "image=UPPER", "job-1"], "image: "),
        (["job-1", "job-2"], "job job-2 is QUEUED; only a job that has ended can be replayed"),
    ],
)
def test_what_cannot_be_replayed_so_is_said_in_a_sentence(stage: Stage, args: list[str], text: str) -> None:
    dead(stage)
    stage.add()
    result = stage.jaas("replay", *args)
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stderr.count("\n") == 1
    assert len(stage.ledger.queries.ids()) == 2


def test_replay_of_an_unknown_job_does_not_keep_it_from_the_others(stage: Stage) -> None:
    job_id = dead(stage)
    result = stage.jaas("replay", "-q", "nope", job_id)
    assert result.exit_code == 125
    assert stage.ledger.queries.get(job_id).replayed_by == result.stdout.strip()


def test_replay_takes_each_job_once_and_to_its_own_queue(stage: Stage) -> None:
    stage.ledger.submission.create("nightly-1", JobSpec(image="a"), "nightly")
    stage.launch("nightly-1")
    stage.ledger.ownership.finish("nightly-1", HOLDER, [ended(code=4)])
    (made,) = stage.jaas("replay", "-q", "nightly-1", "nightly-1").stdout.split()
    assert stage.ledger.queries.get(made).queue == "nightly"


def test_everything_that_set_takes_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "retries.md").read_text()
    for field in (*job.SETTABLE, *job.SHORT, *(f"{name}NAME" for name in job.NAMED)):
        assert f"`{field}`" in text, field


# -- --dry-run --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "submit"])
def test_a_dry_run_says_where_it_would_fit_and_enqueues_nothing(stage: Stage, command: str) -> None:
    know_nodes(stage.ledger, node("n1"), node("n2", free_memory=GIB), node("n3", availability="drain"))
    result = stage.jaas(command, "--dry-run", "--reserve-memory", "2G", "alpine", "echo", "hi")
    assert result.exit_code == 0
    table = [re.split(r"  +", line) for line in result.stdout.splitlines()]
    assert table == [
        ["NODE", "FITS", "FREE CORES", "FREE MEMORY", "WHY NOT", "ITS AGENT SAYS"],
        ["n1", "yes", "4", "8,192 MiB"],
        ["n2", "no", "4", "1,024 MiB", "2.0 GiB of memory wanted, 1.0 GiB free"],
        ["n3", "no", "4", "8,192 MiB", "its availability is drain"],
    ]
    assert result.stderr == (
        "jaas: the image's platforms: not known: its registry has told no worker in the last day\n"
        "jaas: the description is valid; it fits on 1 of 3 nodes (insufficient memory on 1 node, drained or paused on "
        "1 node); nothing was enqueued\n"
    )
    assert stage.ledger.queries.ids() == []


def test_a_dry_run_as_json_hides_variables(stage: Stage) -> None:
    know_nodes(stage.ledger, node("n1"))
    result = stage.jaas("submit", "--dry-run", "--json", "-q", "-e", "PASSWORD=hunter2", "alpine")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "fits": True,
        "nodes": [
            {
                **{"hostname": "n1", "fits": True, "lacks": [], "reasons": [], "free_cpus": 4.0},
                **{"free_memory": 8 * GIB, "free_generic": {}, "image_present": None, "engine": "", "free_disk": None},
            },
        ],
        "platforms": None,
        "refusals": [],
        "spec": {"version": 1, "image": "alpine", "env": {"PASSWORD": "***"}},
    }


def test_a_dry_run_says_what_the_workers_policy_refuses(stage: Stage) -> None:
    know_nodes(stage.ledger, node("n1"))
    report = {"queue": stage.ledger.prefix, "policy": about_policy(Policy())}
    stage.ledger.maintenance.renew_lease("w", 60, report)
    line = ["submit", "--dry-run", "-v", "/etc:/x", "alpine"]
    result = stage.jaas(*line)
    assert result.exit_code == 1
    refusal = 'mounts.0.source: the host\'s /etc may not be mounted; {path = "/etc"} in rules.mounts.binds allows it'
    assert f"jaas: the workers' policy would refuse it: {refusal} (policy rule mounts.binds)\n" in result.stderr
    assert stage.ledger.queries.ids() == []
    # Another worker of the queue would take it.
    stage.ledger.maintenance.renew_lease("x", 60, {**report, "policy": about_policy(Policy(level="privileged"))})
    assert stage.jaas(*line).exit_code == 0


@pytest.mark.parametrize(
    ("registry", "logins", "code", "said"),
    [
        ("nosuch", ["reg.example"], 2, "registry: this worker has no login nosuch for reg.example; it has reg.example"),
        ("nosuch", None, 0, "registry: cannot be checked: no worker answers"),
        ("reg.example", ["reg.example"], 0, "the description is valid"),
    ],
)
def test_a_dry_run_asks_for_the_login(
    stage: Stage, registry: str, logins: list[str] | None, code: int, said: str
) -> None:
    if logins is not None:
        stage.ledger.maintenance.renew_lease("w", 60, {"logins": logins})
    result = stage.jaas("run", "--dry-run", "--registry", registry, "reg.example/app")
    assert (result.exit_code, said in result.stderr) == (code, True)
    assert stage.ledger.queries.ids() == []


def test_a_dry_run_knows_what_a_worker_was_told_of_the_image(stage: Stage) -> None:
    know_nodes(stage.ledger, node("n1", os="linux", arch="x86_64"), node("n2", os="linux", arch="aarch64"))
    stage.ledger.maintenance.save_platforms("alpine", ["linux/arm64", "linux/s390x"])
    result = stage.jaas("submit", "--dry-run", "alpine")
    assert "jaas: the image's platforms: linux/arm64, linux/s390x\n" in result.stderr
    assert "the image runs on linux/arm64, linux/s390x, the node is linux/x86_64" in result.stdout
    told = json.loads(stage.jaas("submit", "--dry-run", "--json", "alpine").stdout)
    assert told["platforms"] == ["linux/arm64", "linux/s390x"]
    assert [one["fits"] for one in told["nodes"]] == [False, True]
    with Client(stage.environ["JAAS_REDIS_URL"], queue=stage.ledger.prefix, prefix=stage.ledger.prefix) as client:
        assert [found.fits for found in client.placement(JobSpec(image="debian"))] == [True, True]


def test_a_dry_run_tells_what_agents_say_of_their_nodes(stage: Stage) -> None:
    know_nodes(stage.ledger, node("n1"), node("n2"))
    leases = AgentLeases(stage.ledger.client, stage.ledger.prefix)
    leases.take("n1", "agent", engine="20.10.24")
    leases.tell("n1", "agent", pack(12 * GIB, ["alpine:latest"]))
    assert "image present, engine 20.10.24, 12.0 GiB of disk free" in stage.jaas("run", "--dry-run", "alpine").stdout
    told = json.loads(stage.jaas("submit", "--dry-run", "--json", "debian").stdout)["nodes"]
    assert [one["image_present"] for one in told] == [False, None]


def test_explain_tells_what_agents_say_of_their_nodes(stage: Stage) -> None:
    know_nodes(stage.ledger, node("n1"))
    leases = AgentLeases(stage.ledger.client, stage.ledger.prefix)
    leases.take("n1", "agent", engine="20.10.24")
    leases.tell("n1", "agent", pack(None, ["alpine:latest"]))
    job_id = stage.add(JobSpec(image="alpine"))
    stage.ledger.ownership.claim(job_id, "w")
    stage.ledger.ownership.move(job_id, "w", JobState.PENDING, detail="no suitable node")
    assert "n1: fits (4 cores and 8.0 GiB free, image present, engine 20.10.24)" in stage.jaas("explain", job_id).stdout


def test_a_dry_run_that_fits_nowhere_ends_with_1(stage: Stage) -> None:
    know_nodes(stage.ledger, node("n1"))
    result = stage.jaas("run", "--dry-run", "-c", "node.labels.gpu==yes", "alpine")
    assert result.exit_code == 1
    assert "constraint node.labels.gpu==yes is not met (it has none)" in result.stdout
    assert "it fits on 0 of 1 nodes" in result.stderr
    told = json.loads(stage.jaas("run", "--dry-run", "--json", "--reserve-cpu", "8", "alpine").stdout)
    assert told["fits"] is False


def test_a_dry_run_without_a_word_from_a_worker_says_so(stage: Stage) -> None:
    result = stage.jaas("submit", "--dry-run", "alpine")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "the description is valid; no worker has told of any node in the last hour" in result.stderr
    assert json.loads(stage.jaas("submit", "--dry-run", "--json", "alpine").stdout)["fits"] is None


def test_a_dry_run_of_a_bad_description_is_refused(stage: Stage) -> None:
    result = stage.jaas("submit", "--dry-run", "ALPINE")
    assert result.exit_code == 2
    assert "image: " in result.stderr


# -- --key ------------------------------------------------------------------------------------------------------------


def test_a_key_leads_to_the_job_that_is_there(stage: Stage) -> None:
    first = stage.jaas("submit", "--key", "payroll", "alpine")
    assert stage.ledger.queries.get(first.stdout.strip()).key == "payroll"
    assert "is in queue" in first.stderr
    second = stage.jaas("submit", "--key", "payroll", "busybox")
    assert second.stdout == first.stdout
    assert f"job {first.stdout.strip()} with this key is there already: queued" in second.stderr
    told = json.loads(stage.jaas("submit", "--key", "payroll", "--json", "alpine").stdout)
    assert told == {
        "id": first.stdout.strip(),
        "queue": stage.ledger.prefix,
        "state": "QUEUED",
        "existing": True,
    }
    assert len(stage.ledger.queries.ids()) == 1
    assert stage.jaas("submit", "--key", " ", "alpine").exit_code == 2


def test_run_with_a_key_follows_the_job_that_is_there_and_never_gives_it_up(stage: Stage) -> None:
    job_id = stage.jaas("submit", "-q", "--key", "nightly", "alpine").stdout.strip()
    stage.launch(job_id)
    assert stage.ledger.ownership.finish(job_id, HOLDER, [ended(code=4)])
    result = stage.jaas("run", "-t", "50ms", "--key", "nightly", "busybox")
    assert result.exit_code == 4
    assert f"job {job_id} with this key is there already: failed" in result.stderr
    assert len(stage.ledger.queries.ids()) == 1


# -- --backoff and --retry-policy -------------------------------------------------------------------------------------


def retry_of(*args: str) -> dict[str, Any]:
    with cli.commands["submit"].make_context("submit", [*args, "alpine"]) as context:
        options = dict(context.params)
        fields: dict[str, Any] = job_request_of(options.pop("words"), options, {}).spec.to_wire().get("retry", {})
    return fields


POLICY = {"max_attempts": 4, "rules": [{"action": "retry", "exit_codes": [75, "64-70"]}, {"action": "fail"}]}
AS_WIRE = {
    "max_attempts": 4,
    "rules": [{"action": "retry", "exit_codes": [[75, 75], [64, 70]]}, {"action": "fail"}],
}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--backoff", "10s"], {"backoff": {"delay": 10.0}}),
        (
            ["--backoff", "kind=constant,delay=1m,cap=2m,jitter=none"],
            {"backoff": {"kind": "constant", "delay": 60.0, "cap": 120.0, "jitter": "none"}},
        ),
        (["--backoff", "factor=3"], {"backoff": {"factor": 3.0}}),
        (["--max-attempts", "3", "--backoff", "5"], {"max_attempts": 3, "backoff": {"delay": 5.0}}),
        (["--retry-policy", json.dumps(POLICY)], AS_WIRE),
        (["--retry-policy", json.dumps(POLICY), "--max-attempts", "9"], {**AS_WIRE, "max_attempts": 9}),
        (["--retry-policy", " {}"], {}),
    ],
)
def test_options_become_a_retry_policy(args: list[str], expected: dict[str, Any]) -> None:
    assert retry_of(*args) == expected


def test_a_retry_policy_comes_from_a_file_and_replaces_that_of_a_description(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    (tmp_path / "job.json").write_text(json.dumps({"image": "a", "retry": {"max_cluster_retries": 7}}))
    policy, spec = str(tmp_path / "policy.json"), str(tmp_path / "job.json")
    assert retry_of("--retry-policy", policy) == AS_WIRE
    assert retry_of("--spec", spec, "--retry-policy", policy) == AS_WIRE
    assert retry_of("--spec", spec, "--max-attempts", "2") == {"max_cluster_retries": 7, "max_attempts": 2}


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--backoff", "soon"], "retry.backoff.delay: give seconds or a duration such as 60s"),
        (["--backoff", "speed=3"], "--backoff: 'speed' is not known; there are kind, delay, factor, cap, jitter"),
        (["--backoff", "kind=linear"], "retry.backoff.kind: "),
        (["--retry-policy", "/does/not/exist"], "--retry-policy: /does/not/exist: No such file or directory"),
        (["--retry-policy", "{"], "--retry-policy is not valid JSON"),
        (["--retry-policy", '{"rules": [{"action": "retry", "exit_codes": "x"}]}'], "retry.rules.0.exit_codes.0: "),
        (["--retry-policy", '{"tries": 3}'], "retry.tries: "),
        (["--max-attempts", "0"], "--max-attempts"),
    ],
)
def test_a_bad_policy_is_one_sentence(stage: Stage, args: list[str], text: str) -> None:
    result = stage.jaas("submit", *args, "alpine")
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_policy_file_must_hold_an_object(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text("[1]")
    result = stage.jaas("submit", "--retry-policy", str(tmp_path / "policy"), "alpine")
    assert result.exit_code == 2
    assert "must hold a JSON object" in result.stderr


def test_explain_names_the_command_that_prints_the_output(stage: Stage) -> None:
    failed = dead(stage)
    assert stage.jaas("explain", failed).stdout.splitlines()[-1] == f"`jaas logs {failed}` prints its output."
    assert "jaas logs" not in stage.jaas("explain", "-q", failed).stdout
    assert "jaas logs" not in stage.jaas("explain", stage.add(end=ended())).stdout

"""On which nodes a job would fit, and what the others lack."""

from __future__ import annotations

from typing import Any

import pytest

from jaas_submit.model.causes import Cause
from jaas_submit.model.fields import Resources
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Attempt
from jaas_submit.model.retry_policy import RetryPolicy
from jaas_submit.model.states import JobState
from jaas_submit.placement.placement import as_the_swarm_says, avoided_nodes, fit, placement, what_is_lacking
from tests.support.nodes import GIB, cluster, node

# -- which nodes would take it ----------------------------------------------------------------------------------------

MANAGER = node(
    "Host-A",
    role="manager",
    address="10.1.2.3",
    labels={"disk": "SSD", "Zone": "a.b", "empty": ""},
    engine_labels={"kernel": "6.1"},
)

# The constraint; whether MANAGER meets it. tests/integration/test_causes.py asks a real swarm the same.
CONSTRAINTS: list[tuple[str, bool]] = [
    ("node.id==id-Host-A", True),
    ("node.id==ID-HOST-A", True),
    ("node.id!=id-Host-A", False),
    ("node.id==id-other", False),
    ("node.id!=id-other", True),
    ("node.hostname==Host-A", True),
    ("node.hostname==host-a", True),
    ("node.hostname!=host-a", False),
    ("node.hostname==Host", False),
    ("node.hostname == Host-A", True),
    ("  node.hostname  ==  Host-A  ", True),
    ("node.role==manager", True),
    ("node.role==Manager", True),
    ("node.role==worker", False),
    ("node.role!=worker", True),
    ("node.platform.os==linux", True),
    ("node.platform.os==windows", False),
    ("node.platform.arch==x86_64", True),
    ("node.platform.arch==amd64", False),
    # labels: their values by no case, their names by their case; one that is not set is empty
    ("node.labels.disk==ssd", True),
    ("node.labels.disk!=ssd", False),
    ("node.labels.Disk==ssd", False),
    ("node.labels.Zone==a.b", True),
    ("node.labels.Zone==axb", False),
    ("node.labels.gpu==yes", False),
    ("node.labels.gpu!=yes", True),
    ("engine.labels.kernel==6.1", True),
    ("engine.labels.kernel!=6.1", False),
    ("engine.labels.kernel==6x1", False),
    ("engine.labels.none!=x", True),
    # no wildcards
    ("node.hostname==*", False),
    ("node.hostname==Host*", False),
    ("node.hostname!=Host*", True),
    # an address, or a subnet
    ("node.ip==10.1.2.3", True),
    ("node.ip!=10.1.2.3", False),
    ("node.ip==10.1.2.4", False),
    ("node.ip==10.1.0.0/16", True),
    ("node.ip!=10.1.0.0/16", False),
    ("node.ip==10.2.0.0/16", False),
    ("node.ip!=10.2.0.0/16", True),
    ("node.ip==nowhere", False),
    ("node.ip!=nowhere", False),
]


@pytest.mark.parametrize(("constraint", "met"), CONSTRAINTS)
def test_constraints_are_read_as_the_swarm_reads_them(constraint: str, met: bool) -> None:
    found = fit(JobSpec(image="a", constraints=[constraint]), MANAGER)
    assert found.fits == met
    assert bool(found.reasons) == (not met)
    assert all(f"constraint {constraint} is not met" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("platforms", "fits"),
    [
        ((), True),
        (("linux/amd64",), True),
        (("linux/x86_64",), True),
        (("linux/",), True),
        (("windows/amd64", "linux/arm64"), False),
        (("linux/arm64", "linux/amd64"), True),
    ],
)
def test_an_image_runs_on_its_platforms_only(platforms: tuple[str, ...], fits: bool) -> None:
    found = fit(JobSpec(image="a"), node(os="linux", arch="x86_64"), platforms=platforms)
    assert found.fits is fits
    assert found.lacks == (() if fits else ("platform",))
    if not fits:
        assert found.reasons == (f"the image runs on {', '.join(platforms)}, the node is linux/x86_64",)


@pytest.mark.parametrize(
    ("drivers", "wanted", "fits"),
    [
        (("json-file", "local"), None, True),
        (("json-file", "local"), "local", True),
        (("json-file", "local"), "none", True),
        (("json-file", "local"), "loki", False),
        (("json-file", "loki:latest"), "loki", True),
        (("json-file", "loki:2"), "loki", False),
        # its engine names no drivers, so that the swarm tries
        ((), "loki", True),
    ],
)
def test_the_engine_of_a_node_has_the_log_driver(drivers: tuple[str, ...], wanted: str | None, fits: bool) -> None:
    found = fit(JobSpec(image="a", log_driver=wanted), node(log_drivers=drivers))
    assert (found.fits, found.lacks) == (fits, () if fits else ("plugin",))
    assert found.reasons == (() if fits else ("its engine has no log driver loki",))


@pytest.mark.parametrize(
    ("said", "driver", "lacking"),
    [
        ("no suitable node (missing plugin on 2 nodes)", None, ["plugin", "plugin", "state"]),
        ("no suitable node (insufficient resources on 2 nodes)", None, ["", "", "state"]),
        ("", None, ["", "", "state"]),
        # the job names the missing one, and another node has got it meanwhile
        ("no suitable node (missing plugin on 2 nodes)", "loki", ["plugin", "", "state"]),
    ],
)
def test_a_plugin_that_only_the_swarm_misses(said: str, driver: str | None, lacking: list[str]) -> None:
    nodes = (node("n1", log_drivers=("local",)), node("n2", log_drivers=("local", "loki")), node("n3", state="down"))
    found = as_the_swarm_says(placement(JobSpec(image="a", log_driver=driver), cluster(*nodes)), said)
    assert ["".join(one.lacks[:1]) for one in found] == lacking
    assert [one.fits for one in found] == [not lack for lack in lacking]


def test_what_a_node_has_instead_is_shown() -> None:
    wanted = ["node.platform.arch==amd64", "node.labels.gpu==yes"]
    assert fit(JobSpec(image="a", constraints=wanted), MANAGER).reasons == (
        "constraint node.platform.arch==amd64 is not met (it has x86_64)",
        "constraint node.labels.gpu==yes is not met (it has none)",
    )


# What the job reserves; what the node has free; whether it fits; the reason.
ROOM: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"free_cpus": 0, "free_memory": 0}, ""),
    ({"cpus": 4}, {}, ""),
    ({"memory": "8G"}, {}, ""),
    ({"cpus": 4.001}, {}, "4.001 cores wanted, 4 free"),
    ({"memory": 8 * GIB + 1}, {}, "8.0 GiB of memory wanted, 8.0 GiB free"),
    ({"cpus": 0.3}, {"free_cpus": 0.1 + 0.2 - 1e-12}, ""),  # sums of such numbers are never exact
    ({"cpus": 1}, {"free_cpus": 0.5}, "1 cores wanted, 0.5 free"),
    ({"memory": "10M"}, {"free_memory": 1024}, "10.0 MiB of memory wanted, 1.0 KiB free"),
    ({"memory": "10M"}, {"free_memory": -5}, "10.0 MiB of memory wanted, -5 B free"),
]


@pytest.mark.parametrize(("needs", "free", "reason"), ROOM)
def test_a_node_needs_the_room_that_is_reserved(needs: dict[str, Any], free: dict[str, Any], reason: str) -> None:
    found = fit(JobSpec(image="a", reservations=Resources(**needs)), node(**free))
    assert found.fits == (not reason)
    assert found.reasons == ((reason,) if reason else ())


@pytest.mark.parametrize(
    ("wanted", "free", "reason"),
    [
        ({"gpu": 2}, {"generic": {"gpu": 2}, "free_generic": {"gpu": 2}}, ""),
        ({"gpu": 2}, {"generic": {"gpu": 2}, "free_generic": {"gpu": 1}}, "2 gpu wanted, 1 of 2 free"),
        ({"gpu": 1}, {"generic": {"fpga": 2}, "free_generic": {"fpga": 2}}, "1 gpu wanted, it has none"),
        ({"gpu": 1}, {}, "1 gpu wanted, it has none"),
    ],
)
def test_a_node_needs_the_generic_resources_that_are_asked_for(
    wanted: dict[str, int], free: dict[str, Any], reason: str
) -> None:
    found = fit(JobSpec(image="a", generic_resources=wanted), node(**free))
    assert (found.fits, found.lacks) == (not reason, ("generic",) if reason else ())
    assert found.reasons == ((reason,) if reason else ())
    assert found.free_generic == free.get("free_generic", {})


def test_a_node_whose_gpus_are_taken_may_remain_for_a_retry() -> None:
    careful = JobSpec(image="a", generic_resources={"gpu": 1}, retry=RetryPolicy(avoid_failed_nodes=True))
    failed = [Attempt(number=1, state=JobState.FAILED, cause=Cause.EXIT, node_id="id-n1")]
    busy = {"generic": {"gpu": 1}, "free_generic": {"gpu": 0}}
    assert avoided_nodes(careful, failed, [node("n1", **busy), node("n2", **busy)]) == {"id-n1"}
    assert avoided_nodes(careful, failed, [node("n1", **busy), node("n2")]) == set()


def test_limits_take_no_room() -> None:
    assert fit(JobSpec(image="a", limits=Resources(cpus=64, memory="1T")), node()).fits


@pytest.mark.parametrize(
    ("state", "reasons"),
    [
        ({}, []),
        ({"state": "down"}, ["it is down"]),
        ({"state": "unknown"}, ["it is unknown"]),
        ({"availability": "drain"}, ["its availability is drain"]),
        ({"availability": "pause"}, ["its availability is pause"]),
        ({"state": "down", "availability": "drain"}, ["it is down", "its availability is drain"]),
    ],
)
def test_a_node_must_be_there_and_take_work(state: dict[str, str], reasons: list[str]) -> None:
    found = fit(JobSpec(image="a"), node(**state))
    assert (found.fits, list(found.reasons)) == (not reasons, reasons)


def test_each_node_has_all_its_reasons() -> None:
    spec = JobSpec(
        image="a", constraints=["node.role==manager", "node.labels.x==y"], reservations=Resources(cpus=8, memory="9G")
    )
    found = placement(
        spec, cluster(node("n1", state="down"), node("n2", role="manager", labels={"x": "y"}, free_cpus=9))
    )
    assert [len(one.reasons) for one in found] == [5, 1]
    assert [one.lacks for one in found] == [("state", "constraint", "memory", "cpus"), ("memory",)]
    assert what_is_lacking(found) == (
        "insufficient memory on 2 nodes, insufficient cores on 1 node, constraint not met on 1 node, "
        "not ready on 1 node"
    )
    assert what_is_lacking([]) == ""
    assert [one.hostname for one in found] == ["n1", "n2"]
    assert placement(spec, cluster()) == ()


# -- nodes that failed ------------------------------------------------------------------------------------------------


def test_without_the_policy_no_node_is_avoided() -> None:
    failed = [Attempt(number=1, state=JobState.FAILED, cause=Cause.EXIT, node_id="id-n1")]
    assert avoided_nodes(JobSpec(image="a"), failed, [node("n1"), node("n2")]) == frozenset()
    careful = JobSpec(image="a", retry=RetryPolicy(avoid_failed_nodes=True))
    assert avoided_nodes(careful, failed, [node("n1"), node("n2")]) == {"id-n1"}
    assert avoided_nodes(careful, failed, [node("n1"), node("n2", free_cpus=0, free_memory=0)]) == {"id-n1"}
    assert avoided_nodes(careful, failed, [node("n1"), node("n2", availability="drain")]) == frozenset()

"""Command lines that people type who know docker or the Go tool: what runs, or what is said."""

from __future__ import annotations

import shlex
from typing import Any

import click
import pytest

from jaas_submit import SpecError
from jaas_submit.cli.docker_flags import unambiguous
from jaas_submit.cli.job_options import JobRequest, job_request_of
from jaas_submit.cli.main import cli

MIB = 2**20
A = {"image": "alpine"}


def request(line: str, command: str = "run") -> tuple[JobRequest, dict[str, Any]]:
    """Parse a command line as `jaas run` does; return the job and the other options."""
    with cli.commands[command].make_context(command, shlex.split(line)) as context:
        options = dict(context.params)
        return job_request_of(options.pop("words"), options, {"HOME": "/root"}), options


def wire(line: str) -> dict[str, Any]:
    data = request(line)[0].spec.to_wire()
    del data["version"]
    return data


RUNS: list[tuple[str, dict[str, Any]]] = [
    # docker's habits
    ("-it alpine sh", {**A, "command": ["sh"]}),
    ("-ti alpine sh", {**A, "command": ["sh"]}),
    ("-i -t alpine sh", {**A, "command": ["sh"]}),
    ("-t -i alpine sh", {**A, "command": ["sh"]}),
    ("--interactive --tty alpine sh", {**A, "command": ["sh"]}),
    ("-i --rm alpine cat", {**A, "command": ["cat"]}),
    ("-i alpine cat", {**A, "command": ["cat"]}),
    ("--rm alpine true", {**A, "command": ["true"]}),
    ("--rm -it alpine sh", {**A, "command": ["sh"]}),
    ("-itd alpine sh", {**A, "command": ["sh"]}),
    ("-d alpine sleep 100", {**A, "command": ["sleep", "100"]}),
    ("-dit alpine sh", {**A, "command": ["sh"]}),
    ("--detach alpine sleep 100", {**A, "command": ["sleep", "100"]}),
    ("-d --name web alpine sleep 100", {**A, "name": "web", "command": ["sleep", "100"]}),
    ("-v /a:/b alpine", {**A, "mounts": [{"source": "/a", "target": "/b"}]}),
    ("-v /a:/b:ro alpine", {**A, "mounts": [{"source": "/a", "target": "/b", "read_only": True}]}),
    ("--volume data:/b alpine", {**A, "mounts": [{"type": "volume", "source": "data", "target": "/b"}]}),
    ("-itv /a:/b alpine", {**A, "mounts": [{"source": "/a", "target": "/b"}]}),
    ("--tmpfs /tmp alpine", {**A, "mounts": [{"type": "tmpfs", "target": "/tmp"}]}),
    ("-m 128m alpine", {**A, "limits": {"memory": 128 * MIB}}),
    ("-m=128m alpine", {**A, "limits": {"memory": 128 * MIB}}),
    ("-m128m alpine", {**A, "limits": {"memory": 128 * MIB}}),
    ("--memory 128m --cpus 0.5 alpine", {**A, "limits": {"memory": 128 * MIB, "cpus": 0.5}}),
    ("--memory-reservation 64m alpine", {**A, "reservations": {"memory": 64 * MIB}}),
    ("-l team=web alpine", {**A, "labels": {"team": "web"}}),
    ("-lteam=web alpine", {**A, "labels": {"team": "web"}}),
    ("--label team=web alpine", {**A, "labels": {"team": "web"}}),
    ("--stop-signal INT alpine", {**A, "stop_signal": "SIGINT"}),
    ("--stop-signal 2 alpine", {**A, "stop_signal": "SIGINT"}),
    ("--stop-timeout 5 alpine", {**A, "stop_grace": 5.0}),
    ("--net demo --user 1:2 --workdir /w alpine", {**A, "networks": ["demo"], "user": "1:2", "workdir": "/w"}),
    ("--restart no alpine", A),
    ("--restart=no alpine", A),
    ("-e A=b -e HOME alpine", {**A, "env": {"A": "b", "HOME": "/root"}}),
    ("--env=A=b --entrypoint cat alpine /f", {**A, "env": {"A": "b"}, "entrypoint": ["cat"], "command": ["/f"]}),
    # the words behind the image belong to the container
    ("alpine -it -p 80 --hostname x", {**A, "command": ["-it", "-p", "80", "--hostname", "x"]}),
    # the Go tool's
    ("-i alpine -d 'uname -a'", {**A, "entrypoint": ["uname", "-a"]}),
    ("-d 'uname -a' -i alpine", {**A, "entrypoint": ["uname", "-a"]}),
    ("--image alpine -d uname", {**A, "entrypoint": ["uname"]}),
    ("-i=alpine -d=uname", {**A, "entrypoint": ["uname"]}),
    ("-ialpine -t60s", {**A, "run_timeout": 60.0, "pending_timeout": 60.0}),
    ("-t 1m30s alpine", {**A, "run_timeout": 90.0, "pending_timeout": 90.0}),
    ("-t=60s alpine", {**A, "run_timeout": 60.0, "pending_timeout": 60.0}),
    ("-m /a=/b alpine", {**A, "mounts": [{"source": "/a", "target": "/b"}]}),
    ("-m type=volume,source=v,target=/b alpine", {**A, "mounts": [{"type": "volume", "source": "v", "target": "/b"}]}),
    ("-c node.role==worker alpine", {**A, "constraints": ["node.role==worker"]}),
    ("-c 'node.role != manager' alpine", {**A, "constraints": ["node.role != manager"]}),
    ("-l alpine", A),
    ("-l=false alpine", A),
    ("-rlb=false alpine", A),
    ("-n demo -s pass alpine", {**A, "networks": ["demo"], "secrets": [{"source": "pass"}]}),
]

SAYS: list[tuple[str, str]] = [
    ("-p 80:80 nginx", "-p: a job publishes no ports; join a network with --network"),
    ("-P nginx", "-P: a job publishes no ports"),
    ("-itp 80:80 nginx", "-p: a job publishes no ports"),
    ("--publish=80:80 nginx", "--publish: a job publishes no ports"),
    ("--host tcp://node1 alpine", "--host: the workers' engines run the job; --redis URL names the Redis"),
    ("--hostname web alpine", "--hostname: a job's host name cannot be chosen; JAAS_JOB_ID"),
    ("--privileged alpine", "--privileged: a job gets no privileges or devices of its node"),
    ("--restart always alpine", "--restart: --max-attempts N tries a job again"),
    ("-c 512 alpine", "-c 512: --cpus N limits cores; shares and single processors cannot be chosen; a constraint"),
    ("--cpu-shares 512 alpine", "--cpu-shares: --cpus N limits cores"),
    ("-a stdout alpine", "-a stdout: output is always kept and printed"),
    ("--pull always alpine", "--pull: a node pulls an image that it lacks"),
    ("--init alpine", "--init: a job has no such setting; `jaas schema` lists"),
    ("-d foo -i alpine", "-d foo ... -i: can be read in two ways; write --command"),
    ("-v ./x:/b alpine", "--volume: './x' is no absolute path"),
    ("-v /a alpine", "--volume: write SOURCE:TARGET[:ro]"),
    ("-v /a:/b:z alpine", "--volume: 'z' is not known; there are ro and rw"),
    ("-m lots alpine", "limits.memory: give bytes or a size such as 512M"),
    ("-it", "no image given"),
    ("-t 5min alpine", "--timeout: '5min': give seconds or a duration such as 60s or 1h30m"),
    ("--stop-signal stop! alpine", "--stop-signal: 'stop!' is no signal"),
]


def test_the_table_is_long_enough() -> None:
    assert len(RUNS) + len(SAYS) >= 60


@pytest.mark.parametrize(("line", "expected"), RUNS, ids=[line for line, _ in RUNS])
def test_what_runs(line: str, expected: dict[str, Any]) -> None:
    assert wire(line) == expected


@pytest.mark.parametrize(("line", "said"), SAYS, ids=[line for line, _ in SAYS])
def test_what_is_said_instead(line: str, said: str) -> None:
    with pytest.raises((SpecError, click.UsageError)) as caught:
        request(line)
    assert str(caught.value).startswith(said), str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-it alpine", "-it: a job's process has no terminal and an empty standard input; `--input -` hands data over"),
        ("-i --rm alpine", "-i: a job's process has an empty standard input; `--input -` hands data over"),
        ("-t alpine", "-t: a job's process has no terminal; a time limit is written -t 60s"),
    ],
)
def test_what_has_no_effect_is_said(line: str, said: str) -> None:
    (note,) = request(line)[0].notes
    assert note.startswith(said)


@pytest.mark.parametrize("line", ["-i alpine", "-t 5m alpine", "-i=false alpine", "--tty=false alpine"])
def test_what_has_its_effect_needs_no_word(line: str) -> None:
    assert request(line)[0].notes == ()


@pytest.mark.parametrize(
    ("line", "detach"), [("-d alpine", True), ("-dit alpine", True), ("-d=false alpine", False), ("alpine", False)]
)
def test_d_without_the_go_tools_image_leaves_the_job_alone(line: str, detach: bool) -> None:
    assert request(line)[1]["detach"] is detach


@pytest.mark.parametrize(
    ("line", "shown"), [("-l alpine", True), ("-l=false alpine", False), ("-l=0 alpine", False), ("-lb alpine", True)]
)
def test_l_without_a_label_is_the_go_tools(line: str, shown: bool) -> None:
    assert request(line)[1]["show_logs"] is shown


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-i t -d sleep", {"image": "t", "entrypoint": ["sleep"]}),
        ("-it", {"image": "t"}),
        ("-d sleep -i alpine", {**A, "entrypoint": ["sleep"]}),
        ("-t soon -i alpine", "timeout"),
        ("-m 128m -i alpine", "--mount: write SRC=DEST"),
        ("-l -r=false -i alpine", A),
    ],
)
def test_go_run_takes_each_flag_as_the_go_tool_did(line: str, expected: dict[str, Any] | str) -> None:
    run = cli.commands["run"]
    absent = {param.name: () if param.multiple else None for param in run.params if isinstance(param, click.Option)}
    with cli.commands["go-run"].make_context("go-run", shlex.split(line)) as context:
        given = dict(context.params)
        words = given.pop("words")
        if isinstance(expected, str):
            with pytest.raises((SpecError, click.UsageError), match=expected):
                job_request_of(words, {**absent, **given})
            return
        made = job_request_of(words, {**absent, **given}).spec.to_wire()
    assert made == {"version": 1, **expected}


def test_unknown_flags_are_left_for_click() -> None:
    assert unambiguous(["-x", "--frob", "alpine"], {}) == ["-x", "--frob", "alpine"]

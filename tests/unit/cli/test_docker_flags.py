"""Command lines that people type who know docker or the Go tool: what runs, or what is said."""

from __future__ import annotations

import shlex
import signal
from enum import IntEnum
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
    ("--interactive --tty alpine sh", {**A, "command": ["sh"], "tty": True}),
    ("--tty=false alpine", A),
    ("--cap-add=NET_ADMIN --cap-add cap_sys_ptrace alpine", {**A, "cap_add": ["NET_ADMIN", "SYS_PTRACE"]}),
    ("--cap-drop ALL alpine", {**A, "cap_drop": ["ALL"]}),
    ("--init --read-only alpine", {**A, "init": True, "read_only": True}),
    ("--init=false --read-only=true alpine", {**A, "init": False, "read_only": True}),
    ("--pids-limit 100 alpine", {**A, "pids_limit": 100}),
    ("--limit-pids=100 alpine", {**A, "pids_limit": 100}),
    (
        "--ulimit nofile=1024:2048 --ulimit core=0 alpine",
        {**A, "ulimits": {"nofile": {"soft": 1024, "hard": 2048}, "core": {"soft": 0, "hard": 0}}},
    ),
    ("--sysctl net.core.somaxconn=1024 alpine", {**A, "sysctls": {"net.core.somaxconn": "1024"}}),
    ("--group-add video --group 1000 alpine", {**A, "groups": ["video", "1000"]}),
    ("--hostname web --add-host db:10.0.0.7 alpine", {**A, "hostname": "web", "extra_hosts": ["db:10.0.0.7"]}),
    ("--host db:10.0.0.7 alpine", {**A, "extra_hosts": ["db:10.0.0.7"]}),
    (
        "--dns 10.0.0.1 --dns-search a.example --dns-opt ndots:2 --dns-option rotate alpine",
        {**A, "dns": ["10.0.0.1"], "dns_search": ["a.example"], "dns_opt": ["ndots:2", "rotate"]},
    ),
    ("--oom-score-adj -5 alpine", {**A, "oom_score_adj": -5}),
    ("--container-label com.example.team=a=b alpine", {**A, "container_labels": {"com.example.team": "a=b"}}),
    ("--generic-resource gpu=2,fpga=1 alpine", {**A, "generic_resources": {"gpu": 2, "fpga": 1}}),
    ("--gpus 2 alpine", {**A, "generic_resources": {"gpu": 2}}),
    ("--config app alpine", {**A, "configs": [{"source": "app"}]}),
    (
        "--config source=app,target=/etc/app,uid=1,gid=2,mode=0400 alpine",
        {**A, "configs": [{"source": "app", "target": "/etc/app", "uid": "1", "gid": "2", "mode": 0o400}]},
    ),
    (
        "--network name=db,alias=a,alias=b,driver-opt=k=v --net plain alpine",
        {**A, "networks": [{"name": "db", "aliases": ["a", "b"], "driver_opts": {"k": "v"}}, "plain"]},
    ),
    (
        "--tmpfs /dev/shm:size=64m,mode=1770 alpine",
        {**A, "mounts": [{"type": "tmpfs", "target": "/dev/shm", "tmpfs_size": 64 * MIB, "tmpfs_mode": 0o1770}]},
    ),
    (
        "--mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700 alpine",
        {**A, "mounts": [{"type": "tmpfs", "target": "/t", "tmpfs_size": MIB, "tmpfs_mode": 0o700}]},
    ),
    (
        "--mount type=volume,src=v,dst=/t,volume-driver=local,volume-opt=type=nfs,volume-opt=o=addr=a,volume-nocopy "
        "alpine",
        {
            **A,
            "mounts": [
                {
                    "type": "volume",
                    "source": "v",
                    "target": "/t",
                    "volume_driver": "local",
                    "volume_options": {"type": "nfs", "o": "addr=a"},
                    "volume_nocopy": True,
                }
            ],
        },
    ),
    (
        "--mount type=bind,src=/a,dst=/b,bind-propagation=rslave alpine",
        {**A, "mounts": [{"source": "/a", "target": "/b", "bind_propagation": "rslave"}]},
    ),
    (
        "-v v:/b:ro,nocopy alpine",
        {**A, "mounts": [{"type": "volume", "source": "v", "target": "/b", "read_only": True, "volume_nocopy": True}]},
    ),
    (
        "--health-cmd 'test -f /alive' --health-interval 5s --health-retries 2 alpine",
        {**A, "healthcheck": {"test": ["CMD-SHELL", "test -f /alive"], "interval": 5.0, "retries": 2}},
    ),
    ("--healthcheck --health-timeout 1s alpine", {**A, "healthcheck": {"timeout": 1.0}}),
    ("--stop-grace-period 5s alpine", {**A, "stop_grace": 5.0}),
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
    ("--stop-signal 34 alpine", {**A, "stop_signal": "SIGRTMIN"}),
    ("--stop-signal rtmin+3 alpine", {**A, "stop_signal": "SIGRTMIN+3"}),
    ("--stop-signal SIGPOLL alpine", {**A, "stop_signal": "SIGPOLL"}),
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
    ("--hostname 'a b' alpine", "hostname: has characters that are not allowed here"),
    ("--cap-add NET_ADMN alpine", "cap_add.0: NET_ADMN is no capability; did you mean NET_ADMIN?"),
    ("--ulimit nofile alpine", "--ulimit: write NAME=SOFT[:HARD] such as nofile=1024:2048, not 'nofile'"),
    ("--ulimit nofile=many alpine", "ulimits.nofile: many is no limit; write SOFT or SOFT:HARD"),
    ("--ulimit files=1 alpine", "ulimits.files: files is no limit of processes; did you mean nofile?"),
    ("--pids-limit many alpine", "pids_limit: must be a whole number"),
    ("--gpus all alpine", "--gpus: 'all' is no count; write --gpus 2"),
    ("--generic-resource gpu=UUID-1 alpine", "--generic-resource: write KIND=N such as gpu=2, not 'gpu=UUID-1'"),
    ("--tmpfs /t:noexec alpine", "--tmpfs: 'noexec' is not known; there are size, mode"),
    ("--tmpfs /t:mode=9 alpine", "--tmpfs: mode is octal, such as 0440, not '9'"),
    ("--network alias=a alpine", "networks.0.name: is required"),
    ("--config source=a,path=/b alpine", "--config: 'path' is not known; there are source, target, uid, gid, mode"),
    ("--no-healthcheck --health-cmd x alpine", "--no-healthcheck: cannot go with --health-...; leave one"),
    ("--placement-pref spread=node.labels.zone alpine", "--placement-pref: the swarm spreads the tasks of one service"),
    ("--update-delay 5s alpine", "--update-delay: a job is never updated"),
    ("--shm-size 64m alpine", "--shm-size: --tmpfs /dev/shm:size=SIZE mounts shared memory"),
    ("--network-alias web alpine", "--network-alias: addresses are the swarm's to give; --network name=NAME,alias="),
    ("--privileged alpine", "--privileged: a job gets no privileges or devices of its node"),
    (
        "--restart always alpine",
        "--restart: a job's container is never restarted; --max-attempts N and --backoff TIME try the job again",
    ),
    ("-c 512 alpine", "-c 512: --cpus N limits cores; shares and single processors cannot be chosen; a constraint"),
    ("--cpu-shares 512 alpine", "--cpu-shares: --cpus N limits cores"),
    ("-a stdout alpine", "-a stdout: output is always kept and printed"),
    ("--pull always alpine", "--pull: a node pulls an image that it lacks"),
    ("--ipc host alpine", "--ipc: the engine knows no such setting for a service"),
    ("-d foo -i alpine", "-d foo ... -i: can be read in two ways; write --command"),
    ("-v ./x:/b alpine", "--volume: './x' is no absolute path"),
    ("-v /a alpine", "--volume: write SOURCE:TARGET[:ro]"),
    ("-v /a:/b:z alpine", "--volume: 'z' is not known; there are ro, rw, nocopy"),
    ("-m lots alpine", "limits.memory: give bytes or a size such as 512M"),
    ("-it", "no image given"),
    ("-t 5min alpine", "--timeout: '5min': give seconds or a duration such as 60s or 1h30m"),
    ("--stop-signal stop! alpine", "--stop-signal: 'stop!' is no signal"),
    ("--stop-signal 32 alpine", "--stop-signal: '32' is no signal"),
    ("--stop-signal 0 alpine", "--stop-signal: '0' is no signal"),
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
        (
            "-it alpine",
            "-it: a job's process has no terminal (--tty gives it one) and an empty standard input",
        ),
        ("-i --rm alpine", "-i: a job's process has an empty standard input; `--input -` hands data over"),
        ("-t alpine", "-t: a job's process has no terminal (--tty gives it one); a time limit is written -t 60s"),
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


def test_signals_are_those_of_linux_wherever_the_producer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "Signals", IntEnum("Signals", {"SIGINFO": 29, "SIGUSR1": 30}))
    assert wire("--stop-signal 10 alpine")["stop_signal"] == "SIGUSR1"
    assert wire("--stop-signal PWR alpine")["stop_signal"] == "SIGPWR"
    with pytest.raises(click.UsageError, match="'INFO' is no signal"):
        request("--stop-signal INFO alpine")


def test_unknown_flags_are_left_for_click() -> None:
    assert unambiguous(["-x", "--frob", "alpine"], {}) == ["-x", "--frob", "alpine"]

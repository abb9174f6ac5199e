"""From the options of `jaas run` to a job description."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from jaas_submit import JobSpec, SpecError
from jaas_submit.cli.input_files import read_env_file
from jaas_submit.cli.job_options import JobRequest, job_request_of
from jaas_submit.cli.main import cli

ENVIRON = {"HOME": "/root", "EMPTY": ""}


def request(*args: str, environ: Mapping[str, str] = ENVIRON) -> JobRequest:
    """Parse a command line as `jaas submit` does."""
    with cli.commands["submit"].make_context("submit", list(args)) as context:
        options = dict(context.params)
        return job_request_of(options.pop("words"), options, environ)


def wire(*args: str) -> dict[str, Any]:
    data = request(*args).spec.to_wire()
    del data["version"]
    return data


A = {"image": "alpine"}
THE_REST = (
    "--name n --label a=b --label c -u 1:2 -w /w --stop-signal SIGINT --stop-grace 3s -a r.example:5000 "
    "--deadline 1h --expires 30m --on-node-lost retry --lost-after 90s --max-attempts 3 --max-cluster-retries 2 "
    '--idempotent --input {"a":[1]} --output json --file-in a=/b --file-in /c/d.txt --file-out /out/*.pdf '
    "--require-file-out alpine"
)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        # image and command
        (["alpine"], A),
        (["-i", "alpine"], A),
        (["alpine", "echo", "hi there"], {**A, "command": ["echo", "hi there"]}),
        (["alpine", "--", "ls", "-l"], {**A, "command": ["ls", "-l"]}),
        (["-i", "alpine", "--", "ls", "-l"], {**A, "command": ["ls", "-l"]}),
        (["-i", "alpine", "ls", "-l"], {**A, "command": ["ls", "-l"]}),
        (["alpine", "-e", "A=b"], {**A, "command": ["-e", "A=b"]}),
        (["-d", "sh -c 'echo \"a  b\"'", "alpine"], {**A, "entrypoint": ["sh", "-c", 'echo "a  b"']}),
        (["-d", "uname -a", "-i", "alpine"], {**A, "entrypoint": ["uname", "-a"]}),
        (["-d", "", "alpine"], A),
        (["--command", "cat", "alpine", "/etc/hosts"], {**A, "entrypoint": ["cat"], "command": ["/etc/hosts"]}),
        (["--entrypoint", "/my prog", "alpine", "x"], {**A, "entrypoint": ["/my prog"], "command": ["x"]}),
        # environment
        (["-e", "A=b=c", "-e", "E=", "alpine"], {**A, "env": {"A": "b=c", "E": ""}}),
        (["-e", "HOME", "-e", "EMPTY", "-e", "NOT_SET", "alpine"], {**A, "env": {"HOME": "/root", "EMPTY": ""}}),
        (
            ["--env-secret", "A=a", "--env-secret", "B=b", "--scrub", "alpine"],
            {**A, "env_secrets": {"A": "a", "B": "b"}, "scrub": True},
        ),
        # placement and networks: all of them
        (["-n", "a", "-n", "b", "alpine"], {**A, "networks": ["a", "b"]}),
        (
            ["-c", "node.role==worker", "-c", "node.labels.x != y", "alpine"],
            {**A, "constraints": ["node.role==worker", "node.labels.x != y"]},
        ),
        # mounts
        (["-m", "/a=/b", "alpine"], {**A, "mounts": [{"source": "/a", "target": "/b"}]}),
        (
            ["-m", "type=volume,source=v,target=/b,readonly", "alpine"],
            {**A, "mounts": [{"type": "volume", "source": "v", "target": "/b", "read_only": True}]},
        ),
        (["-m", "src=/a,dst=/b,ro=false", "alpine"], {**A, "mounts": [{"source": "/a", "target": "/b"}]}),
        (["-m", "type=tmpfs,destination=/t", "alpine"], {**A, "mounts": [{"type": "tmpfs", "target": "/t"}]}),
        (["-m", '"source=/a,b",target=/c', "alpine"], None),
        (["-m", "/a,b=/c", "alpine"], {**A, "mounts": [{"source": "/a,b", "target": "/c"}]}),
        # secrets
        (["-s", "key", "alpine"], {**A, "secrets": [{"source": "key"}]}),
        (
            ["-s", "source=key,target=k,uid=1,gid=2,mode=0400", "alpine"],
            {**A, "secrets": [{"source": "key", "target": "k", "uid": "1", "gid": "2", "mode": 0o400}]},
        ),
        # time limits
        (["-t", "60s", "alpine"], {**A, "pending_timeout": 60.0, "run_timeout": 60.0}),
        (["-t", "1m", "--run-timeout", "1h", "alpine"], {**A, "pending_timeout": 60.0, "run_timeout": 3600.0}),
        (["--pending-timeout", "90", "alpine"], {**A, "pending_timeout": 90.0}),
        # resources
        (
            [
                "--limit-memory",
                "512M",
                "--limit-cpu",
                "0.5",
                "--reserve-memory",
                "6M",
                "--reserve-cpu",
                "0.1",
                "alpine",
            ],
            {
                **A,
                "limits": {"cpus": 0.5, "memory": 512 * 2**20},
                "reservations": {"cpus": 0.1, "memory": 6 * 2**20},
            },
        ),
        # the rest
        (
            THE_REST.split(),
            {
                **A,
                "name": "n",
                "labels": {"a": "b", "c": ""},
                "user": "1:2",
                "workdir": "/w",
                "stop_signal": "SIGINT",
                "stop_grace": 3.0,
                "registry": "r.example:5000",
                "files": {"a": {"path": "/b"}, "d.txt": {"path": "/c/d.txt"}},
                "deadline": 3600.0,
                "expires": 1800.0,
                "idempotent": True,
                "on_node_lost": "retry",
                "lost_after": 90.0,
                "input": {"a": [1]},
                "output": "json",
                "outputs": ["/out/*.pdf"],
                "require_outputs": True,
                "retry": {"max_attempts": 3, "max_cluster_retries": 2},
            },
        ),
        (["--healthcheck", "--no-check", "alpine"], {**A, "healthcheck": True, "check": False}),
        (["--no-healthcheck", "--check", "alpine"], A),
        (
            ["--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=2", "alpine"],
            {**A, "log_driver": "json-file", "log_options": {"max-size": "1m", "max-file": "2"}},
        ),
        (["--input", '"text"', "--output", "none", "alpine"], {**A, "input": "text"}),
        (["--input", "null", "alpine"], A),
    ],
)
def test_options_become_a_description(args: list[str], expected: dict[str, Any] | None) -> None:
    if expected is None:
        with pytest.raises((SpecError, click.UsageError)):
            wire(*args)
    else:
        assert wire(*args) == expected


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no image given"),
        (["-i", "alpine", "-d", "echo 'oh"], "--command: cannot be split"),
        (["--command", "a", "--entrypoint", "b", "alpine"], "--command and --entrypoint"),
        (["--mount", "/a", "alpine"], "--mount: write SRC=DEST"),
        (["-m", "/a=/b=/c", "alpine"], "--mount: write SRC=DEST"),
        (["-m", "type=bind,sauce=/a", "alpine"], "--mount: 'sauce' is not known"),
        (["-m", "src=/a,dst=/b,ro=perhaps", "alpine"], "--mount: readonly takes true or false"),
        (["-m", "a=/b", "alpine"], "mounts.0"),
        (["-s", "source=a,colour=red", "alpine"], "--secret: 'colour' is not known"),
        (["-s", "source=a,mode=rw", "alpine"], "--secret: mode is octal"),
        (["-e", "=x", "alpine"], "env"),
        (["--env-secret", "TOKEN", "alpine"], "env_secrets.TOKEN"),
        (["--env-secret", "TOKEN=../key", "alpine"], "env_secrets.TOKEN"),
        (["-i", "ALPINE"], "image"),
        (["-t", "5min", "alpine"], "timeout"),
        (["-t", "0s", "alpine"], "timeout"),
        (["--limit-memory", "-1", "alpine"], "limits.memory"),
        (["--limit-cpu", "many", "alpine"], "limits.cpus"),
        (["--name", "a/b", "alpine"], "name"),
        (["-c", "somewhere nice", "alpine"], "constraints"),
        (["--spec", "/does/not/exist"], "--spec"),
        (["--input", "text", "alpine"], "--input: is not valid JSON"),
        (["--input", "@/does/not/exist", "alpine"], "--input: /does/not/exist: No such file"),
        (["--output", "yaml", "alpine"], "output"),
        (["--env-file", "/does/not/exist", "alpine"], "--env-file"),
    ],
)
def test_bad_input_is_one_sentence_that_names_the_field(args: list[str], message: str) -> None:
    with pytest.raises((SpecError, click.UsageError)) as caught:
        request(*args)
    error = caught.value
    text = error.format_message() if isinstance(error, click.UsageError) else str(error)
    assert message in text
    assert "\n" not in text


def test_t_is_also_the_time_that_the_queue_has() -> None:
    assert request("-t", "1m30s", "alpine").queue_timeout == 90
    assert request("--run-timeout", "5s", "alpine").queue_timeout is None


def test_each_field_of_a_description_has_an_option() -> None:
    """A field that is added to JobSpec needs an option, too, unless only jaas itself sets it."""
    log = ("--log-driver", "local", "--log-opt", "max-size=1m")
    line = "-i alpine -d cat -e A=b -n n -m /a=/b -s s -c node.role==worker --limit-cpu 1 --reserve-cpu 1 -t 1s"
    container = (
        "--config c --cap-add KILL --cap-drop CHOWN --ulimit core=0 --sysctl net.a=1 --init --read-only --pids-limit 9 "
        "--group g --hostname h --host a:10.0.0.7 --dns 10.0.0.7 --dns-search a --dns-opt rotate --tty "
        "--oom-score-adj 1 --container-label a=b --gpus 1"
    )
    flags = ["--healthcheck", "--no-check", "--env-secret", "T=t", "--scrub", *log, *container.split()]
    everything = wire(*line.split(), *flags, *THE_REST.split()[:-1], "--", "word")
    assert {*everything, "version", "gather", "input_lines", "like_service"} == set(JobSpec.model_fields)


# -- --spec -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "args", "expected"),
    [
        ({"image": "a"}, [], {"image": "a"}),
        ({"image": "a"}, ["-i", "b"], {"image": "b"}),
        # the file names the image, so that the words are the command
        ({"image": "a", "command": ["x"]}, ["echo", "hi"], {"image": "a", "command": ["echo", "hi"]}),
        ({"command": ["x"]}, ["b"], {"image": "b", "command": ["x"]}),
        ({"image": "a", "env": {"A": "1", "B": "2"}}, ["-e", "B=3"], {"image": "a", "env": {"A": "1", "B": "3"}}),
        ({"image": "a", "env": ["A=1", "B=2"]}, ["-e", "B=3"], {"image": "a", "env": {"A": "1", "B": "3"}}),
        ({"image": "a", "networks": ["n"]}, ["-n", "m"], {"image": "a", "networks": ["n", "m"]}),
        (
            {"image": "a", "limits": {"cpus": 1}},
            ["--limit-memory", "8M"],
            {"image": "a", "limits": {"cpus": 1.0, "memory": 2**23}},
        ),
        ({"image": "a", "check": False}, [], {"image": "a", "check": False}),
        ({"image": "a", "check": False}, ["--check"], {"image": "a"}),
    ],
)
def test_options_change_a_description_from_a_file(
    tmp_path: Path, base: dict[str, Any], args: list[str], expected: dict[str, Any]
) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps(base))
    assert wire("--spec", str(file), *args) == expected


@pytest.mark.parametrize(
    ("text", "args", "message"),
    [
        ("{", [], "is not valid JSON"),
        ("[" * 100_000, [], "is not valid JSON"),
        ("\udcff", [], "is not valid JSON"),
        ("[1]", [], "must hold a JSON object"),
        ('{"image": "a", "colour": 1}', [], "colour"),
        ('{"image": "a", "version": 2}', [], "version"),
        ('{"image": 1}', [], "image"),
        # what is of the wrong kind is refused, also where an option would add to it
        ('{"image": "a", "env": 1}', ["-e", "A=b"], "env"),
        ('{"image": "a", "networks": "n"}', ["-n", "m"], "networks"),
        ('{"image": "a", "limits": null}', ["--limit-cpu", "1"], "limits"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, args: list[str], message: str) -> None:
    file = tmp_path / "job.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises((SpecError, click.UsageError), match=message):
        request("--spec", str(file), *args)


# -- env files --------------------------------------------------------------------------------------------------------


def env_file(data: bytes) -> dict[str, str]:
    file = io.BytesIO(data)
    file.name = "test.env"
    return dict(read_env_file(file, ENVIRON))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", {}),
        (b"A=1\nB=2\n", {"A": "1", "B": "2"}),
        (b"A=1\r\nB=2", {"A": "1", "B": "2"}),
        (b"# a comment = no variable\n\n   \nA=1", {"A": "1"}),
        (b"  A=1", {"A": "1"}),
        # the value is taken as it is: quotes, blanks, '#' and '=' are part of it
        (b'A="quoted"\nB= spaced \nC=x # y\nD=a=b', {"A": '"quoted"', "B": " spaced ", "C": "x # y", "D": "a=b"}),
        (b"HOME\nNOT_SET\nEMPTY", {"HOME": "/root", "EMPTY": ""}),
        (b"A=", {"A": ""}),
        (b"\xef\xbb\xbfA=1", {"A": "1"}),
        ("A=ä".encode(), {"A": "ä"}),
        (b"A=1\nA=2", {"A": "2"}),
    ],
)
def test_an_env_file_is_read_as_docker_reads_it(data: bytes, expected: dict[str, str]) -> None:
    assert env_file(data) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"A=1\n=x", "line 2: '' is no variable name"),
        (b"A B=1", "line 1: 'A B' is no variable name"),
        (b"A =1", "line 1: 'A ' is no variable name"),
        (b"A=\xff", "is no UTF-8 text"),
    ],
)
def test_a_bad_env_file_is_refused_with_its_line(data: bytes, message: str) -> None:
    with pytest.raises(click.UsageError, match=f"--env-file test.env.*{message}"):
        env_file(data)


def test_the_command_line_wins_over_env_files_and_the_later_file_over_the_earlier(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("A=1\nB=1\nC=1\n")
    (tmp_path / "2").write_text("B=2\nC=2\n")
    args = ("-e", "C=3", "--env-file", str(tmp_path / "1"), "--env-file", str(tmp_path / "2"), "alpine")
    assert wire(*args)["env"] == {"A": "1", "B": "2", "C": "3"}


# -- the Go tool's --registry -----------------------------------------------------------------------------------------


def encoded(data: object) -> str:
    return base64.b64encode((data if isinstance(data, str) else json.dumps(data, indent=1)).encode()).decode()


@pytest.mark.parametrize(
    ("text", "registry"),
    [
        ("registry.example.com", "registry.example.com"),
        ("registry:5000", "registry:5000"),
        ("localhost", "localhost"),
        ("registry", "registry"),
        ("my-registry", "my-registry"),
        ("https://index.docker.io/v1/", "https://index.docker.io/v1/"),
        (encoded({"username": "u", "password": "hunter2", "serveraddress": "my.reg"}), "my.reg"),
        (encoded({"username": "u", "password": "hunter2"}), None),
        (encoded("user:hunter2"), None),
        (encoded("{broken hunter2"), None),
    ],
)
def test_credentials_never_leave_the_command_line(text: str, registry: str | None) -> None:
    wrapped = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))  # as `base64` writes it
    made = request("-a", wrapped, "alpine")
    assert made.spec.registry == registry
    assert "hunter2" not in made.spec.to_json()
    assert text not in made.spec.to_json() or registry == text
    assert bool(made.notes) == (registry != text)
    assert all("hunter2" not in note for note in made.notes)


# -- what a container gets --------------------------------------------------------------------------------------------


def test_gpus_are_of_the_kind_that_a_setting_names() -> None:
    made = request("--gpus", "2", "--generic-resource", "fpga=1", "alpine", environ={"JAAS_GPU_KIND": "NVIDIA-GPU"})
    assert made.spec.generic_resources == {"fpga": 1, "NVIDIA-GPU": 2}


@pytest.mark.parametrize(
    ("base", "args", "expected"),
    [
        ({"cap_add": ["KILL"]}, ["--cap-add", "CHOWN"], {"cap_add": ["KILL", "CHOWN"]}),
        ({"sysctls": {"net.a": "1"}}, ["--sysctl", "net.b=2"], {"sysctls": {"net.a": "1", "net.b": "2"}}),
        ({"healthcheck": {"test": "x"}}, ["--health-retries", "2"], {"healthcheck": {"test": "x", "retries": 2}}),
        ({"healthcheck": True}, ["--health-retries", "2"], {"healthcheck": {"retries": 2}}),
        ({"healthcheck": {"test": "x"}}, ["--no-healthcheck"], {}),
        ({"init": True}, ["--no-init"], {"init": False}),
        ({"tty": True}, ["--no-tty"], {}),
    ],
)
def test_flags_change_what_a_file_says(base: dict[str, Any], args: list[str], expected: dict[str, Any]) -> None:
    with cli.commands["submit"].make_context("submit", args) as context:
        options = {**context.params, "spec": io.BytesIO(json.dumps({"image": "a", **base}).encode())}
        options["spec"].name = "job.json"
        made = job_request_of(options.pop("words"), options, {}).spec
    assert made == JobSpec(image="a", **expected)

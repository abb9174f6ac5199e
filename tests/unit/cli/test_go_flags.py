"""Command lines of the archived Go tool, as Go's pflag reads them."""

from __future__ import annotations

import click
import pytest

from jaas_submit.cli.go_flags import to_click
from jaas_submit.cli.main import cli

RUN = cli.commands["run"]
OPTIONS = {
    name: option
    for option in RUN.params
    if isinstance(option, click.Option)
    for name in (*option.opts, *option.secondary_opts)
}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], []),
        (["-i", "alpine"], ["-i", "alpine"]),
        (["-ialpine"], ["-i", "alpine"]),
        (["-i=alpine"], ["-i", "alpine"]),
        (["--image=alpine"], ["--image=alpine"]),
        (["--image", "alpine"], ["--image", "alpine"]),
        (["-e=A=b"], ["-e", "A=b"]),
        (["-eA=b"], ["-e", "A=b"]),
        (["-e", "A=b", "-e", "C=d"], ["-e", "A=b", "-e", "C=d"]),
        (["-r"], ["-r"]),
        (["-r=true"], ["--remove"]),
        (["-r=false"], ["--no-remove"]),
        (["--remove=0"], ["--no-remove"]),
        (["--remove=T"], ["--remove"]),
        (["--no-remove=false"], ["--remove"]),
        (["-l=f"], ["--no-show-logs"]),
        (["--show-logs=False"], ["--no-show-logs"]),
        (["-rb"], ["-r", "-b"]),
        (["-br=false"], ["-b", "--no-remove"]),
        (["-rialpine"], ["-r", "-i", "alpine"]),
        (["-bi=alpine"], ["-b", "-i", "alpine"]),
        (["-bi", "alpine"], ["-b", "-i", "alpine"]),
        # a value may look like an option, or like the end of the options
        (["-d", "-r", "-b"], ["-d", "-r", "-b"]),
        (["--command", "--", "-b=true"], ["--command", "--", "--verbose"]),
        # from here on it is the container's command line
        (["-b", "--", "-r=false"], ["-b", "--", "-r=false"]),
        (["-b=1", "alpine", "-r=false"], ["--verbose", "alpine", "-r=false"]),
        (["-b", "-", "-r=false"], ["-b", "-", "-r=false"]),
        # flags without a counterpart: false leaves them out
        (["--json=false"], []),
        (["--json=true"], ["--json"]),
        # unknown ones are click's business
        (["--nonsense=1", "-r=false"], ["--nonsense=1", "--no-remove"]),
        (["-rz=1"], ["-r", "-z=1"]),
        # a missing value too
        (["-i"], ["-i"]),
        (["-bi"], ["-b", "-i"]),
    ],
)
def test_go_syntax_becomes_clicks(args: list[str], expected: list[str]) -> None:
    assert to_click(args, OPTIONS) == expected


@pytest.mark.parametrize("word", ["--remove=yes", "-l=maybe", "-bl=", "--json=2"])
def test_a_flag_is_true_or_false(word: str) -> None:
    with pytest.raises(click.UsageError, match="takes true or false"):
        to_click([word], OPTIONS)


def test_every_flag_of_the_go_tool_is_there() -> None:
    flags = """-i --image -n --network -c --constraint -e --env --env-file -m --mount -s --secret -l --show-logs
        -t --timeout -d --command -r --remove -a --registry -b --verbose"""
    assert set(flags.split()) <= set(OPTIONS)

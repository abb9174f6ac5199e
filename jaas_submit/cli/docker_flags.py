"""PURE: reads docker's command lines beside the Go tool's: where a short flag is both, its value decides.

The result is unambiguous: ``-m 128m`` becomes ``--memory 128m``, and ``-m /a=/b`` becomes ``--mount /a=/b``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import click

from jaas_submit.cli.go_flags import TRUTH, GoCommand

__all__ = ["REFUSED", "DockerCommand", "is_duration", "unambiguous"]

_NO_PORTS: Final = "a job publishes no ports; join a network with --network and reach other services there"
_NO_PRIVILEGES: Final = "a job gets no privileges or devices of its node; --cap-add adds a capability, --gpus GPUs"
_ENGINE: Final = "the workers' engines run the job; --redis URL names the Redis that it goes to"
_CORES: Final = "--cpus N limits cores; shares and single processors cannot be chosen"
_ATTACH: Final = "output is always kept and printed; --no-show-logs omits it"
_NETWORK: Final = "addresses are the swarm's to give; --network name=NAME,alias=ALIAS gives a name on a network"
_ONE: Final = "a job is one container; `jaas map` runs one for each input, or with --per-node on each node"
_NO_UPDATES: Final = "a job is never updated: submit it again with what has changed"
_ONCE: Final = "a job's container is never restarted; --max-attempts N and --backoff TIME try the job again"
_NONE: Final = "the engine knows no such setting for a service; `jaas schema` lists those that there are"
_WINDOWS: Final = "is for Windows containers, and jaas runs Linux ones"

REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("-p", "-P", "--publish", "--publish-all", "--expose", "--endpoint-mode"), _NO_PORTS),
    **dict.fromkeys(("--privileged", "--device", "--security-opt"), _NO_PRIVILEGES),
    **dict.fromkeys(("-H", "--context"), _ENGINE),
    **dict.fromkeys(("--cpu-shares", "--cpu-quota", "--cpu-period", "--cpuset-cpus", "--cpuset-mems"), _CORES),
    **dict.fromkeys(("--attach", "--sig-proxy", "--detach-keys"), _ATTACH),
    **dict.fromkeys(("--ip", "--ip6", "--link", "--mac-address", "--network-alias"), _NETWORK),
    **dict.fromkeys(("--replicas", "--replicas-max-per-node", "--max-concurrent", "--mode"), _ONE),
    **dict.fromkeys(
        [
            f"--{kind}-{what}"
            for kind in ("update", "rollback")
            for what in ("delay", "failure-action", "max-failure-ratio", "monitor", "order", "parallelism")
        ],
        _NO_UPDATES,
    ),
    **dict.fromkeys(("--restart-condition", "--restart-delay", "--restart-max-attempts", "--restart-window"), _ONCE),
    **dict.fromkeys(("--credential-spec", "--isolation"), _WINDOWS),
    **dict.fromkeys(("--ipc", "--pid", "--userns", "--uts", "--cgroupns", "--runtime"), _NONE),
    "--cidfile": "`jaas submit` prints the job's id on stdout",
    "--domainname": "--hostname NAME.DOMAIN names both",
    "--label-file": "write the labels as --label KEY=VALUE",
    "--memory-swap": "--memory SIZE limits memory; an engine before Docker 29 cannot set swap for a service",
    "--no-resolve-image": "the worker asks the image's registry for its digest; without one, a node's own image runs",
    "--placement-pref": "the swarm spreads the tasks of one service, and a job has one; --constraint chooses nodes",
    "--platform": "--constraint node.platform.arch==x86_64 chooses nodes of a platform",
    "--pull": "a node pulls an image that it lacks; name another tag or a digest to get another one",
    "--shm-size": "--tmpfs /dev/shm:size=SIZE mounts shared memory of that size",
    "--volume-driver": "--mount type=volume,source=NAME,target=PATH,volume-driver=DRIVER names one",
    "--volumes-from": "--volume NAME:TARGET mounts a volume",
    "--with-registry-auth": "the workers' own credentials are used; --registry HOST names them",
}
"""docker's flags without a counterpart, and the one sentence that helps."""

_FLAGS: Final = "itdqP"
_CLUSTER: Final = re.compile(rf"[{_FLAGS}]{{0,16}}[{_FLAGS}aceHhlmnpsuvw]\Z")
"""The rest of a word of docker's short flags: those without a value, then perhaps one that has one."""

_STREAMS: Final = frozenset({"stdin", "stdout", "stderr"})
_DURATION: Final = re.compile(r"\d[\w.]{0,63}\Z")
"""A duration, or what was meant as one: no image's name begins with a digit as ``5min`` does, by all likelihood."""


class DockerCommand(GoCommand):
    """A command that takes docker's flags, and the Go tool's where they are unambiguous."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Convert the arguments to unambiguous ones, then to click's form, and parse them."""
        return super().parse_args(ctx, unambiguous(args, self.options_by_name(ctx)))


def unambiguous(args: Sequence[str], options: Mapping[str, click.Option]) -> list[str]:
    """Return the arguments with each flag that docker and the Go tool understand differently in its long form.

    Args:
        args: the command's arguments. Everything from ``--`` or the first word that is no option on stays as it is.
        options: the command's options, by each of their names.

    Raises:
        click.UsageError: docker has such a flag and a job has no counterpart, or the words can be read in two ways.
    """
    return _Reader(args, options).read()


class _Reader:
    """Reads one command line.

    Args:
        args: its words.
        options: the command's options, by each of their names.
    """

    def __init__(self, args: Sequence[str], options: Mapping[str, click.Option]) -> None:
        self._rest = list(args)
        self._options = options
        self._done: list[str] = []

    def read(self) -> list[str]:
        while self._rest and self._rest[0].startswith("-") and self._rest[0] not in {"-", "--"}:
            word = self._rest.pop(0)
            if word.startswith("--"):
                self._long(word)
            else:
                self._short(word[1:])
        return self._done + self._rest

    def _long(self, word: str) -> None:
        name, equals, value = word.partition("=")
        if name == "--restart":
            self._restart(value if equals else self._next())
            return
        self._refuse(name)
        option = self._options.get(name)
        self._done.append(word)
        if option is not None and not option.is_flag and not equals:
            self._done += self._rest[:1]
            del self._rest[:1]

    def _restart(self, value: str) -> None:
        if value != "no":
            raise click.UsageError(f"--restart: {REFUSED['--restart-condition']}")

    def _refuse(self, name: str) -> None:
        if name in REFUSED and name not in self._options:
            raise click.UsageError(f"{name}: {REFUSED[name]}")

    def _next(self) -> str:
        return self._rest.pop(0) if self._rest else ""

    def _short(self, letters: str) -> None:
        """Read a word of short flags, letter by letter."""
        while letters:
            letter, letters = letters[0], letters[1:]
            read = getattr(self, f"_{letter}", None) if letter in "itdmcla" else None
            if read is not None:
                letters = read(letters)
                continue
            self._refuse(f"-{letter}")
            option = self._options.get(f"-{letter}")
            if option is None or (option.is_flag and letters.startswith("=")):
                self._done.append(f"-{letter}{letters}")
                return
            self._done.append(f"-{letter}")
            if not option.is_flag:
                self._done.append(self._value(letters))
                return

    def _value(self, letters: str) -> str:
        return letters.removeprefix("=") if letters else self._next()

    def _is_cluster(self, letters: str) -> bool:
        return bool(_CLUSTER.match(letters))

    def _word_follows(self) -> bool:
        return bool(self._rest) and not self._rest[0].startswith("-")

    # Each of the following reads one flag that is ambiguous; it returns the letters that are still to be read.

    def _i(self, letters: str) -> str:
        """docker: standard input stays open. Go: the image."""
        if letters.removeprefix("=") in TRUTH and letters.startswith("="):
            self._done.append(f"--interactive{letters}")
            return ""
        if self._is_cluster(letters) or not (letters or self._word_follows()):
            self._done.append("--interactive")
            return letters
        self._done += ["--image", self._value(letters)]
        return ""

    def _t(self, letters: str) -> str:
        """docker: a terminal. Go: a time limit."""
        value = letters.removeprefix("=")
        if letters.startswith("=") and value.lower() in {"true", "false"}:
            self._done.append(f"--short-tty{letters}")
            return ""
        if letters and (letters.startswith("=") or is_duration(value) or not self._is_cluster(letters)):
            self._done += ["--timeout", value]
            return ""
        if not letters and self._rest and is_duration(self._rest[0]):
            self._done += ["--timeout", self._next()]
            return ""
        self._done.append("--short-tty")
        return letters

    def _d(self, letters: str) -> str:
        """docker: do not wait. Go: entry point and arguments in one text; it needed -i IMAGE, too."""
        if letters.startswith("=") and letters[1:] in TRUTH:
            self._done.append(f"--detach{letters}")
            return ""
        if letters and (letters.startswith("=") or not self._is_cluster(letters)):
            self._done += ["--command", letters.removeprefix("=")]
            return ""
        if not letters and self._rest and self._is_text(self._rest[0]):
            self._done += ["--command", self._next()]
            return ""
        self._done.append("--detach")
        return letters

    def _is_text(self, word: str) -> bool:
        """Return whether the word after ``-d`` is the Go tool's text, and not docker's image."""
        if not word or any(letter.isspace() for letter in word):
            return True
        if word.startswith("-"):
            return False
        if "--image" in self._done or any(done.startswith("--image=") for done in self._done):
            return True
        for later in self._rest[1:]:
            if later == "--":
                break
            if later in {"-i", "--image"} or later.startswith("--image="):
                raise click.UsageError(
                    f"-d {word} ... {later}: can be read in two ways; write --command for an entry point, and "
                    "--detach for not waiting (`jaas go-run` takes the Go tool's flags alone)"
                )
        return False

    def _m(self, letters: str) -> str:
        """docker: the memory limit. Go: a mount."""
        value = self._value(letters)
        self._done += ["--mount" if "=" in value else "--memory", value]
        return ""

    def _c(self, letters: str) -> str:
        """docker: processor shares. Go: a constraint."""
        value = self._value(letters)
        if value.isdigit():
            raise click.UsageError(f"-c {value}: {_CORES}; a constraint is written KEY==VALUE")
        self._done += ["--constraint", value]
        return ""

    def _l(self, letters: str) -> str:
        """docker: a label. Go: whether the output is printed."""
        if letters.startswith("=") and letters[1:] in TRUTH:
            self._done.append(f"--show-logs{letters}")
            return ""
        flags, equals, truth = letters.partition("=")
        is_go = equals and truth in TRUTH and all(f"-{flag}" in self._options for flag in flags)
        if equals and not is_go:
            self._done += ["--label", letters.removeprefix("=")]
            return ""
        if not letters and self._word_follows() and "=" in self._rest[0]:
            self._done += ["--label", self._next()]
            return ""
        self._done.append("--show-logs")
        return letters

    def _a(self, letters: str) -> str:
        """docker: which streams are attached. Go: the registry."""
        value = self._value(letters)
        if value.lower() in _STREAMS:
            raise click.UsageError(f"-a {value}: {_ATTACH}")
        self._done += ["--registry", value]
        return ""


def is_duration(text: str) -> bool:
    """Return whether a word is meant as a duration, such as ``90``, ``60s``, ``1h30m``, or ``5min`` by mistake.

    Args:
        text: the word.
    """
    return bool(_DURATION.match(text))

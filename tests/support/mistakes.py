"""What people get wrong, and what they are told: `python -m tests.support.mistakes` writes docs/mistakes.md.

Commands and snippets run against a client in memory, whose jobs run until they are ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

import click.testing

import jaas_submit
from jaas_submit import JobSpec
from jaas_submit.cli.common import Target
from jaas_submit.cli.main import cli
from jaas_submit.testing import Ending, FakeClient, fails, runs, succeeds

__all__ = ["COMMANDS", "SNIPPETS", "page"]

COMMANDS: Final = (
    # running
    "jaas run",
    "jaas run alpine:",
    "jaas run Alpine true",
    "jaas run --rm -p 80:80 nginx",
    "jaas run --privileged alpine true",
    "jaas run -m 128 alpine true",
    "jaas run --memory lots alpine true",
    "jaas run --cpus none alpine true",
    "jaas run --limit-ram 1G alpine true",
    "jaas run --env =x alpine true",
    "jaas run -v data alpine true",
    "jaas run -v data:relative alpine true",
    "jaas run --mount data alpine true",
    "jaas run --label '=x' alpine true",
    "jaas run --constraint node.role=manager alpine true",
    "jaas run --stop-signal WHAT alpine true",
    "jaas run --retries many alpine true",
    "jaas run --output xml alpine true",
    "jaas run --input '{' alpine true",
    "jaas run --input @nofile alpine true",
    "jaas run --spec nofile.json",
    "jaas run --spec bad.json",
    "jaas run --network alpine",
    "jaas submit --not-before yesterday alpine true",
    "jaas submit --key '' alpine true",
    "jaas rum alpine true",
    "jaas --queue 'a b' run alpine true",
    "jaas --prefix 'a:b' list",
    "jaas --redis localhost:6379 list",
    "jaas --redis http://localhost list",
    # looking
    "jaas status nope",
    "jaas status",
    "jaas logs nope",
    "jaas logs -f --attempt 2 --batch nope",
    "jaas logs --since later RUNNING",
    "jaas wait nope",
    "jaas explain nope",
    "jaas list --state nope",
    "jaas list --cause nope",
    "jaas list --since later",
    "jaas list --filter size=3",
    "jaas list --limit 0",
    "jaas list -o yaml",
    "jaas help frob",
    "jaas usage",
    "jaas download RUNNING",
    "jaas batch list nope",
    "jaas batch status nope",
    "jaas batch watch nope",
    # changing
    "jaas cancel",
    "jaas cancel nope",
    "jaas cancel --all",
    "jaas rm RUNNING",
    "jaas replay RUNNING",
    "jaas replay --set memory=much FAILED",
    "jaas replay --set memory FAILED",
    "jaas replay --set colour=red FAILED",
    # many jobs
    "jaas map alpine true",
    "jaas map --inputs nofile alpine echo '{item}'",
    "jaas map --inputs inputs.txt --max-parallel 0 alpine true",
    "jaas map --inputs inputs.txt --min-success 95 alpine true",
    "jaas map --inputs inputs.txt --max-failures lots alpine true",
    "jaas map --inputs inputs.txt --speculate 2 alpine true",
    "jaas map --inputs broken.jsonl alpine true",
    "jaas map --file broken.yaml",
    "jaas map --file odd.yaml",
)
"""One a line. RUNNING and FAILED stand for the ids of jobs."""

SNIPPETS: Final = (
    "client.submit('alpine')",
    "client.submit({'command': ['true']})",
    "client.submit({'image': 'alpine', 'command': 'echo hi'})",
    "client.submit({'image': 'alpine', 'comand': ['true']})",
    "client.submit({'image': 'alpine', 'limits': {'memory': 'lots'}})",
    "client.submit({'image': 'alpine', 'limits': {'ram': '1G'}})",
    "client.submit({'image': 'alpine', 'run_timeout': '5 parsecs'})",
    "client.submit({'image': 'alpine'}, key=5)",
    "client.submit({'image': 'alpine', 'labels': 'x'})",
    "client.submit({'image': 'alpine'}, input={1, 2})",
    "client.submit({'image': 'alpine'}, input=b'x')",
    "client.submit({'image': 'alpine'}, input='x' * 600_000)",
    "client.submit({'image': 'alpine'}, after='nope')",
    "client.submit({'image': 'alpine'}, after=['nope'])",
    "client.submit({'image': 'alpine'}, on='sucess', after=['nope'])",
    "client.submit({'image': 'alpine'}, not_before=datetime(2030, 1, 1))",
    "client.submit({'image': 'alpine', 'outputs': ['out/*.pdf']})",
    "client.submit({'image': 'alpine', 'outputs': ['/out/*.pdf']})",
    "client.handle('nope')",
    "client.batch('nope')",
    "client.wait('nope')",
    "client.wait(running, timeout=0.01)",
    "client.result(running)",
    "client.forget(running)",
    "client.replay(running)",
    "client.replay(failed, colour='red')",
    "client.wait(failed)",
    "client.gather('nope')",
    "client.history('nope')",
    "client.history(cause='nope')",
    "client.map({'image': 'alpine', 'command': ['{item.name}']}, ['a'])",
    "client.map({'image': 'alpine'}, ['a'], max_parallel=0)",
    "client.map({'image': 'alpine'}, ['a'], min_success=95)",
    "client.map({'image': 'alpine'}, ['a'], speculate=2.0)",
    "client.map_reduce({'image': 'alpine'}, ['a'], {'image': 'alpine'}, fan_in=1)",
    "client.map({'image': 'alpine'}, ['a'])[3]",
    "Client(queue='')",
    "Client(prefix='a b')",
    "Client('localhost:6379')",
    "Client(store='no such folder')",
    "RetryPolicy(max_attempts=0)",
    "JobSpec(image='alpine', retry={'max_attempts': 'many'})",
)
"""One a line; they are expressions."""

_FILES: Final = {
    "inputs.txt": "a\nb\n",
    "bad.json": '{"image": "alpine",}',
    "broken.jsonl": '{"a": 1}\n{"a":\n',
    "broken.yaml": "job: {image: alpine\n",
    "odd.yaml": "job: {image: alpine}\ninput: [a]\n",
}


@contextlib.contextmanager
def _scene() -> Iterator[tuple[FakeClient, dict[str, str]]]:
    """Yield a client with a job that runs and one that has failed, in a folder with some files."""

    def ends(spec: JobSpec) -> Ending:
        return runs() if spec.name == "running" else fails(3) if spec.name == "failed" else succeeds()

    before = Path.cwd()
    with (
        tempfile.TemporaryDirectory() as folder,
        FakeClient(ends) as client,
        mock.patch.object(Target, "client", _client_of(client)),
        mock.patch.dict(os.environ),
    ):
        for name in [name for name in os.environ if name.startswith("JAAS_")]:
            del os.environ[name]
        os.chdir(folder)
        for name, text in _FILES.items():
            Path(name).write_text(text, encoding="utf-8")
        jobs = {name.upper(): client.submit({"image": "alpine", "name": name}).id for name in ("running", "failed")}
        try:
            yield client, jobs
        finally:
            os.chdir(before)


def _client_of(client: FakeClient) -> Any:
    real = Target.client

    def made(target: Target) -> Any:
        if target.redis or target.queue or target.prefix:
            real(target).close()  # raises what is wrong with them
        return client

    return made


def _told_by_command(line: str, jobs: dict[str, str]) -> tuple[str, str]:
    words = [jobs.get(word, word) for word in shlex.split(line)[1:]]
    done = click.testing.CliRunner().invoke(cli, words, prog_name="jaas", input="")
    return _plain(done.stderr or done.stdout, jobs), str(done.exit_code)


def _told_by_snippet(text: str, client: FakeClient, jobs: dict[str, str]) -> tuple[str, str]:
    names = {**{name: getattr(jaas_submit, name) for name in ("Client", "JobSpec", "RetryPolicy")}, "client": client}
    code = f"from datetime import datetime\nfound = {text}"
    names |= {name.lower(): job_id for name, job_id in jobs.items()}
    try:
        exec(code, names)
    except Exception as error:  # noqa: BLE001 (whatever people would see)
        return _plain(str(error), jobs), type(error).__name__
    return "(nothing)", ""


def _plain(text: str, jobs: dict[str, str]) -> str:
    for name, job_id in jobs.items():
        text = text.replace(job_id, name)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", "ID", text)
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def page() -> str:
    """Return the page: two tables, made by running all of it."""
    lines = [_HEAD, "| command | is told | exit code |", "| --- | --- | --- |"]
    with _scene() as (client, jobs):
        for line in COMMANDS:
            told, code = _told_by_command(line, jobs)
            lines.append(f"| `{line}` | {told} | {code} |")
        lines += ["", "## In Python", "", "| call | is told | error |", "| --- | --- | --- |"]
        for text in SNIPPETS:
            told, kind = _told_by_snippet(text, client, jobs)
            lines.append(f"| `{text}` | {told} | `{kind}` |")
    return "\n".join(lines) + "\n"


_HEAD: Final = """\
# Mistakes, and what is said

This page lists mistakes that people make, and the sentence that they get. `python -m tests.support.mistakes` has run
each of them to write it. `RUNNING` and `FAILED` stand for the ids of two jobs.

## On the command line
"""

if __name__ == "__main__":
    sys.stdout.write(page())

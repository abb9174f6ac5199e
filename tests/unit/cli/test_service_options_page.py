"""docs/service-options.md says of each of docker's flags where it went, and that is so."""

from __future__ import annotations

import re

import pytest

from jaas_submit.cli.docker_flags import REFUSED, DockerCommand
from jaas_submit.cli.main import cli
from jaas_submit.cli.service_options.flags import CONTAINER_FLAGS
from jaas_submit.cli.service_options.values import mount_of
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.service_options.mounts import Mount
from jaas_submit.model.service_options.table import CONTAINER_OPTIONS
from tests.support.pages import DOCS, rows

PAGE = DOCS / "service-options.md"

# `docker service create --help` of Docker 28.5.2.
DOCKER = """
    --cap-add --cap-drop --config --constraint --container-label --credential-spec --detach --dns --dns-option
    --dns-search --endpoint-mode --entrypoint --env --env-file --generic-resource --group --health-cmd --health-interval
    --health-retries --health-start-interval --health-start-period --health-timeout --host --hostname --init --isolation
    --label --limit-cpu --limit-memory --limit-pids --log-driver --log-opt --max-concurrent --mode --mount --name
    --network --no-healthcheck --no-resolve-image --oom-score-adj --placement-pref --publish --quiet --read-only
    --replicas --replicas-max-per-node --reserve-cpu --reserve-memory --restart-condition --restart-delay
    --restart-max-attempts --restart-window --rollback-delay --rollback-failure-action --rollback-max-failure-ratio
    --rollback-monitor --rollback-order --rollback-parallelism --secret --stop-grace-period --stop-signal --sysctl --tty
    --ulimit --update-delay --update-failure-action --update-max-failure-ratio --update-monitor --update-order
    --update-parallelism --user --with-registry-auth --workdir
""".split()  # noqa: SIM905 # as docker prints them

FLAGS = {row[0]: row[1:] for row in rows(PAGE, "flag")}


def flags_of(command: str) -> set[str]:
    with cli.commands[command].make_context(command, [], resilient_parsing=True) as context:
        made = cli.commands[command]
        assert isinstance(made, DockerCommand)
        return set(made.options_by_name(context))


def test_each_flag_of_docker_has_a_row_and_no_other() -> None:
    assert list(FLAGS) == DOCKER


@pytest.mark.parametrize("flag", DOCKER)
def test_a_flag_is_taken_or_refused_as_its_row_says(flag: str) -> None:
    field, said = FLAGS[flag]
    if field == "none" and flag not in {"--detach", "--quiet"}:
        assert said == REFUSED[flag]
        return
    assert flag in flags_of("run")
    field = field.strip("`")
    assert field == "none" or field.partition(".")[0] in JobSpec.model_fields


def test_the_flags_of_docker_run_that_are_refused_have_their_sentence() -> None:
    listed = {row[0]: row[1] for row in rows(PAGE, "flag of `docker run")}
    assert len(listed) > 10
    assert listed == {flag: REFUSED[flag].strip("`") for flag in listed}


def test_the_keys_of_a_mount_are_those_of_the_command_line() -> None:
    for keys, field in ((row[0], row[1]) for row in rows(PAGE, "key of `--mount")):
        name = re.match(r"`?(\w+)`?", field)
        assert name
        if name[1] == "none":
            continue
        assert name[1] in Mount.model_fields
        for key in re.findall(r"[\w-]+", keys):
            value = "a=b" if key in {"volume-opt", "volume-label"} else "1"
            assert name[1] in mount_of(f"{key}={value},target=/x"), key


def test_one_table_makes_fields_flags_and_places() -> None:
    assert len({option.place for option in CONTAINER_OPTIONS}) == len(CONTAINER_OPTIONS)
    assert {option.field for option in CONTAINER_OPTIONS} < set(JobSpec.model_fields)
    taken = flags_of("run")
    assert {flag for option in CONTAINER_OPTIONS for flag in option.flags} <= taken
    assert len(CONTAINER_FLAGS) > len(CONTAINER_OPTIONS)
    for option in CONTAINER_OPTIONS:
        assert JobSpec.model_fields[option.field].description == option.means

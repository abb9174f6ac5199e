"""Configs with files that no service has any more: engines list them with their contents, which may be much."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import pytest

from jaas_submit.errors import AnswerTooLong, EngineUnavailable
from jaas_worker.swarm.docker_engine import Swarm
from jaas_worker.swarm.files.shared_configs import SharedConfigs, UnusedConfigs
from tests.support.engine_http import serving
from tests.support.fake_swarm import FakeSwarm
from tests.support.socket_proxy import behind_proxy

LABELS: Final = {"jaas.ledger": "l"}
LABEL: Final = "jaas.files-of=l"
HOUR: Final = 3600
FIRST: Final = 500_000
"""Hours since the epoch, as there are now: their names have the same length."""
LARGE: Final = bytes(1_000_000)


def fill(engine: FakeSwarm, contents: int, hours: int) -> float:
    """Leave a large config behind for each content and hour; return when all of these are long over."""
    for hour in range(FIRST, FIRST + hours):
        configs = SharedConfigs(engine, LABELS)
        for number in range(contents):
            configs.get(hashlib.sha256(bytes([number])).hexdigest(), lambda: LARGE, hour * HOUR)
    assert len(engine.config_files) == contents * hours
    return float((FIRST + hours + 1) * HOUR)


@pytest.mark.parametrize(("contents", "hours"), [(250, 2), (1, 500)])
def test_more_than_one_answer_may_hold_is_removed_part_by_part(contents: int, hours: int) -> None:
    engine = FakeSwarm()
    now = fill(engine, contents, hours)
    assert UnusedConfigs(engine, "l", round_time=60).run_once(now)
    assert not engine.config_files


def test_a_round_without_time_goes_on_in_the_next_one() -> None:
    engine = FakeSwarm()
    now = fill(engine, 40, 1)
    duty = UnusedConfigs(engine, "l", round_time=0)
    left = [len(engine.config_files)]
    while not duty.run_once(now):
        left.append(len(engine.config_files))
    assert len(left) == 16
    assert left == sorted(left, reverse=True)
    assert not engine.config_files


def test_a_part_that_fails_does_not_keep_the_others() -> None:
    class Fails(FakeSwarm):
        def configs(self, label: str, prefix: str = "", most_bytes: int = 0) -> dict[str, dict[str, str]]:
            if prefix == "jaas-file-8":
                raise EngineUnavailable("no")
            return super().configs(label, prefix, most_bytes)

    engine = Fails()
    now = fill(engine, 40, 1)
    duty = UnusedConfigs(engine, "l", round_time=60)
    with pytest.raises(EngineUnavailable):
        duty.run_once(now)
    assert duty.run_once(now)
    assert {name[:11] for name in engine.config_files} == {"jaas-file-8"}


def test_a_real_client_reads_no_more_than_it_may_and_lists_the_parts(tmp_path: Path) -> None:
    engine = FakeSwarm()
    fill(engine, 3, 1)
    with serving(engine, str(tmp_path / "engine.sock")) as host:
        swarm = Swarm(host)
        with pytest.raises(AnswerTooLong, match="configs: the engine's answer has more than 2,000,000 bytes"):
            swarm.configs(LABEL, "jaas-file-", 2_000_000)
        one = next(iter(engine.config_files))
        assert swarm.configs(LABEL, one, 2_000_000).keys() == {one}
        assert swarm.configs(LABEL, "jaas-file-").keys() == engine.config_files.keys()


def test_what_is_too_long_for_a_socket_proxy_is_listed_by_parts(tmp_path: Path) -> None:
    engine = FakeSwarm()
    fill(engine, 60, 1)
    with (
        serving(engine, str(tmp_path / "engine.sock")) as host,
        behind_proxy(host, tmp_path, policy="privileged") as address,
    ):
        swarm = Swarm(address)
        with pytest.raises(AnswerTooLong, match="socket proxy: the engine's answer has more than 67,108,864 bytes"):
            swarm.configs(LABEL, "jaas-file-")
        part = {name for name in engine.config_files if name.startswith("jaas-file-0")}
        assert swarm.configs(LABEL, "jaas-file-0").keys() == part

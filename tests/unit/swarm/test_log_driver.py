"""What can be relied on of what a log driver hands out."""

from __future__ import annotations

import pytest

from jaas_submit import JobSpec
from jaas_worker.swarm.log_driver import LogDriver, LogSize

OWN = LogDriver("local", {"max-size": "20m", "max-file": "5"})


@pytest.mark.parametrize(
    ("driver", "fields", "expected"),
    [
        (OWN, {}, OWN),
        (OWN, {"log_options": {"max-file": "2"}}, LogDriver("local", {"max-size": "20m", "max-file": "2"})),
        (OWN, {"log_driver": "none"}, LogDriver("none", {})),
        (OWN, {"log_driver": "local", "log_options": {"compress": "false"}}, LogDriver("local", {"compress": "false"})),
        (LogDriver(), {}, LogDriver()),
        (LogDriver(), {"log_options": {"max-size": "1m"}}, LogDriver("", {"max-size": "1m"})),
    ],
)
def test_a_job_may_change_the_workers_driver(driver: LogDriver, fields: dict[str, object], expected: LogDriver) -> None:
    assert driver.changed_by(JobSpec(image="a", **fields)) == expected


def test_without_a_description_it_is_the_workers() -> None:
    assert OWN.changed_by(None) == OWN


@pytest.mark.parametrize(
    ("driver", "readable"),
    [
        (LogDriver(), True),
        (OWN, True),
        (LogDriver("none"), False),
        (LogDriver("syslog"), True),
        (LogDriver("syslog", {"cache-disabled": "true"}), False),
        (LogDriver("journald", {"cache-disabled": "true"}), True),
    ],
)
def test_a_driver_that_cannot_be_read_is_known(driver: LogDriver, readable: bool) -> None:
    assert (driver.unreadable == "") == readable
    assert readable or f"log driver {driver.name}" in driver.unreadable


MIB = 2**20


@pytest.mark.parametrize(
    ("driver", "size", "rotated"),
    [
        (OWN, LogSize(), False),
        (OWN, LogSize(79 * MIB, 1000), False),
        (OWN, LogSize(80 * MIB, 0), True),
        (OWN, LogSize(2 * MIB, 2 * MIB), True),  # short lines take more than their text
        (LogDriver("local"), LogSize(79 * MIB, 1000), False),  # these are its own defaults
        (LogDriver("local"), LogSize(80 * MIB, 0), True),
        (LogDriver("json-file"), LogSize(10**12, 10**9), False),  # never rotated, unless asked to
        (LogDriver("json-file", {"max-size": "10m"}), LogSize(1, 1), True),  # its only file is emptied
        (LogDriver("json-file", {"max-size": "10m", "max-file": "3"}), LogSize(3 * MIB, 1000), False),
        (LogDriver("json-file", {"max-size": "10m", "max-file": "3"}), LogSize(4 * MIB, 1000), True),
        (LogDriver("local", {"max-size": "?"}), LogSize(), True),
        (LogDriver(), LogSize(10**12, 10**9), False),
        (LogDriver("journald"), LogSize(10**12, 10**9), False),
    ],
)
def test_output_may_have_rotated_away(driver: LogDriver, size: LogSize, rotated: bool) -> None:
    assert driver.may_have_rotated(size) is rotated

"""What the policy would see wrongly: templates, which the swarm fills in afterwards, and sources that do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.policy.requests import asked, rules_of

NFS = """
level = "baseline"
[rules.mounts]
volumes = ["data"]
drivers = {local = ["type=*", "o=**", "device=**"]}
"""


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"type": "nfs", "o": "addr=h", "device": ":/x"}, set()),
        ({"type": "nfs", "o": "bind", "device": "/etc"}, {"mounts.binds"}),
        ({"type": "nfs", "o": '{{"bi"}}nd', "device": "/etc"}, {"mounts.drivers"}),
        ({"type": "nfs", "o": "addr=h", "device": '{{"/etc"}}'}, {"mounts.drivers"}),
        ({"type": '{{"none"}}', "o": "bind"}, {"mounts.drivers"}),
    ],
)
def test_a_template_in_an_option_of_a_volume_driver_is_refused(options: dict[str, str], refused: set[str]) -> None:
    driver = {"DriverConfig": {"Name": "local", "Options": options}}
    mount = {"Type": "volume", "Source": "data", "Target": "/x", "VolumeOptions": driver}
    assert rules_of(NFS, asked({"Mounts": [mount]})) == refused


@pytest.mark.parametrize(
    "more", [{"Source": "/etc"}, {"VolumeOptions": {"NoCopy": True}}, {"BindOptions": {"NonRecursive": True}}]
)
def test_a_tmpfs_with_what_belongs_to_another_type_is_refused(more: dict[str, Any]) -> None:
    request = asked({"Mounts": [{"Type": "tmpfs", "Target": "/x", **more}]})
    assert rules_of('level = "privileged"', request) == {"mounts.tmpfs"}

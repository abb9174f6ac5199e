"""Where the kernel's counters of a container are found, in trees of files as a kernel shows them.

cgroup version 2 could not be had: its files have the form that the kernel documents (cgroup-v2.rst).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jaas_worker.agent.usage.counters import Counters
from jaas_worker.agent.usage.kernel import open_counters

ID = "4f5c" * 16
NETWORK = "  lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 200 2 0 0 0 0 0 0 50 1 0 0 0 0 0 0\n"
IO = "rchar: 1\nwchar: 1\nread_bytes: 7\nwrite_bytes: 8\n"

V2 = {
    "cpu.stat": (
        "usage_usec 65328813\nuser_usec 44678985\nsystem_usec 20649827\nnr_periods 0\nnr_throttled 0\n"
        "throttled_usec 0\nnr_bursts 0\nburst_usec 0\n"
    ),
    "memory.current": "1048576\n",
    "memory.peak": "3145728\n",
    "io.stat": "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n8:0 \n",
}
V2_ALL = Counters(65.328813, 1048576, 3145728, 1459200, 314773504, 200, 50)

V1_MOUNTS = """\
30 24 0:26 / {root}/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
31 24 0:27 / {root}/memory rw,nosuid shared:10 - cgroup cgroup rw,memory
32 24 0:28 / {root}/blkio rw,nosuid shared:11 - cgroup cgroup rw,blkio
33 24 0:29 / {root}/unified rw,nosuid shared:12 - cgroup2 cgroup2 rw,nsdelegate
"""
V2_MOUNTS = "30 24 0:26 / {root} rw,nosuid,nodev,noexec shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "found"),
    [
        pytest.param(
            f"0::/system.slice/docker-{ID}.scope\n",
            V2_MOUNTS,
            {f"system.slice/docker-{ID}.scope/{name}": text for name, text in V2.items()},
            V2_ALL,
            id="version 2, systemd",
        ),
        pytest.param(
            f"0::/docker/{ID}\n",
            V2_MOUNTS,
            {f"docker/{ID}/{name}": text for name, text in V2.items()},
            V2_ALL,
            id="version 2, cgroupfs",
        ),
        pytest.param(
            f"0::/docker/{ID}\n",
            V2_MOUNTS,
            {f"docker/{ID}/{name}": text for name, text in V2.items() if name != "memory.peak"},
            V2_ALL._replace(peak_memory=None),
            id="version 2 before Linux 5.19",
        ),
        pytest.param(
            f"0::/docker/{ID}\n",
            V2_MOUNTS,
            {f"docker/{ID}/cpu.stat": V2["cpu.stat"]},
            Counters(65.328813, read_bytes=7, written_bytes=8, received_bytes=200, sent_bytes=50),
            id="version 2 with no controller but the one that is always there",
        ),
        pytest.param(
            f"12:memory:/docker/{ID}\n5:cpu,cpuacct:/docker/{ID}\n4:blkio:/docker/{ID}\n0::/docker/{ID}\n",
            V1_MOUNTS,
            {
                f"cpu,cpuacct/docker/{ID}/cpuacct.usage": "2000000000\n",
                f"memory/docker/{ID}/memory.usage_in_bytes": "5\n",
                f"memory/docker/{ID}/memory.max_usage_in_bytes": "6\n",
                f"blkio/docker/{ID}/blkio.throttle.io_service_bytes_recursive": "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
                f"unified/docker/{ID}/cpu.stat": V2["cpu.stat"],
            },
            Counters(2.0, 5, 6, 1, 2, 200, 50),
            id="version 1, beside an empty tree of version 2",
        ),
        pytest.param(f"0::/../{ID}\n", V2_MOUNTS, {}, None, id="this process is in a cgroup namespace of its own"),
        pytest.param(
            "0::/user.slice\n", V2_MOUNTS, {"user.slice/cpu.stat": V2["cpu.stat"]}, None, id="the number is another's"
        ),
    ],
)
def test_counters_are_found_in_either_version(
    groups: str, mounts: str, files: dict[str, str], found: Counters | None, tmp_path: Path
) -> None:
    root, proc, own = tmp_path / "cgroup", tmp_path / "proc", os.getpid()
    texts = {
        **{root / name: text for name, text in files.items()},
        proc / "self" / "mountinfo": mounts.format(root=root),
        proc / str(own) / "cgroup": groups,
        proc / str(own) / "net" / "dev": NETWORK,
        proc / str(own) / "io": IO,
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    counters = open_counters(ID, own, own_network=True, proc=proc)
    if found is None:
        assert counters is None
        return
    assert counters is not None
    try:
        assert counters.read() == found
    finally:
        counters.close()

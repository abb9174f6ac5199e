"""The kernel's counters of a container, from recorded texts."""

from __future__ import annotations

from typing import Any

import pytest

from jaas_worker.agent.usage.counters import (
    Counters,
    of_cgroup_v1,
    of_cgroup_v2,
    of_engine,
    with_network,
    with_process_io,
)

# Recorded on Linux 6.18, which names no device there; the lines of devices have the form that the kernel documents.
V1 = {
    "cpuacct.usage": "37839266\n",
    "memory.usage_in_bytes": "729088\n",
    "memory.max_usage_in_bytes": "4341760\n",
    "blkio.throttle.io_service_bytes_recursive": (
        "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 12288\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 12288\n"
        "8:16 Read 1\n8:16 Write 2\n8:16 Total 3\nTotal 12291\n"
    ),
}

# cpu.stat was recorded on Linux 6.18; the other files have the form that the kernel documents.
V2 = {
    "cpu.stat": "usage_usec 65328813\nuser_usec 44678985\nsystem_usec 20649827\nnice_usec 0\n",
    "memory.current": "1048576\n",
    "memory.peak": "3145728\n",
    "io.stat": (
        "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n"
        "8:0 rbytes=1 wbytes=2 rios=1 wios=2 dbytes=0 dios=0\n"
    ),
}

NETWORK = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     999       9    0    0    0     0          0         0      999       9    0    0    0     0       0          0
  eth0:     200       2    0    0    0     0          0         0       50       1    0    0    0     0       0          0
  eth1:1000       2    0    0    0     0          0         0       7       1    0    0    0     0       0          0
"""  # noqa: E501 (as the kernel writes it)

IO = "rchar: 134267757\nwchar: 134225613\nsyscr: 175\nsyscw: 140\nread_bytes: 67108864\nwrite_bytes: 67137536\n"


def stats(**changed: Any) -> dict[str, Any]:
    """Return an engine's answer, recorded on Docker 20.10 and shortened."""
    return {
        "read": "2026-11-30T15:48:25.473347839Z",
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"major": 8, "minor": 0, "op": "Read", "value": 10},
                {"major": 8, "minor": 0, "op": "Write", "value": 20},
                {"major": 8, "minor": 0, "op": "Total", "value": 30},
            ]
        },
        "cpu_stats": {"cpu_usage": {"total_usage": 37839266, "percpu_usage": [24620500, 13218766]}, "online_cpus": 2},
        "memory_stats": {"usage": 729088, "max_usage": 4341760, "stats": {"cache": 0}, "limit": 25276510208},
        "networks": {"eth0": {"rx_bytes": 200, "tx_bytes": 50}, "eth1": {"rx_bytes": 1, "tx_bytes": 2}},
        **changed,
    }


ALL = Counters(0.037839266, 729088, 4341760, 10, 20, 201, 52)


@pytest.mark.parametrize(
    ("files", "counters"),
    [
        (V1, Counters(0.037839266, 729088, 4341760, 4097, 8194)),
        ({}, Counters()),
        ({"cpuacct.usage": "1000000000\n"}, Counters(1.0)),
        # A kernel that does not count names no device: that is not 0.
        ({"blkio.throttle.io_service_bytes_recursive": "Total 0\n"}, Counters()),
        ({"cpuacct.usage": "", "memory.usage_in_bytes": "nonsense"}, Counters()),
    ],
)
def test_cgroup_version_1(files: dict[str, str], counters: Counters) -> None:
    assert of_cgroup_v1(files) == counters


@pytest.mark.parametrize(
    ("files", "counters"),
    [
        (V2, Counters(65.328813, 1048576, 3145728, 4097, 8194)),
        (
            {name: text for name, text in V2.items() if name != "memory.peak"},
            Counters(65.328813, 1048576, None, 4097, 8194),
        ),
        ({"cpu.stat": V2["cpu.stat"], "io.stat": ""}, Counters(65.328813, read_bytes=0, written_bytes=0)),
        ({}, Counters()),
    ],
)
def test_cgroup_version_2(files: dict[str, str], counters: Counters) -> None:
    assert of_cgroup_v2(files) == counters


@pytest.mark.parametrize(
    ("answer", "counters"),
    [
        (stats(), ALL),
        (stats(networks=None), ALL._replace(received_bytes=None, sent_bytes=None)),
        (stats(blkio_stats={"io_service_bytes_recursive": []}), ALL._replace(read_bytes=None, written_bytes=None)),
        (stats(blkio_stats={"io_service_bytes_recursive": None}), ALL._replace(read_bytes=None, written_bytes=None)),
        # cgroup version 2: no peak, operations in small letters
        (
            stats(
                memory_stats={"usage": 5, "stats": {}},
                blkio_stats={"io_service_bytes_recursive": [{"op": "read", "value": 1}, {"op": "write", "value": 2}]},
            ),
            ALL._replace(memory=5, peak_memory=None, read_bytes=1, written_bytes=2),
        ),
        # Of a container that has ended.
        (stats(cpu_stats={"cpu_usage": {"total_usage": 0}}, memory_stats={}), Counters()),
    ],
)
def test_the_engines_answer(answer: dict[str, Any], counters: Counters) -> None:
    assert of_engine(answer) == counters


def test_the_network_counts_all_interfaces_but_lo() -> None:
    assert with_network(Counters(1.0), NETWORK) == Counters(1.0, received_bytes=1200, sent_bytes=57)


def test_the_io_of_a_process_counts_what_reached_devices() -> None:
    assert with_process_io(Counters(1.0), IO) == Counters(1.0, read_bytes=67108864, written_bytes=67137536)
    assert with_process_io(Counters(1.0), "rchar: 1\n") == Counters(1.0)

"""Memory that is free goes back to the operating system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from jaas_worker.memory import keep_little
from tests.support.worker import clean_env

# Prints how many bytes are kept of 19 MB that were used and freed. A first large block that is freed makes glibc keep
# room for blocks of that size.
PROGRAM = """
import ctypes, resource, sys
from pathlib import Path
from jaas_worker.memory import give_back, keep_little

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

libc.free(libc.malloc(20_000_000))
if "keep_little" in sys.argv:
    assert keep_little()
before = resident()
size = int(sys.argv[1])
blocks = [libc.malloc(size) for _ in range(19_000_000 // size)]
for block in blocks:
    ctypes.memset(block, 1, size)
for block in blocks[:-1] if len(blocks) > 1 else blocks:  # one of many stays: the heap cannot be cut off at its end
    libc.free(block)
if "give_back" in sys.argv:
    assert give_back()
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
@pytest.mark.parametrize(
    ("size", "calls", "all_of_it"),
    [
        (19_000_000, [], False),
        (19_000_000, ["keep_little"], True),
        (10_000, ["keep_little"], False),
        (10_000, ["keep_little", "give_back"], True),
    ],
)
def test_what_is_free_is_given_back(size: int, calls: list[str], all_of_it: bool) -> None:
    env = {name: value for name, value in clean_env().items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PROGRAM, str(size), *calls]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    kept = int(done.stdout)
    assert kept < 2_000_000 if all_of_it else kept > 17_000_000


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "33554432")
    assert not keep_little()

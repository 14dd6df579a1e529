"""Memory that nobody uses goes back to the system, and what lives is not looked at again."""

import ctypes
import subprocess
import sys

import pytest

HOARD = """
import ctypes
from textpro_stream.runtime.memory import trim_heap


def resident():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmRSS"))


libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
kept = [libc.malloc(100_000) for _ in range(1000)]  # below what is mapped by itself
for each in kept:
    ctypes.memset(ctypes.c_void_p(each), 1, 100_000)
pin = libc.malloc(100_000)  # on top: nothing below it goes back by itself
for each in kept:
    libc.free(each)
before = resident()
trim_heap()
print(before - resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc only")
def test_what_was_freed_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOARD], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 80_000  # KiB, of 100 MB


SETTLED = """
import gc
from textpro_stream.runtime.memory import freeze_gc

kept = [[] for _ in range(1000)]
freeze_gc()
assert gc.get_freeze_count() > 1000
assert len(gc.get_objects()) < 100
"""


def test_what_lives_is_passed_by() -> None:
    subprocess.run([sys.executable, "-c", SETTLED], check=True)

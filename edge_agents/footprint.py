"""Keeps the process small.

Measured with benchmarks/bench_agent.py on x86-64, CPython 3.11: of 63 MB, OpenSSL is 4 to 5, and
one heap and given-back pages save 1.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from tinyfleet.footprint import leave_out, leave_out_openssl

_M_ARENA_MAX = -8  # malloc.h of glibc


def trim_imports() -> None:
    """Make the libraries leave out what an agent never uses.

    OpenBLAS would start a thread per core; the agent computes in one, and not with BLAS. asyncio
    and hashlib would load OpenSSL; both do without it, and gRPC brings its own TLS. zipfile would
    load compressions that an .npz never has. gRPC would log lost peers, which the agent's log does.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    leave_out_openssl()
    leave_out("_bz2", "_lzma")


def share_one_heap() -> None:
    """Let all threads allocate from one heap: gRPC's dozen do little. Call it before they start.

    glibc only; elsewhere nothing happens.
    """
    if mallopt := _of_libc("mallopt"):
        mallopt(_M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Return free pages of the heap to the system: what reading data or importing has left behind.

    Takes about a millisecond. glibc only; elsewhere nothing happens.
    """
    if malloc_trim := _of_libc("malloc_trim"):
        malloc_trim(0)


def _of_libc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except OSError:
        return None

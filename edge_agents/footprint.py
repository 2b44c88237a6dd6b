"""Keeps the process small; called before anything else is imported.

Measured with benchmarks/agent_memory.py on x86-64, CPython 3.11: OpenSSL is 5 of 58 MB.
"""

from __future__ import annotations

import importlib.util
import os
import sys

# CPython's own SHA-2 (3.12 on; 3.11), without which hashlib needs OpenSSL.
_OWN_SHA2 = ("_sha2", "_sha256")


def trim_imports() -> None:
    """Make the libraries leave out what an agent never uses.

    OpenBLAS would start a thread per core; the agent computes in one, and not with BLAS. asyncio
    and hashlib would load OpenSSL; both do without it, and gRPC brings its own TLS. gRPC would log
    lost peers, which the agent's own log does.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if any(importlib.util.find_spec(module) for module in _OWN_SHA2):
        for module in ("_ssl", "_hashlib"):
            sys.modules.setdefault(module, None)  # type: ignore[arg-type]  # "not there", to import

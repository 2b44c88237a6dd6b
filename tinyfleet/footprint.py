"""Keeps a process small: what its libraries would load and it never uses is left out.

Call these before anything imports what they leave out. Measured on x86-64, CPython 3.11.
"""

from __future__ import annotations

import importlib.util
import sys

# CPython's own SHA-2 (3.12 on; 3.11), without which hashlib needs OpenSSL.
_OWN_SHA2 = ("_sha2", "_sha256")


def leave_out(*modules: str) -> None:
    """Let importing them fail, as where they are missing; whoever imports these allows for that."""
    for module in modules:
        sys.modules.setdefault(module, None)  # type: ignore[arg-type]


def leave_out_openssl() -> None:
    """4 to 5 MB that asyncio and hashlib load and do without; gRPC brings its own TLS."""
    if any(importlib.util.find_spec(module) for module in _OWN_SHA2):
        leave_out("_ssl", "_hashlib")


def leave_out_ros_generators() -> None:
    """4 to 7 MB: a parser of interface files that rclpy's messages load, for generating others."""
    leave_out("lark")

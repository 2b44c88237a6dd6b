"""ROS domains that no other test run on this machine has."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

DOMAINS = range(20, 102)  # below 20 people have theirs; above 101 ports run out
_held: list[int] = []


def claim_domain() -> int:
    """A free domain, ours until this process ends, however it ends."""
    for step in range(len(DOMAINS)):
        domain = DOMAINS[(os.getpid() + step) % len(DOMAINS)]
        path = Path(tempfile.gettempdir()) / f"tinyfleet-ros-domain-{domain}.lock"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            continue
        _held.append(file)
        return domain
    raise RuntimeError("test runs have taken all ROS domains: wait for one to end")

"""Grants: how the aggregator knows to whom the coordinator gave an assignment.

The coordinator has a secret, from which every run gets a key; the aggregator hears a run's key when
the run is opened. A grant is made from that key, and only for one assignment and one agent.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import lru_cache

KEY_BYTES, GRANT_BYTES = 32, 16


class Grants:
    """What the coordinator makes grants with."""

    def __init__(self, secret: bytes) -> None:
        """secret: KEY_BYTES of it, always the same for a run."""
        self._secret = secret
        self.key = lru_cache(maxsize=256)(self._key)

    def grant(self, run_id: str, assignment_id: str, agent: str) -> bytes:
        """What goes with an assignment to that agent."""
        return grant(self.key(run_id), assignment_id, agent)

    def _key(self, run_id: str) -> bytes:
        """What the aggregator is told when the run is opened."""
        return hmac.digest(self._secret, run_id.encode(), "sha256")


def new_secret() -> bytes:
    """A secret that nobody has yet."""
    return secrets.token_bytes(KEY_BYTES)


def grant(key: bytes, assignment_id: str, agent: str) -> bytes:
    """GRANT_BYTES that nobody makes without the key. An assignment id has no '|' in it."""
    message = f"{assignment_id}|{agent}".encode()
    return hmac.digest(key, message, hashlib.sha256)[:GRANT_BYTES]


def is_granted(key: bytes, assignment_id: str, agent: str, shown: bytes) -> bool:
    """Whether `shown` is the grant of that assignment to that agent; without a key, anything is."""
    return not key or hmac.compare_digest(grant(key, assignment_id, agent), shown)

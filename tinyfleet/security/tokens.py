"""One-time tokens, with which an agent asks for its first certificate.

`tokens.jsonl` in the authority's folder: a line when a token is made, and one when it is used. It
has their hashes only. A token as it is handed over also has the authority's certificate, so that
the very first connection is already verified:

    tf1.<base64url of: secret, 16 bytes; certificate, DER>
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tinyfleet.errors import InvalidInput
from tinyfleet.security.bearer import Bearer, checked_bearer

SECRET_BYTES = 16
MAX_TOKEN_CHARACTERS = 8192
_FILE, _PREFIX = "tokens.jsonl", "tf1."


class TokenRefused(Exception):
    """Why a token does not open; for the audit log, not for whoever showed it."""


class Tokens:
    """The tokens of an authority. Safe against two processes that take the same one."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._path = folder / _FILE
        self._now = now

    def make(self, bearer: Bearer, valid_s: float) -> bytes:
        """A secret that opens once, for so many seconds. Raises InvalidInput."""
        secret = secrets.token_bytes(SECRET_BYTES)
        entry = {
            "token": _hash(secret),
            "role": bearer.role,
            "name": bearer.name,
            "also": list(bearer.also),
            "expires": self._now() + valid_s,
        }
        with self._locked() as file:
            _append(file, entry)
        return secret

    def take(self, secret: bytes, name: str) -> Bearer:
        """Whom the token lets in, from now on used. Raises TokenRefused, InvalidInput.

        name: who asks; empty takes the token's.
        """
        key = _hash(secret)
        with self._locked() as file:
            entries = [json.loads(line) for line in file]
            made = next((entry for entry in entries if entry.get("token") == key), None)
            if made is None:
                raise TokenRefused("there is no such token")
            who = f"the token for {made['role']} {made['name']}"
            if any(entry.get("used") == key for entry in entries):
                raise TokenRefused(f"{who} was used already")
            if self._now() >= made["expires"]:
                raise TokenRefused(f"{who} has expired")
            if name not in ("", made["name"]):
                raise TokenRefused(f"{who} was shown by '{name[:64]}'")
            _append(file, {"used": key, "time": self._now()})
        return checked_bearer(made["role"], made["name"], made["also"])

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise InvalidInput(f"cannot use {self._path}: {error.strerror}") from None
        with os.fdopen(handle, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file


def token_text(secret: bytes, ca: bytes) -> str:
    """What an operator hands over. ca: the authority's certificate, DER."""
    return _PREFIX + base64.urlsafe_b64encode(secret + ca).decode("ascii").rstrip("=")


def read_token(text: str) -> tuple[bytes, bytes]:
    """The secret and the certificate, DER, of a token; raises InvalidInput."""
    body = text.strip().removeprefix(_PREFIX)
    try:
        if len(text) > MAX_TOKEN_CHARACTERS or not text.strip().startswith(_PREFIX):
            raise ValueError(len(text))
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except ValueError:
        data = b""
    if len(data) <= SECRET_BYTES:
        raise InvalidInput(
            "that is no join token: copy all of what 'tinyfleet ca token' printed, from tf1. on"
        )
    return data[:SECRET_BYTES], data[SECRET_BYTES:]


def _append(file: IO[str], entry: dict[str, Any]) -> None:
    file.write(f"{json.dumps(entry)}\n")
    file.flush()
    os.fsync(file.fileno())


def _hash(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()

"""Has the audit log say which handshakes failed, and why.

They fail inside gRPC, before there is a call, and all it says of it is a line on the process's
standard error. So while a server uses TLS, file descriptor 2 is a pipe: lines about handshakes are
noted, what else gRPC logs is dropped, and all others go on to where they went. Python's own lines
do not take that way, so none is lost when the process is killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator

_FAILED = re.compile(rb"Handshake failed with error .*OPENSSL_internal:([A-Z0-9_]+)(?:: (.*))?")
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no certificate",
    "WRONG_VERSION_NUMBER": "plain text where TLS is wanted",
    "HTTP_REQUEST": "plain text where TLS is wanted",
    "unable to get local issuer certificate": "a certificate of another authority",
    "self signed certificate": "a certificate of another authority",
    "certificate signature failure": "a certificate of another authority",
    "certificate has expired": "a certificate that has expired",
    "certificate is not yet valid": "a certificate that is not valid yet",
}
# What gRPC logs besides (glog's form): it reaches us as errors, too.
_NATIVE = re.compile(rb"[DIWE]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+\.cc:\d+\] ")
_STDERR = 2
_MAX_LINE = 8192


def reason_in(line: bytes) -> str | None:
    """Why a handshake failed, if a line of gRPC's says so."""
    match = _FAILED.search(line)
    if match is None:
        return None
    code, detail = (part.decode("ascii", "replace").strip() for part in (match[1], match[2] or b""))
    told = _REASONS.get(code) or _REASONS.get(detail)
    return told or f"{code} {detail}".strip().lower().replace("_", " ")


@contextlib.contextmanager
def failed_handshakes(note: Callable[[str], None]) -> Iterator[None]:
    """Call `note` with the reason of each handshake that fails meanwhile, in a thread."""
    read, write = os.pipe()
    kept = os.dup(_STDERR)
    own = os.fdopen(os.dup(kept), "w", buffering=1, errors="backslashreplace")
    os.dup2(write, _STDERR)
    os.close(write)
    reader = threading.Thread(target=_pass_on, args=(read, kept, note), daemon=True)
    reader.start()
    before = sys.stderr
    _write_to(own, instead_of=before)
    try:
        yield
    finally:
        _write_to(before, instead_of=own)
        os.dup2(kept, _STDERR)  # the pipe's last writer is gone: the reader ends
        reader.join()
        own.close()
        os.close(kept)


def _write_to(stream: object, instead_of: object) -> None:
    """Let Python's standard error and the logs go to another stream."""
    sys.stderr = stream
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is instead_of:
            handler.setStream(stream)


def _pass_on(read: int, kept: int, note: Callable[[str], None]) -> None:
    with os.fdopen(read, "rb") as lines:
        while line := lines.readline(_MAX_LINE):
            reason = reason_in(line)
            if reason is not None:
                note(reason)
            elif not _NATIVE.match(line):
                with contextlib.suppress(OSError):
                    os.write(kept, line)

"""The doctor's look at a folder with a certificate."""

from __future__ import annotations

import time
from pathlib import Path

from tinyfleet.cli.doctor.finding import Finding, note, ok, problem
from tinyfleet.errors import InvalidInput
from tinyfleet.security.folder import TlsFolder

DAY_S = 86_400
SOON_DAYS = 14  # our choice: what renews itself has done so weeks before


def look_at_certificate(folder: Path, now: float | None = None) -> Finding:
    """Whether the files are there, private and valid. now: seconds since 1970."""
    now = time.time() if now is None else now
    try:
        material = TlsFolder(folder, lambda: now).read()
    except InvalidInput as error:
        message, _, remedy = str(error).rpartition(": ")
        return problem("certificate", message or remedy, remedy)
    days = (material.expires_s - now) / DAY_S
    message = f"that in {folder} is valid for {days:,.0f} more days"
    if days < SOON_DAYS:
        return note(
            "certificate",
            message,
            "tinyfleet ca renew FOLDER; an agent's renews itself: docs/security.md",
        )
    return ok("certificate", message)

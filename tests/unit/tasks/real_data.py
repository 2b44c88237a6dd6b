"""Where the real data are, if TINYFLEET_DATA names their folder or a file in it."""

import os
from pathlib import Path

NOWHERE = "no {} in the folder that TINYFLEET_DATA names, or beside its file"


def real_file(name):
    """The path as text, or None."""
    given = os.environ.get("TINYFLEET_DATA")
    if given is None:
        return None
    folder = Path(given) if Path(given).is_dir() else Path(given).parent
    return str(folder / name) if (folder / name).exists() else None

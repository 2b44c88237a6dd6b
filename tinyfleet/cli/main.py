"""Entry point of `tinyfleet`: says what is missing where the bare install has no command line."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import NoReturn

_NEEDS = ("click", "rich")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with one of `tinyfleet.cli.exits.ExitCode`."""
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        lacking = " and ".join(missing)
        print(
            f"tinyfleet: the command line needs {lacking}: pip install 'tinyfleet[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    try:
        from tinyfleet.cli.program import run

        sys.exit(run(arguments))
    except KeyboardInterrupt:  # while modules were being imported
        sys.exit(5)


if __name__ == "__main__":
    main()

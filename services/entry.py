"""Entry points of the services: where the bare install lacks something, they say what to do."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

_NEEDS = ("sqlalchemy", "alembic", "grpc_health", "grpc_reflection")
EXIT_INVALID = 2


def coordinator() -> None:
    """Run `tinyfleet-coordinator`."""
    _run("coordinator")


def aggregator() -> None:
    """Run `tinyfleet-aggregator`."""
    _run("aggregator")


def metrics() -> None:
    """Run `tinyfleet-metrics`."""
    _run("metrics")


def _run(name: str) -> None:
    missing = [package for package in _NEEDS if find_spec(package) is None]
    if missing:
        lacking = ", ".join(missing)
        text = f"tinyfleet-{name}: the services need {lacking}: pip install 'tinyfleet[services]'"
        print(text, file=sys.stderr)  # noqa: T201 - before there are logs
        sys.exit(EXIT_INVALID)
    importlib.import_module(f"services.{name}.main").main()

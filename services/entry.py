"""Entry points of the services: where the bare install lacks something, they say what to do."""

from __future__ import annotations

import importlib

from tinyfleet.footprint import leave_out, leave_out_openssl
from tinyfleet.presence import require, require_ros

_NEEDS = ("sqlalchemy", "alembic", "grpc_health", "grpc_reflection")
_REMEDY = "pip install 'tinyfleet[services]'"


def coordinator() -> None:
    """Run `tinyfleet-coordinator`."""
    _run("coordinator")


def aggregator() -> None:
    """Run `tinyfleet-aggregator`."""
    _run("aggregator")


def metrics() -> None:
    """Run `tinyfleet-metrics`."""
    _run("metrics")


def coordinator_node() -> None:
    """Run `tinyfleet-coordinator-node`."""
    _run_node("coordinator")


def aggregator_node() -> None:
    """Run `tinyfleet-aggregator-node`."""
    _run_node("aggregator")


def metrics_node() -> None:
    """Run `tinyfleet-metrics-node`."""
    _run_node("metrics")


def _run(name: str) -> None:
    require(f"tinyfleet-{name}", _NEEDS, "the services need", _REMEDY)
    importlib.import_module(f"services.{name}.main").main()


def _run_node(name: str) -> None:
    leave_out_openssl()
    leave_out("pygments")  # 3 MB, to colour what Alembic's template engine has to say in a browser
    require(f"tinyfleet-{name}-node", _NEEDS, "the services need", _REMEDY)
    require_ros(f"tinyfleet-{name}-node")
    importlib.import_module(f"services.{name}.main").node()

"""Real nodes in processes of their own, and a node of ours that talks to them.

Each test run has a domain of its own on this machine, so that two runs, or a robot in the same
network, do not see each other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from domains import claim_domain

# Before anything imports rclpy: it reads them once.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(claim_domain())

from nodes import NodeFleet, NodeProcess, Observer


@pytest.fixture
def another_domain() -> int:
    """A domain that is not that of the test run."""
    return claim_domain()


@pytest.fixture
def fleet_of(start: Callable[..., NodeProcess], tmp_path: Path) -> Callable[..., NodeFleet]:
    """fleet_of(namespace="/site", agents=2) starts a whole fleet of nodes, active."""
    return lambda **options: NodeFleet(start, tmp_path, **options)


@pytest.fixture
def observer() -> Iterator[Observer]:
    one = Observer()
    yield one
    one.close()


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., NodeProcess]]:
    """start("coordinator", namespace="/site", listen="127.0.0.1:0") starts a node.

    Further keywords are parameters; `arguments` are more for ROS. What it printed is shown when the
    test fails; whatever still runs at the end is killed.
    """
    nodes: list[NodeProcess] = []

    def begin(
        which: str,
        *,
        namespace: str = "/",
        arguments: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        **parameters: object,
    ) -> NodeProcess:
        ros = ["-r", f"__ns:={namespace}", *arguments]
        for name, value in parameters.items():
            ros += ["-p", f"{name}:={_yaml(value)}"]
        log = tmp_path / f"{len(nodes)}-{which}.log"
        nodes.append(NodeProcess(which, log, ros, **(environment or {})))
        return nodes[-1]

    yield begin
    for node in nodes:
        if node.process.poll() is None:
            node.process.kill()
            node.process.wait()
        request.node.add_report_section("call", node.log.name, node.printed())


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

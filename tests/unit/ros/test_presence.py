"""Without ROS 2 a node ends with one line and 2, and everything else does not notice."""

from __future__ import annotations

import subprocess
import sys

import pytest

NODES = {
    "services.coordinator.node": "tinyfleet-coordinator-node",
    "services.aggregator.node": "tinyfleet-aggregator-node",
    "services.metrics.node": "tinyfleet-metrics-node",
    "edge_agents.ros": "tinyfleet-agent-node",
}
WITHOUT_ROS = "import sys, runpy; sys.modules['rclpy'] = sys.modules['lifecycle_msgs'] = None; "


@pytest.mark.slow
@pytest.mark.parametrize(("module", "program"), NODES.items())
def test_a_node_without_ros_ends_with_one_line_and_2(module: str, program: str) -> None:
    start = f"runpy.run_module('{module}', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ROS + start],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{program}: a node needs rclpy, ")
    assert "pip install 'tinyfleet[ros]'" in line


@pytest.mark.parametrize("module", NODES)
def test_a_node_s_module_can_be_imported_without_ros(module: str) -> None:
    __import__(module)

"""The agent as a ROS 2 lifecycle node: `python -m edge_agents.ros`; see docs/ros.md.

Here stands what must come before gRPC and rclpy load; the node is in `ros_part`.
"""

from __future__ import annotations

from edge_agents.footprint import share_one_heap, trim_imports
from tinyfleet.grpc_engine import choose_engine
from tinyfleet.presence import require_ros

PROGRAM = "tinyfleet-agent-node"


def main() -> None:
    """Run the agent's node; exits with a status code, see `tinyfleet.ros.process.run_node`."""
    trim_imports()
    choose_engine()
    share_one_heap()
    require_ros(PROGRAM)
    from edge_agents.ros_part import STREAM, AgentPart
    from edge_agents.settings import AgentSettings
    from edge_agents.topic.settings import StreamSettings
    from tinyfleet.ros.process import run_node

    run_node(PROGRAM, "agent", AgentSettings, AgentPart, {STREAM: StreamSettings})


if __name__ == "__main__":
    main()

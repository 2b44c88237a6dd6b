"""What the ROS 2 nodes of services and agents share: lifecycle, parameters, diagnostics, process.

rclpy is imported here, in `services/hosting/ros.py` and in `edge_agents/ros*.py`, nowhere else
(decision 0018). Of this package, `values` does without it.
"""

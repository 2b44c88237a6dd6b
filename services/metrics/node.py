"""The metrics as a ROS 2 lifecycle node, for `python -m`; see docs/ros.md."""

from services.entry import metrics_node as main

if __name__ == "__main__":
    main()

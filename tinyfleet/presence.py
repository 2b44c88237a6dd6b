"""Says in one line what a program lacks, before anything is imported that needs it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from importlib.util import find_spec

EXIT_INVALID = 2
_ROS = ("rclpy", "diagnostic_msgs", "lifecycle_msgs", "rcl_interfaces", "std_srvs")
_ROS_REMEDY = (
    "pip install 'tinyfleet[ros]' (x86-64 Linux, Python 3.11 or 3.12), or source the setup.bash of "
    "a ROS 2 installation"
)


def require_ros(program: str) -> None:
    """Exit with 2 and one line when ROS 2's packages are missing or do not load."""
    require(program, _ROS, "a node needs", _ROS_REMEDY)
    try:
        importlib.import_module("rclpy")
    except ImportError as error:  # its libraries are found through the environment, or are not
        reason = str(error).partition("\n")[0]
        _refuse(f"{program}: rclpy does not load ({reason}): {_ROS_REMEDY}")


def require(program: str, packages: Iterable[str], who: str, remedy: str) -> None:
    """Exit with 2 and one line when one of the packages is not there; who: "a node needs"."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        _refuse(f"{program}: {who} {', '.join(missing)}: {remedy}")


def _refuse(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - before there are logs
    sys.exit(EXIT_INVALID)

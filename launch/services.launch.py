"""The three services of a fleet: coordinator, aggregator, metrics.

ros2 launch tinyfleet services.launch.py namespace:=/site state:=state
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction

from tinyfleet.ros.launching.arguments import COMMON, SERVICES, declared
from tinyfleet.ros.launching.bring_up import BringUp
from tinyfleet.ros.launching.nodes import Launch


def nodes(context: LaunchContext) -> list:
    """Return the nodes, and what brings them up."""
    launch = Launch.of(context, __file__)
    services = launch.services()
    return [*services, BringUp(services, launch.autostart)]


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` carries out."""
    return LaunchDescription([*declared([*SERVICES, *COMMON]), OpaqueFunction(function=nodes)])

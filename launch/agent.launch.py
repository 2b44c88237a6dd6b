"""One agent, which attends a coordinator wherever that runs.

ros2 launch tinyfleet agent.launch.py namespace:=/robot1 coordinator:=127.0.0.1:7310
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction

from tinyfleet.ros.launching import arguments as arg
from tinyfleet.ros.launching.bring_up import BringUp
from tinyfleet.ros.launching.nodes import Launch


def nodes(context: LaunchContext) -> list:
    """Return the node, and what brings it up."""
    launch = Launch.of(context, __file__)
    settings = {"own_data": launch.given.text(arg.OWN_DATA)}
    if device := launch.given.text(arg.DEVICE):
        settings["device"] = [device]
    if launch.given.flag(arg.NO_HOST_TRAINING):
        settings["no_host_training"] = True
    agent = launch.agent(launch.given.text(arg.NAME), **settings)
    return [agent, BringUp([agent], launch.autostart)]


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` carries out."""
    return LaunchDescription(
        [*arg.declared([*arg.AGENT, *arg.COMMON]), OpaqueFunction(function=nodes)]
    )

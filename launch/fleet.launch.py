"""A whole fleet on this machine: services, agents, boards; with rounds, one run, then its end.

ros2 launch tinyfleet fleet.launch.py agents:=4 mcus:=1 task:=sine rounds:=200
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction

from tinyfleet.errors import InvalidInput
from tinyfleet.ros.launching import arguments as arg
from tinyfleet.ros.launching.bring_up import BringUp
from tinyfleet.ros.launching.nodes import Launch


def members(launch: Launch) -> list:
    """Return the nodes that train: agents, and one for each board."""
    agents = launch.given.count(arg.AGENTS, arg.MAX_AGENTS)
    boards = launch.given.count(arg.MCUS, arg.MAX_BOARDS)
    url = launch.given.text(arg.BOARD)
    return [
        *(launch.agent(f"agent_{number}") for number in range(1, agents + 1)),
        *(launch.board(f"board_{number}", url) for number in range(1, boards + 1)),
    ]


def nodes(context: LaunchContext) -> list:
    """Return services and members, and what brings them up in this order and starts the run."""
    launch = Launch.of(context, __file__)
    services, trainers = launch.services(), members(launch)
    run = launch.run(len(trainers))
    if run and not trainers:
        raise InvalidInput("a run needs somebody who trains: give agents or mcus")
    for trainer in trainers:
        trainer.needs = services
    for service in services:
        service.users = [*service.users, *trainers, *([run] if run else [])]
    return [*services, *trainers, BringUp([*services, *trainers], launch.autostart, then=run)]


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` carries out."""
    arguments = [*arg.FLEET, *arg.RUN, *arg.SERVICES, *arg.COMMON]
    return LaunchDescription([*arg.declared(arguments), OpaqueFunction(function=nodes)])

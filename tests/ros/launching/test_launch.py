"""The launch files with the real launch: nodes come up, are kept up, and end in order."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.srv import GetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SERVICES = ["coordinator", "aggregator", "metrics"]
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
ROOT = Path(__file__).resolve().parents[3]
# Prints what real launch reads in each launch file, and the table that the files are made from.
READ = """
import json, sys
from launch.launch_description_sources import get_launch_description_from_python_launch_file as load
from tinyfleet.ros.launching import arguments
table = {a.name: a for a in vars(arguments).values() if isinstance(a, arguments.Argument)}
for file in sys.argv[1:]:
    for argument in load(file).get_launch_arguments():
        read = "".join(text.text for text in argument.default_value), argument.choices
        meant = table[argument.name]
        assert read == (meant.default, list(meant.choices) or None), argument.name
        assert argument.description.startswith(meant.description), argument.name
        print(argument.name)
"""

# A user's launch file around ours.
AROUND = """
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace, SetRemap

def generate_launch_description():
    namespace, file, arguments = {!r}, {!r}, {!r}
    agent = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(file), launch_arguments=arguments.items()
    )
    remap = SetRemap("~/status", namespace + "/seen")
    return LaunchDescription([GroupAction([PushRosNamespace(namespace), remap, agent])])
"""


def simulated(rounds: int) -> str:
    """The hash of the parameters that the simulator ends in."""
    command = [sys.executable, "-m", "tinyfleet.cli", "simulate", "--rounds", str(rounds), "--json"]
    done = subprocess.run(
        [*command, "--test-tasks", "10"], capture_output=True, text=True, timeout=100, check=True
    )
    return json.loads(done.stdout)["parameters_sha256"]


def values(observer: Any, node: str, *names: str) -> list[Any]:
    answer = observer.call(
        GetParameters, f"{node}/get_parameters", GetParameters.Request(names=names)
    )
    return [v.string_value or v.double_value or list(v.string_array_value) for v in answer.values]


def test_real_launch_reads_the_arguments_that_the_table_has(launch_path: list[str]) -> None:
    files = sorted(map(str, (ROOT / "launch").glob("*.launch.py")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(launch_path)}
    command = [sys.executable, "-c", READ, *files]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    for asked in (
        *("namespace", "params_file", "agents", "mcus", "task", "strategy", "rounds"),
        *("autostart", "use_respawn", "log_level"),
    ):
        assert asked in names


def test_services_come_up_in_their_namespace_and_end_in_order(
    launch: Callable[..., Any], site: dict[str, str], observer: Any
) -> None:
    one = launch("services.launch.py", **site)
    one.until("all 3 nodes are active")
    for name in SERVICES:
        assert observer.state(f"{site['namespace']}/{name}") == "active"
    assert values(observer, f"{site['namespace']}/coordinator", "listen", "metrics") == [
        site["coordinator"],
        site["metrics"],
    ]
    one.interrupt()
    assert one.end() == 0
    assert one.ended() == SERVICES
    assert one.left() == {}


def test_agent_takes_a_parameter_file_and_remaps(
    launch: Callable[..., Any], site: dict[str, str], observer: Any, tmp_path: Path
) -> None:
    parameters = tmp_path / "mine.yaml"
    parameters.write_text("/**/agent:\n  ros__parameters:\n    reconnect_s: 2.5\n")
    around = tmp_path / "around.launch.py"
    inner = {
        "namespace": "robot1",
        "params_file": str(parameters),
        "coordinator": site["coordinator"],
    }
    around.write_text(AROUND.format(site["namespace"], str(ROOT / "launch/agent.launch.py"), inner))
    seen = observer.collect(DiagnosticStatus, f"{site['namespace']}/seen", LATCHED)
    one = launch(str(around))
    one.until("agent is active")
    node = f"{site['namespace']}/robot1/agent"
    assert values(observer, node, "reconnect_s", "name") == [
        2.5,
        f"{site['namespace'][1:]}.robot1.agent",
    ]
    observer.until(lambda: "active" in [v.value for s in seen for v in s.values], "~/status")
    one.interrupt()
    assert one.end() == 0


@pytest.mark.needs_package("qemu-system-arm", command="qemu-system-arm")
@pytest.mark.needs_package("gcc-arm-none-eabi", command="arm-none-eabi-gcc")
def test_fleet_with_a_board_trains_to_the_end_and_leaves_nothing(
    launch: Callable[..., Any], site: dict[str, str]
) -> None:
    asked = {"agents": 4, "mcus": 1, "task": "sine", "rounds": 200, "autostart": "true"}
    one = launch("fleet.launch.py", **asked, **site)
    assert one.end(timeout_s=250) == 0
    assert one.left() == {}
    members = {*(f"agent_{number}" for number in range(1, 5)), "board_1"}
    run, *order = one.ended()
    assert (run, order[-3:]) == ("run", SERVICES)
    assert set(order[:-3]) == members
    assert set(re.findall(r"agent attached agent=\w+\.(\w+)", one.printed())) == members
    assert f"sha256 {simulated(200)}" in one.printed()


@pytest.mark.parametrize("victim", ["agent_1", "aggregator"])
def test_node_that_is_killed_comes_back_and_the_run_ends_in_the_same_bits(
    launch: Callable[..., Any], site: dict[str, str], victim: str
) -> None:
    one = launch("fleet.launch.py", agents=2, rounds=4000, **site)
    one.until(r"agent_1\.work\]: run joined")
    os.kill(one.pid_of(victim), signal.SIGKILL)
    one.until(f"{victim} is active", count=2)
    assert one.end(timeout_s=200) == 0
    assert f"sha256 {simulated(4000)}" in one.printed()
    assert one.ended()[-3:] == SERVICES


def test_interrupted_fleet_ends_in_order(launch: Callable[..., Any], site: dict[str, str]) -> None:
    one = launch("fleet.launch.py", agents=2, rounds=400000, **site)
    one.until(r"agent_\d\.work\]: run joined")
    one.interrupt()
    assert one.end() == 0
    assert one.ended()[-3:] == SERVICES
    assert {"agent_1", "agent_2"} <= set(one.ended()[:-3])


@pytest.mark.parametrize(
    ("moment", "count"), [("process started with pid", 5), ("transition=configure", 2)]
)
def test_fleet_that_is_interrupted_while_it_starts_ends_too(
    launch: Callable[..., Any], site: dict[str, str], moment: str, count: int
) -> None:
    one = launch("fleet.launch.py", agents=2, **site)
    one.until(moment, count=count)
    one.interrupt()
    assert one.end() == 0
    assert one.left() == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "terminate"])
def test_nothing_outlives_a_launch_that_is_killed(
    launch: Callable[..., Any], site: dict[str, str], observer: Any, number: signal.Signals
) -> None:
    one = launch("fleet.launch.py", agents=1, **site)
    one.until("all 4 nodes are active")
    one.process.send_signal(number)
    one.end()
    observer.until(lambda: one.left() == {}, "the end of its nodes")


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ("/**/agent_2:\n  ros__parameters:\n    engine: steam\n", "agent_2 cannot be configured"),
        ("/**/coordinator:\n  ros__parameters:\n    state: /proc/1/no\n", "coordinator cannot be"),
    ],
)
def test_node_that_cannot_be_configured_ends_the_launch_which_says_so(
    launch: Callable[..., Any], site: dict[str, str], tmp_path: Path, yaml: str, reason: str
) -> None:
    parameters = tmp_path / "mine.yaml"
    parameters.write_text(yaml)
    one = launch("fleet.launch.py", agents=2, rounds=5, params_file=parameters, **site)
    assert one.end() == 1
    assert reason in one.printed()
    assert one.left() == {}


def test_service_whose_port_is_taken_ends_the_launch_which_says_so(
    launch: Callable[..., Any], site: dict[str, str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        site["aggregator"] = f"127.0.0.1:{taken.getsockname()[1]}"
        one = launch("services.launch.py", **site)
        assert one.end() == 1
    assert "aggregator cannot be activated" in one.printed()
    assert "the port is taken" in one.printed()


def test_run_that_is_refused_ends_the_launch_which_says_so(
    launch: Callable[..., Any], site: dict[str, str]
) -> None:
    one = launch("fleet.launch.py", agents=1, rounds=5, strategy="magic", **site)
    assert one.end() == 1
    assert "the run failed: exit code 2" in one.printed()
    assert "unknown strategy 'magic'" in one.printed()
    assert one.ended()[-3:] == SERVICES


def test_without_respawn_a_killed_agent_ends_the_launch(
    launch: Callable[..., Any], site: dict[str, str]
) -> None:
    one = launch("fleet.launch.py", agents=2, use_respawn="false", **site)
    one.until("all 5 nodes are active")
    os.kill(one.pid_of("agent_2"), signal.SIGKILL)
    assert one.end() == 1
    assert "agent_2 died: exit code -9; use_respawn is off" in one.printed()


def test_without_autostart_the_run_waits_for_whoever_activates_the_nodes(
    launch: Callable[..., Any], site: dict[str, str], observer: Any
) -> None:
    one = launch("fleet.launch.py", agents=1, rounds=20, autostart="false", **site)
    nodes = [f"{site['namespace']}/{name}" for name in (*SERVICES, "agent_1")]
    assert [observer.state(node) for node in nodes] == ["unconfigured"] * 4
    for node in nodes:
        assert observer.change(node, "configure")
        assert observer.change(node, "activate")
    assert one.end() == 0
    assert "finished, 20 of 20 rounds" in one.printed()


def test_installed_package_is_launched_by_its_name(
    launch: Callable[..., Any], site: dict[str, str], colcon_install: Path
) -> None:
    one = launch("fleet.launch.py", agents=1, rounds=20, prefix_path=colcon_install, **site)
    assert one.end() == 0
    assert "finished, 20 of 20 rounds" in one.printed()

"""Real nodes in processes of their own, and a node of ours that talks to them.

Each test run has a domain of its own on this machine, so that two runs, or a robot in the same
network, do not see each other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DOMAINS = range(20, 102)
# Before rclpy is imported by any test: it reads them once.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(DOMAINS[os.getpid() % len(DOMAINS)])

import rclpy  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.signals import SignalHandlerOptions  # noqa: E402

MODULES = {
    "coordinator": "services.coordinator.node",
    "aggregator": "services.aggregator.node",
    "metrics": "services.metrics.node",
    "agent": "edge_agents.ros",
}
PATIENCE_S = 30.0


def pytest_configure(config: pytest.Config) -> None:
    """A parser that rclpy brings along is older than Python 3.11."""
    config.addinivalue_line("filterwarnings", "ignore:module 'sre_:DeprecationWarning")


class Observer:
    """A node of the test that spins only while it waits."""

    def __init__(self, domain: int | None = None) -> None:
        self.context = rclpy.Context()
        rclpy.init(
            context=self.context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self.node = rclpy.create_node("observer", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._clients: dict[str, Any] = {}

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def until(self, condition: Callable[[], Any], what: str = "", timeout_s: float = PATIENCE_S):
        """What the condition gives, once it is true."""
        end = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < end, f"timed out waiting for {what or condition}"
            self._executor.spin_once(timeout_sec=0.05)
        return found

    def call(
        self, kind: type, name: str, request: Any = None, timeout_s: float = PATIENCE_S
    ) -> Any:
        """The answer of a service."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"service {name}", timeout_s)
        answer = client.call_async(request or kind.Request())
        self.until(answer.done, f"answer of {name}", timeout_s)
        return answer.result()

    def collect(self, kind: type, topic: str, qos: Any = 10) -> list[Any]:
        """A list that what is published on the topic is added to."""
        heard: list[Any] = []
        self.node.create_subscription(kind, topic, heard.append, qos)
        return heard

    def state(self, node: str) -> str:
        return self.call(GetState, f"{node}/get_state").current_state.label

    def change(self, node: str, transition: str, timeout_s: float = PATIENCE_S) -> bool:
        """Ask for a transition by its name in lifecycle_msgs, e.g. "configure"."""
        number = getattr(Transition, f"TRANSITION_{transition.upper()}")
        request = ChangeState.Request(transition=Transition(id=number))
        return self.call(ChangeState, f"{node}/change_state", request, timeout_s).success


class NodeProcess:
    """One of our nodes in a process of its own."""

    def __init__(self, which: str, log: Path, arguments: list[str], **environment: str) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", MODULES[which], "--ros-args", *arguments],
                cwd=log.parent,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "ROS_LOG_DIR": str(log.parent / "ros"), **environment},
            )

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, number: int = signal.SIGINT, timeout_s: float = PATIENCE_S) -> int:
        """Send the signal; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


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

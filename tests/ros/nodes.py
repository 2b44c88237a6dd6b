"""What the tests start and look through: a node's process, a fleet of them, an observer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from tinyfleet.client import Fleet
from tinyfleet.errors import Unreachable
from tinyfleet.footprint import leave_out_ros_generators
from tinyfleet.v1 import coordinator_pb2

MODULES = {
    "coordinator": "services.coordinator.node",
    "aggregator": "services.aggregator.node",
    "metrics": "services.metrics.node",
    "agent": "edge_agents.ros",
    "odd": "odd_node",  # in this folder
}
RUNNING = coordinator_pb2.RUN_STATUS_RUNNING
FINISHED = coordinator_pb2.RUN_STATUS_FINISHED
ENDED = (FINISHED, coordinator_pb2.RUN_STATUS_STOPPED, coordinator_pb2.RUN_STATUS_FAILED)
PATIENCE_S = 30.0
RETRY_S = 3.0
DISCOVERY_S = 0.3
leave_out_ros_generators()  # older than Python 3.11: importing them warns


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

    def spin(self, seconds: float) -> None:
        """Take what comes in for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def call(
        self, kind: type, name: str, request: Any = None, timeout_s: float = PATIENCE_S
    ) -> Any:
        """The answer of a service."""
        answer = self.begin(kind, name, request, timeout_s)
        self.until(answer.done, f"answer of {name}", timeout_s)
        return answer.result()

    def ask(self, kind, name: str, request=None):
        """The answer of a service that may be called twice: an answer gets lost in DDS when the
        node has not found the caller yet, although the caller has found the node.
        """
        for _ in range(int(PATIENCE_S / RETRY_S)):
            answer = self.begin(kind, name, request)
            with contextlib.suppress(AssertionError):
                self.until(answer.done, f"answer of {name}", RETRY_S)
                return answer.result()
        raise AssertionError(f"no answer of {name}")

    def begin(self, kind, name: str, request=None, timeout_s: float = PATIENCE_S):
        """A future of the answer; it comes while this observer waits for anything."""
        return self.client(kind, name, timeout_s).call_async(request or kind.Request())

    def client(self, kind, name: str, timeout_s: float = PATIENCE_S):
        """A client of the service, each of which has found the other."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self.node.create_client(kind, name)
            self.until(client.service_is_ready, f"service {name}", timeout_s)
            self.spin(DISCOVERY_S)  # until it has found us as well, or its answer is lost
        return client

    def collect(self, kind: type, topic: str, qos: Any = 10) -> list[Any]:
        """A list that what is published on the topic is added to."""
        heard: list[Any] = []
        self.node.create_subscription(kind, topic, heard.append, qos)
        return heard

    def state(self, node: str) -> str:
        return self.ask(GetState, f"{node}/get_state").current_state.label

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
                env={
                    **os.environ,
                    "PYTHONPATH": str(Path(__file__).parent),
                    "ROS_LOG_DIR": str(log.parent / "ros"),
                    **environment,
                },
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


class NodeFleet:
    """Services and agents as nodes in one namespace, on free ports, active."""

    def __init__(self, start, folder: Path, namespace="/", agents=2, environment=None, **of_agents):
        self.folder = folder / namespace.strip("/").replace("/", "-")
        self.namespace = namespace.rstrip("/")
        self._start, self._environment, self._of_agents = start, environment, of_agents
        self.nodes = []
        metrics = self._service("metrics")
        aggregator = self._service("aggregator", metrics=metrics)
        self.address = self._service("coordinator", aggregator=aggregator, metrics=metrics)
        self.names = [f"{self.namespace}/{which}" for which in ("coordinator", "aggregator")]
        for number in range(1, agents + 1):
            self._agent(f"agent_{number}")

    def _service(self, which, **others):
        port_file = self.folder / f"{which}.port"
        port_file.parent.mkdir(parents=True, exist_ok=True)
        own = {"listen": "127.0.0.1:0", "state": self.folder / which, "port_file": port_file}
        self._begin(which, **own, **others)
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert time.monotonic() < deadline, f"{which} does not listen"
            time.sleep(0.02)
        return port_file.read_text(encoding="utf-8").strip()

    def _agent(self, name):
        own = {"name": name, "coordinator": self.address, "reconnect_s": 0.3} | self._of_agents
        self._begin("agent", arguments=("-r", f"__node:={name}"), **own)
        self.names.append(f"{self.namespace}/{name}")

    def _begin(self, which, **options):
        node = self._start(
            which,
            namespace=self.namespace or "/",
            environment=self._environment,
            autostart=True,
            **options,
        )
        self.nodes.append(node)

    def finish(self, run, meanwhile=lambda rounds_done: None):
        """The state of a run that is started now, once it has ended."""
        with Fleet(self.address) as fleet:
            run_id = fleet.create_run(run).run_id
            return self.follow(fleet, run_id, meanwhile)

    def follow(self, fleet, run_id, meanwhile=lambda rounds_done: None):
        deadline = time.monotonic() + 100
        while True:
            assert time.monotonic() < deadline, "the run does not end"
            try:
                state = fleet.get_run(run_id)
            except Unreachable:
                meanwhile(None)
            else:
                if state.status in ENDED:
                    return state
                meanwhile(state.rounds_done)
            time.sleep(0.02)

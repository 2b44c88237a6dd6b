"""An agent's node that trains on 500 Hz of 1 kB: from message to prediction, memory, loss.

    python benchmarks/bench_ros_topic.py [--json] [--seconds 20]

Real processes: three services, one agent's node, and this script as publisher and listener. The
time is from `publish` here to the callback of `~/prediction` here: two hops of the middleware, the
node's callback, and this script's executor. So it is an upper bound of what the node's executor
adds. The run is TinyReptile with `mlp_32`, 255 inputs, 50 samples a round. Exits with 1 when a bar
is missed: p99 under 10 ms on an idle machine, the node under 110 MB of 2**20 bytes, none lost.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from bench_ros import go_on_with_ros
from machine import describe_machine

go_on_with_ros()  # in the Python that has rclpy

import rclpy  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from std_msgs.msg import Float32MultiArray  # noqa: E402

from tinyfleet.cli.local_fleet import LocalFleet  # noqa: E402
from tinyfleet.client import Fleet  # noqa: E402
from tinyfleet.run import make_run  # noqa: E402
from tinyfleet.tasks import make_task  # noqa: E402

HZ, INPUTS, SAMPLES = 500, 255, 50
BARS = {"p99_ms": 10.0, "node_mb": 110.0, "lost": 0}
STREAM = {
    "type": "std_msgs/Float32MultiArray",
    "fields": "['data[0:255]']",
    "labels": "['data[255]']",
    "classes": 3,
}


class Ends:
    """This script's ends of both topics."""

    def __init__(self) -> None:
        rclpy.init()
        node = rclpy.create_node("bench")
        self.predicted = 0
        self.sent: deque[float] = deque()
        self.seconds: list[float] = []
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._publisher = node.create_publisher(
            Float32MultiArray, "features", qos_profile_sensor_data
        )
        node.create_subscription(Float32MultiArray, "/agent/prediction", self._hear, 10_000)

    def _hear(self, _: Any) -> None:
        self.predicted += 1
        if self.sent:
            self.seconds.append(time.perf_counter() - self.sent.popleft())

    def publish(self, row: Any, timed: bool) -> None:
        if timed:
            self.sent.append(time.perf_counter())
        self._publisher.publish(Float32MultiArray(data=row))

    def spin_until(self, when: float) -> None:
        while (left := when - time.perf_counter()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def stream(self, rows: Any, timed: bool) -> None:
        """One row every 2 ms."""
        begun = time.perf_counter()
        for index, row in enumerate(rows):
            self.publish(row, timed)
            self.spin_until(begun + (index + 1) / HZ)


def measure(seconds: int, folder: Path) -> dict[str, float]:
    """Publish for so long, once the node trains and predicts."""
    random = np.random.default_rng(1)
    rows = random.uniform(-1, 1, (HZ * seconds, INPUTS + 1)).astype(np.float32)
    rows[:, INPUTS] = np.arange(len(rows)) % 3
    recorded = folder / "recorded.npz"
    np.savez(recorded, inputs=rows[:120, :INPUTS], labels=np.repeat(np.arange(20), 6))
    task = make_task("table", {"ways": 3}, recorded)
    run = make_run(task, "tiny_reptile", 10_000, 3, "mlp_32", {"samples": SAMPLES})
    with LocalFleet(folder / "fleet", 0) as local, Fleet(local.coordinator) as fleet:
        node = start_node(local.coordinator, folder / "node.log")
        try:
            while not fleet.list_agents(attached_only=True):
                time.sleep(0.1)
            run_id = fleet.create_run(run).run_id
            ends = Ends()
            while ends.predicted < HZ:
                ends.stream(rows[: HZ // 10], timed=False)
            ends.spin_until(time.perf_counter() + 0.5)
            ends.stream(rows, timed=True)
            ends.spin_until(time.perf_counter() + 1.0)
            memory = resident_mb(node.pid)
            rounds = fleet.get_run(run_id).rounds_done
        finally:
            node.terminate()
            node.wait(30)
    milliseconds = np.array(ends.seconds) * 1e3
    return {
        "messages": HZ * seconds,
        "lost": HZ * seconds - len(milliseconds),
        "rounds": rounds,
        "p50_ms": float(np.percentile(milliseconds, 50)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "max_ms": float(milliseconds.max()),
        "node_mb": memory,
    }


def start_node(coordinator: str, log: Path) -> subprocess.Popen[bytes]:
    parameters = {f"stream.{name}": value for name, value in STREAM.items()}
    parameters |= {"coordinator": coordinator, "autostart": "true", "name": "bench-agent"}
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "edge_agents.ros", "--ros-args", *words],
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=int, default=20, help="of publishing (default: 20)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.seconds, Path(folder))
    missed = [name for name, bar in BARS.items() if found[name] > bar]
    if options.json:
        print(json.dumps({"machine": describe_machine(), **found, "missed": missed}))
    else:
        print(describe_machine())
        for name, value in found.items():
            print(f"{name:10}{value:10.2f}{'  MISSED' if name in missed else ''}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()

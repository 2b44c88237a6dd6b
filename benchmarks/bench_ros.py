"""What a ROS 2 node costs: memory, and how long a call to it takes while it idles or trains.

    python benchmarks/bench_ros.py [--json] [--calls 2000] [--rate 100]

Needs rclpy: started by another Python, it goes on with .venv-ros/bin/python, which `make setup-ros`
makes. Exits with 1 when a bar is missed. MB are 2**20 bytes.

The three services and one agent run as nodes of their own, in a ROS domain of their own. Memory is
VmRSS: of services on a fresh state folder (`first`) and on one that is there (`again`), of the
agent idle and after the run. Latency is the time from a call of `~/get_state` to its answer, at
`--rate` calls a second: both ways through DDS and the caller's executor are in it, so that it is
more than the time that a callback waits in the node's executor. `training` is while a run of
`mlp_32` on sine goes on in the fleet. The bar of 10 ms is for an idle machine of two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import describe_machine

from tinyfleet.client import Fleet
from tinyfleet.errors import Unreachable
from tinyfleet.run import make_run
from tinyfleet.tasks import make_task

ROS_PYTHON = Path(__file__).resolve().parents[1] / ".venv-ros" / "bin" / "python"
SERVICES = ("metrics", "aggregator", "coordinator")
MEMORY_BAR_MB = 110.0
LATENCY_BAR_MS = 10.0
DOMAIN = "19"  # of no test run: theirs begin at 20
PATIENCE_S = 60.0
ROUNDS = 1_000_000  # more than the measurement sees


def main() -> None:
    parser = argparse.ArgumentParser(description="What a ROS 2 node costs.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--calls", type=int, default=2000, help="calls to time (default 2000)")
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second (default 100)")
    options = parser.parse_args()
    go_on_with_ros()
    found = measure(options.calls, options.rate)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:28} {value}")
    sys.exit(misses_a_bar(found))


def go_on_with_ros() -> None:
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = DOMAIN
    if importlib.util.find_spec("rclpy") is not None:
        return
    if not ROS_PYTHON.exists():
        print("bench_ros: no rclpy, nothing measured: `make setup-ros` installs it where it can")
        sys.exit(0)
    os.execv(ROS_PYTHON, [str(ROS_PYTHON), *sys.argv])  # noqa: S606 - this script again


def measure(calls: int, rate: float) -> dict[str, Any]:
    found: dict[str, Any] = {"machine": describe_machine()}
    with tempfile.TemporaryDirectory() as folder:
        with nodes(Path(folder)) as (pids, _):
            time.sleep(2.0)
            found |= {f"{name}_first_mb": memory_mb(pids[name]) for name in SERVICES}
        with nodes(Path(folder)) as (pids, address), caller() as call_of:
            time.sleep(2.0)
            found |= {f"{name}_again_mb": memory_mb(pids[name]) for name in SERVICES}
            found["agent_idle_mb"] = memory_mb(pids["agent"])
            for name in ("coordinator", "agent"):
                found[f"{name}_idle_ms"] = latencies(call_of(name), calls, rate)
            with training(address) as rounds_done:
                for name in ("coordinator", "agent"):
                    found[f"{name}_training_ms"] = latencies(call_of(name), calls, rate)
                found["rounds_meanwhile"] = rounds_done()
            found["agent_trained_mb"] = memory_mb(pids["agent"])
    return found


def misses_a_bar(found: dict[str, Any]) -> bool:
    memory = [value for name, value in found.items() if name.endswith("_mb")]
    waits = [value["p99"] for name, value in found.items() if name.endswith("_ms")]
    return max(memory) > MEMORY_BAR_MB or max(waits) > LATENCY_BAR_MS


@contextlib.contextmanager
def nodes(folder: Path) -> Iterator[tuple[dict[str, int], str]]:
    """The fleet as nodes; their process ids, and the coordinator's address."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    addresses: dict[str, str] = {}
    try:
        for name in SERVICES:
            port_file = folder / f"{name}.port"
            port_file.unlink(missing_ok=True)
            own = {"listen": "127.0.0.1:0", "state": folder / name, "port_file": port_file}
            processes[name] = node(f"services.{name}.node", own | known(name, addresses))
            wait_until(port_file.exists)
            addresses[name] = port_file.read_text("utf-8").strip()
        agent = {"name": "measured", "coordinator": addresses["coordinator"]}
        processes["agent"] = node("edge_agents.ros", agent)
        with Fleet(addresses["coordinator"]) as fleet:
            wait_until(lambda: len(fleet.list_agents(attached_only=True)) == 1)
        yield {name: one.pid for name, one in processes.items()}, addresses["coordinator"]
    finally:
        for one in reversed(processes.values()):
            one.send_signal(signal.SIGINT)
            one.wait(PATIENCE_S)


def known(name: str, addresses: dict[str, str]) -> dict[str, str]:
    """Of the services that run already, those that this one is told of."""
    told = {"coordinator": ("aggregator", "metrics"), "aggregator": ("metrics",)}
    return {other: addresses[other] for other in told.get(name, ())}


def node(module: str, parameters: dict[str, Any]) -> subprocess.Popen[bytes]:
    flags = ["-p", "autostart:=true", "-p", "log_level:=warning"]
    for name, value in parameters.items():
        flags += ["-p", f"{name}:={value}"]
    return subprocess.Popen([sys.executable, "-m", module, "--ros-args", *flags])


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(Unreachable):
            if condition():
                return
        time.sleep(0.05)
    raise TimeoutError("a node did not come up")


@contextlib.contextmanager
def training(address: str) -> Iterator[Callable[[], int]]:
    """A run that goes on; gives a function for the rounds done so far."""
    run = make_run(make_task("sine", {}), "tiny_reptile", ROUNDS, 1, "mlp_32")
    with Fleet(address) as fleet:
        run_id = fleet.create_run(run).run_id
        wait_until(lambda: fleet.get_run(run_id).rounds_done > 0)
        yield lambda: int(fleet.get_run(run_id).rounds_done)
        fleet.stop_run(run_id)


@contextlib.contextmanager
def caller() -> Iterator[Callable[[str], Callable[[], float]]]:
    """Gives, for a node's name, a function that calls it and says how long that took, ms."""
    import rclpy
    from lifecycle_msgs.srv import GetState

    rclpy.init()
    observer = rclpy.create_node("bench_ros")

    def call_of(name: str) -> Callable[[], float]:
        client = observer.create_client(GetState, f"/{name}/get_state")
        wait_until(client.service_is_ready)

        def call() -> float:
            begun = time.perf_counter()
            answer = client.call_async(GetState.Request())
            rclpy.spin_until_future_complete(observer, answer, timeout_sec=PATIENCE_S)
            assert answer.result().current_state.label == "active"
            return (time.perf_counter() - begun) * 1e3

        return call

    try:
        yield call_of
    finally:
        observer.destroy_node()
        rclpy.try_shutdown()


def latencies(call: Callable[[], float], calls: int, rate: float) -> dict[str, float]:
    """Percentiles, the first tenth (warming up) left out."""
    values = []
    due = time.perf_counter()
    for _ in range(calls):
        values.append(call())
        due += 1.0 / rate
        time.sleep(max(0.0, due - time.perf_counter()))
    cuts = statistics.quantiles(values[len(values) // 10 :], n=100)
    return {"p50": round(cuts[49], 2), "p95": round(cuts[94], 2), "p99": round(cuts[98], 2)}


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


if __name__ == "__main__":
    main()

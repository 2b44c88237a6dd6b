"""What a fleet costs: round overhead, bytes on the wire, memory, and how fast agents attach.

Everything runs as real processes on this machine, durability on. A round's overhead is its wall
time less the longest training time among its agents, both as the services report them. Bytes are
what the kernel counted on an agent's own TCP sockets (HTTP/2 and gRPC framing included), and
again with 52 bytes of TCP and IP header for every segment sent or received.

    python benchmarks/bench_fleet.py [--json] [overhead|tls|wire|idle|memory|attach ...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import describe_machine

from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.client import ENDED, Fleet
from tinyfleet.run import RunSpec, make_run
from tinyfleet.security.channels import channel
from tinyfleet.tasks import make_task
from tinyfleet.v1 import metrics_pb2, metrics_pb2_grpc

SEED = 1
STEPS = 32  # SGD steps of each agent in a round
WARM_UP = 100  # rounds that do not count
SEGMENT_HEADER_BYTES = 52  # IPv4 (20) + TCP with timestamps (32)


def overhead_run(agents: int, rounds: int) -> RunSpec:
    """A run of `agents` slots a round in which each makes 32 online SGD steps on mlp_32."""
    strategy = "tiny_reptile" if agents == 1 else "fed_avg"
    options: dict[str, Any] = {"samples": STEPS, "inner_rate": 0.001}
    if agents > 1:
        options |= {"agents_per_round": agents, "batch_size": 1, "passes": 1}
    return make_run(make_task("sine", {}, None), strategy, rounds, SEED, "mlp_32", options)


@contextmanager
def fleet_of(agents: int, *, secure: bool = False) -> Iterator[tuple[LocalFleet, Fleet]]:
    """A local fleet whose agents are all attached."""
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalFleet(Path(folder), agents, secure=secure) as local,
        Fleet(local.coordinator, tls=local.tls) as fleet,
    ):
        local.wait_for_agents(fleet)
        yield local, fleet


def run_to_end(fleet: Fleet, run: RunSpec) -> str:
    """Run it; returns its id."""
    run_id = fleet.create_run(run).run_id
    for state in fleet.watch_run(run_id):
        if state.status in ENDED and state.rounds_done < run.rounds:
            raise SystemExit(f"the run did not finish: {state.message}")
    return run_id


def per_round(local: LocalFleet, run_id: str, name: str, rounds: int) -> dict[int, float]:
    """A metric of every round, once the metrics service has them all."""
    request = metrics_pb2.QueryRequest(
        filter=metrics_pb2.Filter(run_id=run_id, source="coordinator", name=name), limit=100_000
    )
    with channel(local.metrics, "metrics", local.tls) as opened:
        query = metrics_pb2_grpc.MetricsServiceStub(opened).Query
        for _ in range(100):
            found = {sample.round: sample.value for sample in query(request).samples}
            if len(found) >= rounds:
                return found
            time.sleep(0.1)
    raise SystemExit(f"only {len(found)} of {rounds} rounds were reported as {name}")


def bench_overhead() -> dict[str, Any]:
    """Milliseconds of a round that are not training, for 1, 8 and 32 agents."""
    rows = {}
    for agents, rounds in ((1, 2000), (8, 600), (32, 200)):
        with fleet_of(agents) as (local, fleet):
            over, wall_s = overheads(local, fleet, agents, rounds)
        rows[str(agents)] = {
            "rounds": rounds,
            "mean_ms": round(statistics.fmean(over), 3),
            "p50_ms": round(over[len(over) // 2], 3),
            "p95_ms": round(over[int(0.95 * len(over))], 3),
            "p99_ms": round(over[int(0.99 * len(over))], 3),
            "rounds_per_s": round(rounds / wall_s, 1),
        }
    return rows


def overheads(
    local: LocalFleet, fleet: Fleet, agents: int, rounds: int
) -> tuple[list[float], float]:
    """Milliseconds of each round that are not training, in order of size; and their wall time."""
    run_id = run_to_end(fleet, overhead_run(agents, WARM_UP + rounds))
    wall = per_round(local, run_id, "round_seconds", WARM_UP + rounds)
    training = per_round(local, run_id, "slowest_training_seconds", WARM_UP + rounds)
    counted = range(WARM_UP, WARM_UP + rounds)
    over = sorted(1e3 * (wall[index] - training[index]) for index in counted)
    return over, sum(wall[index] for index in counted)


def cpu_seconds(local: LocalFleet) -> float:
    """Processor time that the processes of a fleet have used, in seconds."""
    ticks = 0
    for member in local.members:
        if member.process:
            stat = Path(f"/proc/{member.process.pid}/stat").read_text("ascii", "replace")
            ticks += sum(map(int, stat.rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def bench_tls() -> dict[str, Any]:
    """What TLS adds to the overhead of a round: two fleets on this machine, by turns.

    Each pair of runs gives one ratio of medians; the middle one of all pairs is told, and the
    quartiles beside it. Processor time is that of all processes of a fleet; unlike the wall time,
    it hardly depends on what else the machine does.
    """
    rows = {}
    for agents, rounds, pairs in ((1, 500, 11), (8, 150, 9)):
        plain, secure, cpu_s = [], [], [0.0, 0.0]
        with fleet_of(agents) as one, fleet_of(agents, secure=True) as other:
            for _ in range(pairs):
                for kind, ((local, fleet), found) in enumerate(((one, plain), (other, secure))):
                    before = cpu_seconds(local)
                    found.append(statistics.median(overheads(local, fleet, agents, rounds)[0]))
                    cpu_s[kind] += cpu_seconds(local) - before
        cpu_ms = [1e3 * seconds / pairs / (WARM_UP + rounds) for seconds in cpu_s]
        ratios = [tls / without for tls, without in zip(secure, plain, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows[str(agents)] = {
            "pairs": pairs,
            "rounds_each": rounds,
            "plain_ms": round(statistics.median(plain), 3),
            "tls_ms": round(statistics.median(secure), 3),
            "added_percent": round(100 * (middle - 1), 1),
            "quartiles_percent": [round(100 * (one - 1), 1) for one in (low, high)],
            "plain_cpu_ms": round(cpu_ms[0], 3),
            "tls_cpu_ms": round(cpu_ms[1], 3),
            "added_cpu_percent": round(100 * (cpu_ms[1] / cpu_ms[0] - 1), 1),
        }
    return rows


def agent_processes(local: LocalFleet) -> list[int]:
    """Process ids of the agents."""
    members = [member for member in local.members if member.address_file is None]
    return [member.process.pid for member in members if member.process]


def wire_counts(pid: int) -> dict[str, int]:
    """What the kernel counted on a process's TCP sockets: bytes and segments, out and in."""
    listing = subprocess.run(
        ["ss", "-tinpHO"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    counts = dict.fromkeys(("bytes_sent", "bytes_received", "segs_out", "segs_in"), 0)
    for line in listing:
        if f"pid={pid}," in line:
            for name in counts:
                if found := re.search(rf"\b{name}:(\d+)", line):
                    counts[name] += int(found[1])
    return counts


def counted(pid: int, work: Callable[[], Any]) -> dict[str, int]:
    """How the counts of a process grow while `work` runs."""
    before = wire_counts(pid)
    work()
    after = wire_counts(pid)
    grown = {name: after[name] - before[name] for name in after}
    segments = grown["segs_out"], grown["segs_in"]
    grown["with_headers_sent"] = grown["bytes_sent"] + SEGMENT_HEADER_BYTES * segments[0]
    grown["with_headers_received"] = grown["bytes_received"] + SEGMENT_HEADER_BYTES * segments[1]
    return grown


def bench_wire() -> dict[str, Any]:
    """Bytes of one agent and round in each direction, against the size of the model."""
    rounds = 2000
    with fleet_of(1) as (local, fleet):
        (pid,) = agent_processes(local)
        run_to_end(fleet, overhead_run(1, WARM_UP))
        run = overhead_run(1, rounds)
        grown = counted(pid, lambda: run_to_end(fleet, run))
    model = run.model.parameter_bytes
    per = {name: value / rounds for name, value in grown.items()}
    return {
        "rounds": rounds,
        "model_bytes": model,
        "up_bytes": round(per["bytes_sent"], 1),
        "down_bytes": round(per["bytes_received"], 1),
        "up_ratio": round(per["bytes_sent"] / model, 3),
        "down_ratio": round(per["bytes_received"] / model, 3),
        "up_ratio_with_headers": round(per["with_headers_sent"] / model, 3),
        "down_ratio_with_headers": round(per["with_headers_received"] / model, 3),
    }


def bench_idle() -> dict[str, Any]:
    """Bytes of an agent without work over two minutes, both directions."""
    with fleet_of(1) as (local, _):
        (pid,) = agent_processes(local)
        time.sleep(2)
        grown = counted(pid, lambda: time.sleep(120))
    payload = grown["bytes_sent"] + grown["bytes_received"]
    headers = grown["with_headers_sent"] + grown["with_headers_received"]
    return {"bytes_per_minute": payload / 2, "with_headers_per_minute": headers / 2}


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB of 10**6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def bench_memory() -> dict[str, Any]:
    """Resident memory of every kind of process, idle and after 500 rounds."""
    with fleet_of(1) as (local, fleet):
        pids = {member.name: member.process.pid for member in local.members if member.process}
        idle = {name: round(resident_mb(pid), 1) for name, pid in pids.items()}
        run_to_end(fleet, overhead_run(1, 500))
        used = {name: round(resident_mb(pid), 1) for name, pid in pids.items()}
    return {"idle_mb": idle, "after_500_rounds_mb": used}


def bench_attach() -> dict[str, Any]:
    """Seconds until 100 agent processes, started at once, are all attached."""
    agents = 100
    began = time.perf_counter()
    with fleet_of(agents) as (_, fleet):
        attached = len(fleet.list_agents(attached_only=True))
        return {"agents": attached, "seconds": round(time.perf_counter() - began, 1)}


BENCHES = {
    "overhead": bench_overhead,
    "tls": bench_tls,
    "wire": bench_wire,
    "idle": bench_idle,
    "memory": bench_memory,
    "attach": bench_attach,
}


def main() -> None:
    """Run the named measurements, or all, and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", help=f"of {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if unknown := set(arguments.what) - set(BENCHES):
        sys.exit(f"unknown measurement: {', '.join(sorted(unknown))}")
    results: dict[str, Any] = {"machine": describe_machine(), "seed": SEED}
    for name in arguments.what or BENCHES:
        results[name] = BENCHES[name]()
        if not arguments.json:
            print(f"{name}: {json.dumps(results[name], indent=2)}", flush=True)
    if arguments.json:
        print(json.dumps(results))
    else:
        print(f"machine: {results['machine']}")


if __name__ == "__main__":
    main()

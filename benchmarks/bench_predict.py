"""What answering predictions costs: latency idle and while training, hot reload, rate, memory.

    python benchmarks/bench_predict.py [--json] [--questions 5000] [--rounds 500]

An agent process with `--predict` meets a coordinator, an aggregator and a metrics service that this
script plays, as in bench_agent.py, and is asked about one sample at a time by clients in this
script, over loopback. The floor is a process that answers as many bytes by gRPC and computes
nothing: the same client asks both by turns, a hundred questions each, all the while. stream
is the agent asked over one stream instead of by calls. The other bound is the C learner in this
process. Everybody shares the machine's cores.

idle: nothing is trained. short: rounds of 32 samples, one after the other, on the agent's event
loop where they take less than a millisecond. long: rounds of a third of a second, in its work
thread. reload_ms: from the end of a round's training, as the agent tells it, until the first answer
of the new model is here, asked in a closed loop; what an answer takes is in it. lost: questions to
the agent without an answer. MB are 2**20 bytes, VmRSS; silent_mb is of an agent without
`--predict`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from bench_agent import PATIENCE_S, Peers, memory_mb, serving, spread
from machine import describe_machine

from tinyfleet.learner import Samples, make_learner, run_plan
from tinyfleet.run import RunSpec, make_run
from tinyfleet.strategies.plan import Phase, TrainingPlan
from tinyfleet.tasks import make_task, outline_task
from tinyfleet.v1 import coordinator_pb2, prediction_pb2, prediction_pb2_grpc
from tinyfleet.wire import parameters_to_bytes, plan_to_message, run_to_message

CLIENTS = 8
TURN = 100
BAR_MB = 60.0  # of an agent that answers no predictions
WHERE = re.compile(rb"answering with this agent's model address=(\S+)")
ECHO = """
import asyncio, sys
from tinyfleet.grpc_engine import choose_engine
choose_engine()
import grpc
async def run():
    answer = bytes.fromhex(sys.argv[1])
    async def echo(request, context):
        return answer
    server = grpc.aio.server(options=[("grpc.http2.bdp_probe", 0)])
    handlers = {"Predict": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tinyfleet.v1.PredictionService", handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()
asyncio.run(run())
"""


@dataclass(frozen=True)
class Case:
    """A model, samples of the agent's own, and passes over 1000 of them for a long round."""

    run: RunSpec
    samples: Samples
    passes: int

    @property
    def short(self) -> TrainingPlan:
        return TrainingPlan((Phase(samples=32, rate=0.001),))

    @property
    def long(self) -> TrainingPlan:
        return TrainingPlan((Phase(samples=1000, rate=0.0001, passes=self.passes),))

    @property
    def request(self) -> prediction_pb2.PredictRequest:
        return prediction_pb2.PredictRequest(inputs=self.samples.inputs[0].tobytes(), count=1)


def cases() -> list[Case]:
    """A small model and a larger one, on noise."""
    random = np.random.default_rng(1)
    omniglot = outline_task("omniglot", {"ways": 5})
    images = random.random((1000, 784), np.float32)
    classes = np.eye(5, dtype=np.float32)[np.arange(1000) % 5]
    waves = (random.normal(size=(1000, 1)).astype(np.float32) for _ in range(2))
    return [
        Case(make_run(make_task("sine", {}), "reptile", 10, 1, "mlp_32"), Samples(*waves), 300),
        Case(make_run(omniglot, "reptile", 10, 1, "cnn_s"), Samples(images, classes), 8),
    ]


class Coordination:
    """Has the agent train rounds of one run, all of them from its start."""

    def __init__(self, peers: Peers, run: RunSpec) -> None:
        self._peers = peers
        self._run = run
        self._start = parameters_to_bytes(run.initial_parameters())
        self._rounds = 0

    async def brief(self) -> None:
        brief = coordinator_pb2.RunBrief(run_id="run", spec=run_to_message(self._run))
        await self._peers.stream.write(coordinator_pb2.AttendResponse(run_brief=brief))

    async def round(self, plan: TrainingPlan) -> None:
        work = coordinator_pb2.Assignment(
            assignment_id=f"run-{self._rounds}-0-0",
            run_id="run",
            round=self._rounds,
            base_version=self._rounds,
            plan=plan_to_message(plan),
            parameters=self._start,
            deadline_ms=60_000,
        )
        self._rounds += 1
        await self._peers.stream.write(coordinator_pb2.AttendResponse(assignment=work))
        await asyncio.wait_for(self._peers.updates.get(), PATIENCE_S)

    @asynccontextmanager
    async def on_and_on(self, plan: TrainingPlan) -> AsyncIterator[None]:
        """Rounds one after the other meanwhile; the last one ends."""
        stop = asyncio.Event()

        async def rounds() -> None:
            while not stop.is_set():
                await self.round(plan)

        task = asyncio.create_task(rounds())
        try:
            yield
        finally:
            stop.set()
            await task


@asynccontextmanager
async def agent(peers: Peers, *flags: str) -> AsyncIterator[tuple[Process, str]]:
    """A running agent that attends `peers`, and where it answers, if it does."""
    peers.attended.clear()
    command = ["-m", "edge_agents", "--coordinator", peers.address, "--name", "measured", *flags]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=PIPE)
    assert process.stderr is not None
    try:
        await asyncio.wait_for(peers.attended.wait(), PATIENCE_S)
        address = ""
        while "--predict" in flags and not address:
            found = WHERE.search(await process.stderr.readline())
            address = found[1].decode() if found else ""
        yield process, address
    finally:
        process.terminate()
        await process.communicate()


@asynccontextmanager
async def echo(answer: bytes) -> AsyncIterator[str]:
    """A process that answers `answer` to whatever it is asked."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ECHO, answer.hex(), stdout=PIPE
    )
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.terminate()
        await process.wait()


class Client:
    """Asks one question again and again."""

    def __init__(self, channel: grpc.aio.Channel, request: prediction_pb2.PredictRequest) -> None:
        self.stub = prediction_pb2_grpc.PredictionServiceStub(channel)
        self._request = request
        self.lost = 0

    async def ask(self) -> Any:
        try:
            return await self.stub.Predict(self._request)
        except grpc.aio.AioRpcError:
            self.lost += 1

    async def asked(self, questions: int) -> list[float]:
        """How long each took, one after the other, milliseconds."""
        found = []
        for _ in range(questions):
            begun = time.perf_counter()
            await self.ask()
            found.append((time.perf_counter() - begun) * 1e3)
        return found

    async def asked_by_stream(self, questions: int) -> list[float]:
        """The same over one stream."""
        call, found = self.stub.PredictStream(), []
        request = prediction_pb2.PredictStreamRequest(
            inputs=self._request.inputs, count=self._request.count
        )
        for _ in range(questions):
            begun = time.perf_counter()
            await call.write(request)
            self.lost += await call.read() is grpc.aio.EOF
            found.append((time.perf_counter() - begun) * 1e3)
        await call.done_writing()
        return found

    async def at_once(self, questions: int) -> float:
        """How long several took for all of them, seconds."""

        async def some() -> None:
            for _ in range(questions // CLIENTS):
                await self.ask()

        begun = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(CLIENTS)))
        return time.perf_counter() - begun


async def by_turns(clients: dict[str, Client], questions: int) -> dict[str, Any]:
    """Latencies and answers a second of each."""
    waited: dict[str, list[float]] = {name: [] for name in (*clients, "stream")}
    taken = dict.fromkeys(clients, 0.0)
    turns, each = questions // TURN, TURN // CLIENTS * CLIENTS
    for _ in range(turns):
        for name, client in clients.items():
            waited[name] += await client.asked(TURN)
        waited["stream"] += await clients["agent"].asked_by_stream(TURN)
        for name, client in clients.items():
            taken[name] += await client.at_once(TURN)
    found: dict[str, Any] = {f"{name}_ms": spread(waited[name]) for name in waited}
    return found | {f"{name}_per_s": round(turns * each / taken[name]) for name in clients}


async def reloads(client: Client, case: Case, work: Coordination, rounds: int) -> dict[str, float]:
    """Milliseconds from the end of a training until its model has answered."""
    found = []
    for _ in range(rounds):
        before = await client.ask()
        training = asyncio.create_task(work.round(case.short))
        answer = before
        while answer.version.number == before.version.number:
            answer = await client.ask()
        arrived = time.time()
        about = await client.stub.GetModel(prediction_pb2.GetModelRequest())
        assert about.version == answer.version
        found.append((arrived - about.trained_time.ToNanoseconds() / 1e9) * 1e3)
        await training
    return spread(found)


def check(case: Case, answer: prediction_pb2.PredictResponse) -> None:
    """The agent's first round, trained here, must give the agent's answer."""
    learner, parameters = make_learner(case.run.model), case.run.initial_parameters()
    run_plan(learner, parameters, case.samples[0:32], case.short)
    expected = learner.predict(parameters, case.samples.inputs[:1])
    assert answer.outputs == expected.astype("<f4").tobytes()


async def ask(peers: Peers, case: Case, own: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one model."""
    flags = ("--own-data", str(own), "--predict", "127.0.0.1:0")
    async with AsyncExitStack() as stack:
        process, address = await stack.enter_async_context(agent(peers, *flags))
        work = Coordination(peers, case.run)
        await work.brief()
        await work.round(case.short)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        client = Client(channel, case.request)
        answer = await client.ask()
        check(case, answer)
        floor = await stack.enter_async_context(echo(answer.SerializeToString()))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(floor))
        clients = {"agent": client, "echo": Client(channel, case.request)}
        found = {"idle": await by_turns(clients, options.questions)}
        for name, plan in (("short", case.short), ("long", case.long)):
            async with work.on_and_on(plan):
                found[name] = await by_turns(clients, options.questions)
        found["reload_ms"] = await reloads(client, case, work, options.rounds)
        found["learner_here_ms"] = in_process_ms(case, options.questions)
        return found | {"lost": client.lost, "answering_mb": memory_mb(process.pid)}


def in_process_ms(case: Case, questions: int) -> dict[str, float]:
    learner, parameters = make_learner(case.run.model), case.run.initial_parameters()
    row, found = case.samples.inputs[:1], []
    for _ in range(questions):
        begun = time.perf_counter()
        learner.predict(parameters, row)
        found.append((time.perf_counter() - begun) * 1e3)
    return spread(found)


async def silent_mb(peers: Peers, case: Case, own: Path) -> float:
    """Memory of an agent that answers nothing, after some rounds."""
    async with agent(peers, "--own-data", str(own)) as (process, _):
        work = Coordination(peers, case.run)
        await work.brief()
        for _ in range(300):
            await work.round(case.short)
        return memory_mb(process.pid)


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for case in cases():
        own = folder / f"{case.run.model.name}.npz"
        np.savez(own, inputs=case.samples.inputs, targets=case.samples.targets)
        peers = Peers()
        async with serving(peers):
            silent = {"silent_mb": await silent_mb(peers, case, own)}
            found[case.run.model.name] = silent | await ask(peers, case, own, options)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What answering predictions costs.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--questions", type=int, default=5000, help="of each figure (default 5000)")
    parser.add_argument("--rounds", type=int, default=500, help="reloads to time (default 500)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(options, Path(folder)))
    if options.json:
        print(json.dumps({"machine": describe_machine()} | found))
    else:
        print(describe_machine())
        for model, figures in found.items():
            for name, figure in figures.items():
                print(f"{model:8} {name:16} {figure}")
    sys.exit(any(one["silent_mb"] > BAR_MB or one["lost"] for one in found.values()))


if __name__ == "__main__":
    main()

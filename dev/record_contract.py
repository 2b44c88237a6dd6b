"""Keeps today's contract and what today's agent says in it, to test later versions against.

    .venv/bin/python dev/record_contract.py        writes tests/contract/VERSION/

Run it once for each release, when its version is set, and never again for that version: what is
kept is what processes out there speak (docs/upgrade.md). Before there is a release, the contract
may still change, and this is run again.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from google.protobuf.message import Message
from grpc_tools import protoc

import tinyfleet
from edge_agents import channel, delivery, session
from edge_agents.agent import Agent
from edge_agents.settings import AgentSettings
from tinyfleet import telemetry_grpc
from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.client import Fleet
from tinyfleet.model.layers import Dense, ReLU, Tanh
from tinyfleet.model.spec import ModelSpec
from tinyfleet.run import make_run
from tinyfleet.tasks import make_task
from tinyfleet.v1 import coordinator_pb2
from tinyfleet.wire import run_to_message

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
NAME = "old-agent"
# One that sends everything, and one that uses all that the contract has for sending less.
RUNS: dict[str, dict[str, Any]] = {
    "tiny_reptile": {},
    "tiny_meta_fed": {
        "agents_per_round": 2,
        "fraction": 0.1,
        "precision": "int8",
        "down_precision": "int8",
        "local_layers": 1,
    },
}
LAYERS = (Dense(16), Tanh(), Dense(16), ReLU(), Dense(1))
ROUNDS = 4


class Recording:
    """A channel that keeps what goes over its open streams, as bytes."""

    messages: ClassVar[list[tuple[str, str, bytes]]] = []

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aenter__(self) -> Recording:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def stream_stream(
        self, path: str, request_serializer: Any, response_deserializer: Any, **more: Any
    ) -> Any:
        method = path.rpartition("/")[2]

        def serialize(message: Any) -> bytes:
            data: bytes = request_serializer(message)
            self.messages.append((method, "sent", data))
            return data

        def deserialize(data: bytes) -> Any:
            self.messages.append((method, "got", data))
            return response_deserializer(data)

        return self._inner.stream_stream(path, serialize, deserialize, **more)


def write_descriptors(path: Path) -> None:
    """The contract as protoc and buf read it, with the files that it imports."""
    well_known = resources.files("grpc_tools") / "_proto"
    files = sorted(str(file) for file in PROTO.rglob("*.proto"))
    paths = [f"--proto_path={PROTO}", f"--proto_path={well_known}"]
    if protoc.main(["protoc", *paths, "--include_imports", f"--descriptor_set_out={path}", *files]):
        sys.exit("protoc refused the contract, see above")


async def recorded(local: LocalFleet, strategy: str) -> dict[str, Any]:
    """A whole run of one agent: its spec, what the agent heard and said, and how it ended."""
    task = make_task("sine", {}, None)
    model = ModelSpec("small", task.input_shape, LAYERS, task.loss)
    run = make_run(task, strategy, ROUNDS, 3, model, RUNS[strategy])
    Recording.messages.clear()
    stop = asyncio.Event()
    agent = Agent(AgentSettings(coordinator=local.coordinator, name=NAME))
    working = asyncio.create_task(agent.run(stop))
    with Fleet(local.coordinator) as fleet:
        run_id = (await asyncio.to_thread(fleet.create_run, run)).run_id
        *_, end = await asyncio.to_thread(lambda: list(fleet.watch_run(run_id)))
    stop.set()
    await working
    return {
        "strategy": strategy,
        "spec": _text(run_to_message(run).SerializeToString(deterministic=True)),
        "hello": _text(_said("Attend")[0]),
        "assignments": [_text(one) for one in _heard_assignments()],
        "updates": [_text(one) for one in _said("SubmitUpdates")],
        "reports": [_text(one) for one in _said("Report")],
        "parameters_sha256": end.parameters_sha256,
    }


def _said(method: str) -> list[bytes]:
    return [data for name, way, data in Recording.messages if (name, way) == (method, "sent")]


def _heard_assignments() -> list[bytes]:
    heard = [data for name, way, data in Recording.messages if (name, way) == ("Attend", "got")]
    parsed = [coordinator_pb2.AttendResponse.FromString(data) for data in heard]
    return [
        one.assignment.SerializeToString(deterministic=True)
        for one in parsed
        if one.WhichOneof("message") == "assignment"
    ]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _kept(make_request: Callable[..., Message]) -> Callable[..., Message]:
    """What makes the requests of reports, and keeps them."""

    def made(source: str, samples: Any) -> Message:
        request = make_request(source, samples)
        Recording.messages.append(("Report", "sent", request.SerializeToString()))
        return request

    return made


def main() -> None:
    folder = ROOT / "tests" / "contract" / tinyfleet.__version__
    folder.mkdir(parents=True, exist_ok=True)
    write_descriptors(folder / "contract.binpb")
    for module in (session, delivery):
        module.open_channel = lambda address, *more: Recording(channel.open_channel(address, *more))
    telemetry_grpc.batch_request = _kept(telemetry_grpc.batch_request)
    runs = []
    for strategy in RUNS:
        with tempfile.TemporaryDirectory() as temporary, LocalFleet(Path(temporary), 0) as local:
            runs.append(asyncio.run(recorded(local, strategy)))
    for run in runs:
        count = len(run["updates"])
        if count != len(run["assignments"]):
            sys.exit("a stream was lost meanwhile: try again")
        print(f"{run['strategy']}: {count} updates, ends in {run['parameters_sha256']}")
    text = json.dumps({"agent": NAME, "runs": runs}, indent=1)
    (folder / "agent.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()

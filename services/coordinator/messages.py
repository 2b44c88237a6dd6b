"""Between protobuf messages and the coordinator's own types: the edge where input is checked."""

from __future__ import annotations

import re

from google.protobuf.timestamp_pb2 import Timestamp

from services.coordinator.core import Attendance
from services.coordinator.fleet import Capabilities
from services.coordinator.ports import AgentState
from services.coordinator.runs import RunRecord, RunStatus
from tinyfleet.errors import InvalidInput
from tinyfleet.run import RunSpec
from tinyfleet.v1 import coordinator_pb2, model_pb2
from tinyfleet.wire import run_from_message

MAX_TEXT_BYTES = 256
MAX_ID_BYTES = 64
MAX_TASKS = 64
MAX_IN_HAND = 64
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_STATUSES = {
    RunStatus.PENDING: coordinator_pb2.RUN_STATUS_PENDING,
    RunStatus.RUNNING: coordinator_pb2.RUN_STATUS_RUNNING,
    RunStatus.FINISHED: coordinator_pb2.RUN_STATUS_FINISHED,
    RunStatus.STOPPED: coordinator_pb2.RUN_STATUS_STOPPED,
    RunStatus.FAILED: coordinator_pb2.RUN_STATUS_FAILED,
}


def spec_from_bytes(data: bytes) -> RunSpec:
    """The run of a serialised message; raises InvalidInput."""
    return run_from_message(model_pb2.RunSpec.FromString(data))


def run_to_message(record: RunRecord, aggregator: str) -> coordinator_pb2.Run:
    """The message for a run whose model is at `aggregator`."""
    progress = record.progress
    return coordinator_pb2.Run(
        run_id=record.run_id,
        spec=model_pb2.RunSpec.FromString(record.spec),
        status=_STATUSES[record.status],
        rounds_done=progress.rounds_done,
        loss=progress.loss,
        bytes_down=progress.bytes_down,
        bytes_up=progress.bytes_up,
        create_time=_timestamp(record.create_time),
        end_time=None if record.end_time is None else _timestamp(record.end_time),
        message=record.message,
        parameters_sha256=record.parameters_sha256,
        aggregator=aggregator,
        samples=progress.samples,
        diverged=progress.diverged,
    )


def agent_to_message(agent: AgentState) -> coordinator_pb2.Agent:
    """The message for an agent."""
    return coordinator_pb2.Agent(
        name=agent.name,
        capabilities=_capabilities_to_message(agent.capabilities),
        attached=agent.attached,
        last_seen_time=_timestamp(agent.last_seen),
        assignment_id=agent.assignment_id,
        updates=agent.updates,
        message=agent.message,
    )


def attendance_from_message(session: int, hello: coordinator_pb2.Hello) -> Attendance:
    """What an agent says when it attaches; raises InvalidInput unless all of it is in bounds."""
    if not _NAME.match(hello.agent):
        raise InvalidInput(
            f"an agent's name is 1 to 64 letters, digits, '.', '_' or '-', got {hello.agent[:80]!r}"
        )
    if len(hello.assignment_ids) > MAX_IN_HAND:
        raise InvalidInput(f"a hello names at most {MAX_IN_HAND} assignments")
    return Attendance(
        session=session,
        name=hello.agent,
        instance_id=checked_id("instance_id", hello.instance_id),
        capabilities=_capabilities(hello.capabilities),
        in_hand=[checked_text("assignment_ids", one) for one in hello.assignment_ids],
    )


def checked_id(what: str, text: str) -> str:
    """`text` if it has 1 to 64 printable bytes; raises InvalidInput if not."""
    if not 1 <= len(text.encode()) <= MAX_ID_BYTES or not text.isprintable():
        raise InvalidInput(f"{what} must be 1 to {MAX_ID_BYTES} printable bytes")
    return text


def checked_text(what: str, text: str) -> str:
    """`text` if it has at most 256 bytes, all printable; raises InvalidInput if not."""
    if len(text.encode()) > MAX_TEXT_BYTES or not text.isprintable():
        raise InvalidInput(f"{what} must be at most {MAX_TEXT_BYTES} printable bytes")
    return text


def _capabilities(message: coordinator_pb2.Capabilities) -> Capabilities:
    if len(message.tasks) > MAX_TASKS:
        raise InvalidInput(f"an agent names at most {MAX_TASKS} tasks")
    return Capabilities(
        version=checked_text("version", message.version),
        target=checked_text("target", message.target),
        engine=checked_text("engine", message.engine),
        memory_bytes=message.memory_bytes if message.HasField("memory_bytes") else None,
        tasks=tuple(checked_text("tasks", task) for task in message.tasks),
        clock_hz=message.clock_hz if message.HasField("clock_hz") else None,
    )


def _capabilities_to_message(said: Capabilities) -> coordinator_pb2.Capabilities:
    return coordinator_pb2.Capabilities(
        version=said.version,
        target=said.target,
        engine=said.engine,
        memory_bytes=said.memory_bytes,
        tasks=said.tasks,
        clock_hz=said.clock_hz,
    )


def _timestamp(seconds: float) -> Timestamp:
    whole, nanos = divmod(round(seconds * 1e9), 1_000_000_000)
    return Timestamp(seconds=whole, nanos=nanos)

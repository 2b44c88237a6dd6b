"""The agent: attendance, work and delivery put together, from start to a clean stop."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import uuid
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakValueDictionary

import tinyfleet
from edge_agents.delivery import Delivery
from edge_agents.footprint import give_back_memory
from edge_agents.session import Attendance, Identity, Patience
from edge_agents.settings import AgentSettings
from edge_agents.sources import SampleSource, TaskSource, load_own_data
from edge_agents.telemetry import FleetTelemetry
from edge_agents.trainers.local import LocalTrainer
from edge_agents.trainers.thread import WorkThread
from edge_agents.work import PreparedRun, Work
from tinyfleet.errors import InvalidInput
from tinyfleet.learner import make_learner
from tinyfleet.learner.native import LIBRARY, load_library
from tinyfleet.logs import fields
from tinyfleet.run import RunSpec
from tinyfleet.tasks import TASKS, Task, make_task
from tinyfleet.v1 import coordinator_pb2

log = logging.getLogger("agent")


async def run_agent(settings: AgentSettings) -> None:
    """Take part in the fleet until a signal asks to stop.

    Raises Superseded, GaveUp or InvalidInput when taking part has to end earlier.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Agent(settings).run(stop)


class Agent:
    """One member of the fleet."""

    def __init__(self, settings: AgentSettings) -> None:
        """Reads the agent's own data, if any; raises InvalidInput when they are of no use."""
        self._settings = settings
        self._telemetry = FleetTelemetry(settings.name)
        self._delivery = Delivery(settings.reconnect_s)
        preparation = LocalPreparation(settings)
        self._work = Work(preparation, self._delivery, self._decline, self._telemetry)
        self._attendance = Attendance(
            settings.coordinator,
            Identity(settings.name, uuid.uuid4().hex, capabilities(settings)),
            self,
            Patience(settings.reconnect_s, settings.give_up_s),
        )
        self._notices: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Take part until `stop` is set or an error ends it, then deliver what is trained."""
        log.info(
            "starting",
            extra=fields(name=self._settings.name, coordinator=self._settings.coordinator),
        )
        parts = (self._attendance.run(), self._delivery.run(), self._work.run(), stop.wait())
        tasks = [asyncio.create_task(part) for part in parts]
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await self._finish()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in ended:
            task.result()

    async def _finish(self) -> None:
        log.info("stopping")
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await self._work.finish()
        except TimeoutError:
            left = ",".join(self._work.in_hand())
            log.warning("stopped with work in hand", extra=fields(assignments=left))
        await self._telemetry.close()

    async def _decline(self, assignment_id: str, reason: str, permanent: bool) -> None:
        await self._attendance.decline(assignment_id, reason, permanent)

    def in_hand(self) -> Sequence[str]:
        """What the hello names; see `edge_agents.session.Member`."""
        return self._work.in_hand()

    def welcome(self, aggregator: str, metrics: str) -> None:
        """Learn where the other services are."""
        self._delivery.aggregator_at(aggregator)
        notice = asyncio.create_task(self._telemetry.metrics_at(metrics))
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)

    def brief(self, message: coordinator_pb2.RunBrief) -> None:
        """Hear of a run."""
        self._work.brief(message)

    def assign(self, message: coordinator_pb2.Assignment) -> None:
        """Get work."""
        self._work.assign(message)

    def withdraw(self, assignment_id: str) -> None:
        """Hear that work is no longer wanted."""
        self._work.withdraw(assignment_id)


class LocalPreparation:
    """Makes runs ready to be trained on this device."""

    def __init__(self, settings: AgentSettings) -> None:
        self._data = settings.data
        self._engine = settings.engine
        self._own = load_own_data(settings.own_data) if settings.own_data else None
        self._thread = WorkThread()
        # Runs of one task share its data, for as long as one of them is in memory.
        self._tasks: WeakValueDictionary[str, Task] = WeakValueDictionary()

    async def __call__(self, spec: RunSpec) -> PreparedRun:
        """Reads data and builds the learner in the work thread; raises TinyFleetError."""
        return await self._thread.run(lambda: self._prepare(spec))

    def _prepare(self, spec: RunSpec) -> PreparedRun:
        source: SampleSource = self._own or self._task_source(spec)
        source.check(spec.model)
        trainer = LocalTrainer(make_learner(spec.model, self._engine), self._thread)
        give_back_memory()
        return PreparedRun(spec, source, trainer)

    def _task_source(self, spec: RunSpec) -> TaskSource:
        source = TaskSource(self._task(spec), spec.seed)
        source.draw(round=0, slot=0, count=1)  # now, not in the first round, the data are read
        return source

    def _task(self, spec: RunSpec) -> Task:
        key = json.dumps([spec.task, dict(spec.task_options)], sort_keys=True)
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = make_task(spec.task, spec.task_options, self._data)
        return task


def capabilities(settings: AgentSettings) -> coordinator_pb2.Capabilities:
    """What this agent says of itself."""
    return coordinator_pb2.Capabilities(
        version=tinyfleet.__version__,
        target="host",
        engine=engine_used(settings.engine),
        tasks=_tasks_served(settings.data, settings.own_data),
    )


def engine_used(engine: str) -> str:
    """What `engine` comes to in this installation; raises DoesNotFit when it is not there."""
    if engine == "native":
        load_library()
    if engine == "auto":
        return "native" if LIBRARY.is_file() else "reference"
    return engine


def _tasks_served(data: Path | None, own_data: Path | None) -> list[str]:
    """Names of the tasks it can draw; empty, which means any, when it has data.

    Which task the data are for shows when a run asks for it.
    """
    if data is not None or own_data is not None:
        return []
    return [name for name in TASKS if _needs_no_data(name)]


def _needs_no_data(task: str) -> bool:
    try:
        make_task(task, {})
    except InvalidInput:
        return False
    return True

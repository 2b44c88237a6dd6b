"""The agent's process: the members of the fleet that it attends for, from start to a clean stop.

It is a member itself, and so is each board that is attached to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import tinyfleet
from edge_agents.alive import alive_file
from edge_agents.device_url import parse_device
from edge_agents.learners import Contents, learner_of
from edge_agents.membership import Membership
from edge_agents.model_files import ModelFiles, default_folder
from edge_agents.preparation import Preparation, ProcessData
from edge_agents.settings import AgentSettings
from edge_agents.trainers.local import LocalTrainer
from edge_agents.trainers.protocol import Learned
from edge_agents.trainers.thread import WorkThread
from tinyfleet.exposition.families import families_of, process_families
from tinyfleet.exposition.serving import answering_scrapes
from tinyfleet.exposition.text import Family
from tinyfleet.learner.native import LIBRARY, load_library
from tinyfleet.logs import fields
from tinyfleet.readings import Reading, Readings
from tinyfleet.run import RunSpec
from tinyfleet.v1 import coordinator_pb2

if TYPE_CHECKING:  # what boards, topics and live models need is loaded only where there are some
    from edge_agents.boards import BoardMember
    from edge_agents.prediction.personal import Personal
    from edge_agents.topic.learning import TopicLearning

log = logging.getLogger("agent")

Families = Callable[[], Iterable[Family]]
Member = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""member(stop) takes part in the fleet until `stop` is set or an error ends it."""


async def run_agent(settings: AgentSettings) -> None:
    """Take part in the fleet until a signal asks to stop.

    Raises Superseded, GaveUp or InvalidInput when taking part has to end earlier.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Agent(settings).run(stop)


class Agent:
    """The members of one process."""

    def __init__(self, settings: AgentSettings, learning: TopicLearning | None = None) -> None:
        """Reads the agent's own data, if any; raises InvalidInput when a setting is of no use.

        learning: what its members learn from instead, and where what they learn goes.
        """
        self._settings = settings
        self._learning = learning
        topic = learning.topic if learning else None
        self._data = ProcessData(settings.data, settings.own_data, settings.holder, topic)
        self._files = ModelFiles(settings.models or default_folder(os.environ))
        self.personal = learning.personal if learning else _personal(settings)
        self._members: list[Member] = []
        self._more_families: Families = tuple
        self._present: list[Readings] = []  # of the members that run now
        if not settings.no_host_training:
            self._members.append(self._host())
        if settings.device:
            self._members += self._boards()

    async def run(self, stop: asyncio.Event) -> None:
        """Take part until `stop` is set or an error ends a member, then let all of them finish.

        May be called again after it has returned: own data go on where they were.
        """
        async with alive_file(self._settings.alive_file):
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
        log.info(
            "starting",
            extra=fields(name=self._settings.name, coordinator=self._settings.coordinator),
        )
        async with (
            answering_scrapes(self._settings.prometheus, self._families),
            self._predicting(),
        ):
            await self._take_part(stop)

    @contextlib.asynccontextmanager
    async def _predicting(self) -> AsyncIterator[None]:
        """Answer with the model that was adapted here, if that is wanted."""
        if self.personal is None or not self._settings.predict:
            yield
            return
        from edge_agents.prediction.server import predicting

        async with predicting(self._settings, self.personal) as servicer:
            self._more_families = servicer.families
            with self._telling(servicer.readings):
                yield

    async def _take_part(self, stop: asyncio.Event) -> None:
        leave = asyncio.Event()
        if self._learning is not None:
            self._learning.topic.open()
        members = [asyncio.create_task(member(leave)) for member in self._members]
        stopping = asyncio.create_task(stop.wait())
        renewing = asyncio.create_task(self._renew())
        try:
            await asyncio.wait([*members, stopping], return_when=asyncio.FIRST_COMPLETED)
            log.info("stopping")
            leave.set()
            if self._learning is not None:
                self._learning.topic.close()
            await asyncio.wait(members)
        finally:
            for task in (*members, stopping, renewing):
                task.cancel()
            await asyncio.gather(*members, stopping, renewing, return_exceptions=True)
        for task in members:
            task.result()

    async def _renew(self) -> None:
        """Keep the certificate good, if there is one."""
        settings = self._settings
        if settings.tls is not None:
            from edge_agents.renewal import keep_certificate, renewing_process

            renew = renewing_process(settings.coordinator, settings.tls)
            await keep_certificate(settings.tls, renew)

    def readings(self) -> Iterable[Reading]:
        """How its members and its boards are."""
        for tell in self._present:
            yield from tell()

    def _families(self) -> Iterable[Family]:
        yield from process_families("agent", self._settings.tls)
        yield from families_of(self.readings())
        yield from self._more_families()

    @contextlib.contextmanager
    def _telling(self, readings: Readings) -> Iterator[None]:
        self._present.append(readings)
        try:
            yield
        finally:
            self._present.remove(readings)

    def _host(self) -> Member:
        thread, engine = WorkThread(), self._settings.engine
        if self._learning is not None:
            preparation = self._learning.preparation(thread, engine, self._files)
        else:
            preparation = Preparation(
                self._data.for_a_member(),
                lambda spec, contents: LocalTrainer(
                    learner_of(spec, engine, contents),
                    thread,
                    learned=self._hearing(spec, contents),
                ),
                thread,
                self._files,
            )
        able = coordinator_pb2.Capabilities(
            version=tinyfleet.__version__,
            target="host",
            engine=engine_used(engine),
            tasks=self._data.tasks_served,
        )

        async def run(leave: asyncio.Event) -> None:
            member = Membership(self._settings, self._settings.name, able, preparation)
            with self._telling(member.readings):
                await member.run(leave.wait())

        return run

    def _hearing(self, spec: RunSpec, contents: Contents) -> Learned | None:
        """Who is told what is trained in that run: the live model, where there is one."""
        if self.personal is None:
            return None
        from edge_agents.prediction.predictor import Predictor

        engine, extractor = self._settings.engine, spec.extractor
        predictor = Predictor.of(spec.model, lambda: learner_of(spec, engine, contents))
        if extractor is not None:
            from tinyfleet.litert.extractor import open_extractor
            from tinyfleet.litert.file import TfliteFile

            file = TfliteFile(contents[extractor.sha256])
            predictor = predictor.behind(
                extractor.input_shape, lambda: open_extractor(file, extractor)
            )
        return self.personal.hearing(spec, predictor)

    def _boards(self) -> list[Member]:
        # What talks to boards is loaded only where there are some: an agent without stays small.
        from edge_agents.boards import Board, BoardMember, Ports
        from mcu_bridge.lines.url import parse_url

        settings, data = self._settings, self._data
        thread, ports = WorkThread(), Ports()
        choices = [parse_device("device", text) for text in settings.device]
        for choice in choices:
            parse_url(choice.url)
        boards = [
            Board(choice.url, ports, settings.reconnect_s, on_sensor=choice.on_sensor)
            for choice in choices
        ]
        return [
            self._board(BoardMember(settings, choice, number, data, thread, board, self._files))
            for number, (choice, board) in enumerate(zip(choices, boards, strict=True), start=1)
        ]

    def _board(self, member: BoardMember) -> Member:
        async def run(leave: asyncio.Event) -> None:
            with self._telling(member.readings):
                await member.run(leave)

        return run


def _personal(settings: AgentSettings) -> Personal | None:
    """Where the newest model is kept, if anybody may ask for it."""
    if not settings.predict:
        return None
    from edge_agents.prediction.personal import Personal

    return Personal()


def engine_used(engine: str) -> str:
    """What `engine` comes to in this installation; raises DoesNotFit when it is not there."""
    if engine == "native":
        load_library()
    if engine == "auto":
        return "native" if LIBRARY.is_file() else "reference"
    return engine

"""Training on an attached board: the host sends parameters and samples, and reads the result.

A board with room for a copy of the start selects and encodes its change by itself, and only the
update crosses the line. Else, and always for a dense update, the host reads the parameters and does
that; the bytes are the same wherever they are made (decision 0017). A proximal plan has the board
keep a copy in any case, to be pulled back to.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from edge_agents.trainers.protocol import Draw, NotNow, Outcome, diverged
from edge_agents.trainers.thread import WorkThread
from edge_agents.uploads import SlotUpload
from mcu_bridge.device import Device
from tinyfleet.exchange import Payload
from tinyfleet.learner.layer_table import layer_table
from tinyfleet.learner.memory import needs_gradient, stored_samples
from tinyfleet.learner.protocol import PlanTotal, Samples, Trained, check_samples, parts_of
from tinyfleet.learner.targets import board_memory_needed
from tinyfleet.logs import fields
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.strategies.base import MAX_DELTA_NORM, delta_of
from tinyfleet.strategies.plan import Phase, TrainingPlan

if TYPE_CHECKING:  # what learns from topics is loaded only where there is one
    from edge_agents.topic.stream import StreamSource

SURE_NORM = MAX_DELTA_NORM / 4
"""A board's norm up to which `delta_of` finds no divergence either, in whatever order it adds.

Both add n squares in float32. A sum of n numbers that are not negative is within (1 + 2**-24)**n of
the true one, which is below 2.6 for 16,000,000: two sums differ by less than 16 = 4 squared."""

Result = TypeVar("Result")
Part = tuple[Phase, Samples | int]
"""A phase and what it trains on: samples, or the seed with which a sensor draws them."""


log = logging.getLogger("board")


class BoardGone(Exception):
    """The board does not come back; the message says what happened last."""


class AttachedBoard(Protocol):
    """A board that may fail and come back while it is used; see `edge_agents.boards.Board`."""

    async def use(self, work: Callable[[Device], Awaitable[Result]]) -> Result:
        """What `work` gives, however often it is begun; raises BoardGone."""
        ...


class McuTrainer:
    """Trains one model on one board, with the bits of the C learner.

    A board that restarts or falls silent gets the whole plan again, on the same samples. `seconds`
    of an outcome is the time in the learner by the board's own clock, the line excluded.
    """

    can_be_stopped: ClassVar[bool] = True

    def __init__(
        self,
        board: AttachedBoard,
        spec: ModelSpec,
        thread: WorkThread,
        on_sensor: bool = False,
        stream: StreamSource | None = None,
    ) -> None:
        """on_sensor: whether the samples are the board's own, seeded by the slot.

        stream: gives the samples of a topic, instead of what a slot draws.
        """
        layer_table(spec)  # refuses a model that no board computes
        self._board = board
        self._spec = spec
        self._thread = thread
        self._on_sensor = on_sensor
        self._stream = stream
        self._host_encodes: str | None = None  # why, as the log has it; "" where the board does

    async def train(
        self, start: Parameters, plan: TrainingPlan, draw: Draw, upload: SlotUpload
    ) -> Outcome:
        parts = await self._parts(plan, draw)
        try:
            return await self._board.use(
                lambda device: self._on(device, start, plan, parts, upload)
            )
        except BoardGone as gone:
            raise NotNow(f"the board is gone: {gone}") from None

    async def _parts(self, plan: TrainingPlan, draw: Draw) -> list[Part]:
        """What each phase trains on. Checked here, before the board is asked for anything."""
        for phase in plan.phases:
            self._spec.layer_mask(phase.trainable)
        if self._on_sensor:
            return list(zip(plan.phases, draw.seeds(len(plan.phases)), strict=True))
        samples = await self._samples(plan, draw)
        check_samples(self._spec, samples)
        return list(parts_of(plan, samples))

    async def _samples(self, plan: TrainingPlan, draw: Draw) -> Samples:
        """All of the plan's: a board that fails gets the same ones again."""
        if self._stream is None:
            return await self._thread.run(lambda: draw(plan.samples))
        with self._stream.in_use():
            return await self._stream.all(plan.samples)

    async def _on(
        self,
        device: Device,
        start: Parameters,
        plan: TrainingPlan,
        parts: list[Part],
        upload: SlotUpload,
    ) -> Outcome:
        """The outcome of the whole plan; nothing of an earlier try counts."""
        encodes = self._board_encodes(device, plan, upload)
        await device.configure(
            self._spec,
            keep_start=encodes or plan.needs_start,
            gradient=needs_gradient(plan),
            stored_samples=stored_samples(plan),
        )
        await device.write_parameters(start)
        counted, done, seconds = await _train(device, start, plan, parts)
        if not done.finite:
            return diverged(seconds)
        update = await _encoded_there(device, upload) if encodes else None
        if update is None:
            update = await _encoded_here(device, counted, upload)
        if update is None:
            return diverged(seconds)
        return Outcome(update, done.loss, seconds, diverged=False)

    def _board_encodes(self, device: Device, plan: TrainingPlan, upload: SlotUpload) -> bool:
        """Whether there is something to encode and the board can; the log has it once.

        It cannot without room for the start; nor when the change counts from a later phase, for its
        copy is of the start; nor with error feedback, for it keeps nothing from round to round.
        """
        if upload.exchange.is_dense:
            return False
        needed = board_memory_needed(
            self._spec,
            keep_start=True,
            gradient=needs_gradient(plan),
            stored_samples=stored_samples(plan),
        )
        available = device.identity.memory_bytes
        reason = "no room for the start" if needed > available else ""
        reason = "a change that counts from a later phase" if plan.counted_from else reason
        reason = "error feedback" if upload.feedback is not None else reason
        self._say_who_encodes(reason, needed_bytes=needed, memory_bytes=available)
        return not reason

    def _say_who_encodes(self, reason: str, **sizes: int) -> None:
        if reason == self._host_encodes:
            return
        self._host_encodes = reason
        if reason:
            about = fields(model=self._spec.name, reason=reason, **sizes)
            log.info("the host encodes its updates", extra=about)
        else:
            about = fields(model=self._spec.name, **sizes)
            log.info("the board encodes its updates", extra=about)


async def _train(
    device: Device, start: Parameters, plan: TrainingPlan, parts: list[Part]
) -> tuple[Parameters, Trained, float]:
    """Where the change counts from, loss and busy seconds; up to a part that diverges."""
    total, seconds, counted = PlanTotal(), 0.0, start
    for index, (phase, samples) in enumerate(parts):
        if index and index == plan.counted_from:
            counted = await device.read_parameters()
        if isinstance(samples, int):
            done = await device.train_on_sensor(phase, samples)
        else:
            done = await device.train(phase, samples)
        seconds += device.busy_seconds
        if not total.add(phase, done):
            break
    return counted, total.trained(), seconds


async def _encoded_there(device: Device, upload: SlotUpload) -> Payload | None:
    """The update that the board encodes; None where the host has to see whether it diverged."""
    change = await device.encode(upload.exchange, upload.noise())
    return change.data if change.norm <= SURE_NORM else None


async def _encoded_here(device: Device, counted: Parameters, upload: SlotUpload) -> Payload | None:
    """The update of the board's parameters, encoded on this host; None when they diverged."""
    delta = delta_of(await device.read_parameters(), counted, finite=True)
    return None if delta is None else upload.encode(delta)

"""One attached board: its model, its parameters, its training, as typed asynchronous calls."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from mcu_bridge.device.conversation import Conversation, Progress
from mcu_bridge.device.identity import DeviceIdentity, parse_identity
from mcu_bridge.device.messages import (
    CONFIGURE,
    GRADIENT,
    IDENTIFY,
    KEEP_START,
    Command,
    Configured,
    DeviceCounters,
    Region,
    RunResult,
    evaluation_request,
    parse_configured,
    run_request,
)
from mcu_bridge.device.update import EncodedChange, check_update, encode_request, norm_of
from mcu_bridge.errors import BadAnswer, DeviceRestarted
from mcu_bridge.lines import open_line
from mcu_bridge.lines.protocol import Line
from mcu_bridge.link.link import Link, Patience
from mcu_bridge.sample_encoding import EncodedSamples, encode_samples
from tinyfleet.errors import Diverged, InvalidInput
from tinyfleet.exchange import Exchange
from tinyfleet.learner.layer_table import LOSS_CODES, layer_table
from tinyfleet.learner.protocol import Samples, Trained, check_samples
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.randomness import RandomStream
from tinyfleet.strategies.plan import MAX_SAMPLES, Phase

_COUNT = 1 << 32  # what a board's counters count to
_LITTLE = np.dtype("<f4")


@dataclass(frozen=True)
class DeviceEvaluation:
    """loss: mean over the samples, as the host's learner has it. accuracy: share of the samples
    whose largest output is at their target's largest value.
    """

    loss: float
    accuracy: float


@dataclass(frozen=True)
class _Layout:
    """What a board was configured for."""

    spec: ModelSpec
    keep_start: bool
    gradient: bool
    stored_samples: int


class Device:
    """One attached board. Not for concurrent use. An async context manager.

    Every call raises Unreachable's subclasses when the board or its line is gone (LineLost), silent
    (NoAnswer) or anew (DeviceRestarted); from then on the device is of no use: close it and
    connect again. DeviceRefused and BadAnswer leave it usable. A cancelled call does, too: what
    it was about is then undone or has to be done again.

    busy_seconds: of the last training or evaluation, in the learner, by the board's own clock.
    link: what its counters say is of use; its calls are not.
    """

    def __init__(self, link: Link, identity: DeviceIdentity) -> None:
        self.identity = identity
        self.busy_seconds = 0.0
        self.link = link
        self._talk = Conversation(link)
        self._layout: _Layout | None = None
        self._configured: Configured | None = None
        self._diverged = False

    @classmethod
    async def connect(cls, where: str | Line, patience: Patience | None = None) -> Device:
        """The board at a URL or on an open line, identified and of versions that fit.

        Raises Unreachable's subclasses, WrongVersion, BadAnswer, or InvalidInput for a bad URL;
        the line is then closed.
        """
        line = await open_line(where) if isinstance(where, str) else where
        link = Link(line, patience)
        try:
            boot_id = secrets.randbelow(_COUNT - 1) + 1
            response = await link.command(Command.IDENTIFY, IDENTIFY.pack(boot_id))
            return cls(link, parse_identity(response.payload))
        except BaseException:
            await link.close()
            raise

    @property
    def url(self) -> str:
        """The URL by which the board was found."""
        return self.link.line.name

    async def configure(
        self,
        spec: ModelSpec,
        *,
        keep_start: bool = False,
        gradient: bool = False,
        stored_samples: int = 0,
    ) -> Configured:
        """Lay the board's memory out for `spec`; does nothing when it is so already.

        keep_start: for `encode` and for proximal phases; takes the parameters' memory again.
        gradient: for batches; the same. stored_samples: for phases of several passes. The former
        model is gone, also when this one is refused. Raises ModelDoesNotFit, DeviceRefused.
        """
        layout = _Layout(spec, keep_start, gradient, stored_samples)
        if self._configured is not None and self._layout == layout:
            return self._configured
        if not 0 <= stored_samples <= MAX_SAMPLES:
            raise InvalidInput(f"stored samples must be 0 to {MAX_SAMPLES}, got {stored_samples}")
        self._layout = self._configured = None
        self._diverged = False
        await self._talk.write(Region.TABLE, layer_table(spec))
        options = (KEEP_START if keep_start else 0) | (GRADIENT if gradient else 0)
        loss = LOSS_CODES[spec.loss]
        request = CONFIGURE.pack(len(spec.layers), loss, options, stored_samples)
        response = await self._talk.ask(Command.CONFIGURE, request)
        configured = parse_configured(response.payload, f"model '{spec.name}'")
        if _sizes(configured) != (spec.inputs, spec.outputs, spec.parameter_count):
            raise BadAnswer(f"it took model '{spec.name}' for one of other sizes")
        self._layout, self._configured = layout, configured
        return configured

    async def write_parameters(
        self, parameters: Parameters, progress: Progress | None = None
    ) -> None:
        """Set the parameters, `(n,) float32`, all finite; `progress` hears of bytes."""
        self._model().spec.check_parameters(parameters)
        if not np.isfinite(parameters).all():
            raise InvalidInput("parameters must be finite numbers to go to a board")
        data = parameters.astype(_LITTLE, copy=False).tobytes()
        await self._talk.write(Region.PARAMETERS, data, progress)
        self._diverged = False

    async def read_parameters(self, progress: Progress | None = None) -> Parameters:
        """The parameters, `(n,) float32`. Raises Diverged when training left them of no use."""
        size = self._model().spec.parameter_bytes
        if self._diverged:
            raise Diverged("the board's training diverged: write it other parameters")
        data = await self._talk.read(Region.PARAMETERS, size, progress)
        parameters = np.frombuffer(data, _LITTLE).astype(np.float32)
        if not np.isfinite(parameters).all():
            raise BadAnswer("parameters that are not finite numbers")
        return parameters

    async def train(
        self, phase: Phase, samples: Samples, progress: Progress | None = None
    ) -> Trained:
        """Train the board's parameters on exactly `phase.samples` samples.

        The same bits as NativeLearner.train; `read_parameters` fetches them. Samples cross the
        line once, however many passes. `progress` hears of samples.
        """
        model = self._ready_for(phase)
        encoded = _encoded(model.spec, samples, phase.samples)
        request = run_request(model.spec.layer_mask(phase.trainable), phase, encoded)
        heard = _by_sample(progress, encoded.sample_bytes)
        result = await self._talk.run_on(encoded.data, Command.TRAIN, request, heard)
        return self._trained(phase, result)

    async def train_on_sensor(
        self, phase: Phase, seed: int, progress: Progress | None = None
    ) -> Trained:
        """Train on the board's own samples; `seed` (u32) starts a signal generator.

        Raises DeviceRefused for a board without a sensor. `progress` hears of samples, those of
        later passes again.
        """
        model = self._ready_for(phase)
        mask = model.spec.layer_mask(phase.trainable)
        steps = phase.samples * phase.passes
        request = run_request(mask, phase, seed=_checked_seed(seed))
        result = await self._talk.run_on_sensor(steps, Command.TRAIN, request, progress)
        return self._trained(phase, result)

    async def evaluate(
        self, samples: Samples, progress: Progress | None = None
    ) -> DeviceEvaluation:
        """Loss and accuracy of the board's parameters on 1 to 1,000,000 samples."""
        encoded = _encoded(self._model().spec, samples, _checked_count(len(samples)))
        request = evaluation_request(len(samples), encoded)
        heard = _by_sample(progress, encoded.sample_bytes)
        result = await self._talk.run_on(encoded.data, Command.EVALUATE, request, heard)
        return self._evaluated(len(samples), result)

    async def evaluate_on_sensor(
        self, count: int, seed: int, progress: Progress | None = None
    ) -> DeviceEvaluation:
        """Loss and accuracy on `count` of the board's own samples."""
        self._model()
        request = evaluation_request(_checked_count(count), seed=_checked_seed(seed))
        result = await self._talk.run_on_sensor(count, Command.EVALUATE, request, progress)
        return self._evaluated(count, result)

    async def encode(self, exchange: Exchange, noise: RandomStream | None) -> EncodedChange:
        """The change since the parameters were written, as `exchange` has it sent; not for dense.

        noise: for int8, the slot's. Needs `configure(..., keep_start=True)`. Once only: the update
        is made where the start was. The parameters stay.
        """
        model = self._model()
        if not model.keep_start:
            raise InvalidInput("to encode a change, configure the board with keep_start=True")
        if exchange.model != model.spec:
            raise InvalidInput(f"the board has another model than '{exchange.model.name}'")
        request = encode_request(exchange, noise)
        size, squares, ticks = await self._talk.told(Command.ENCODE, request)
        norm = norm_of(exchange, size, squares)
        data = await self._talk.read(Region.UPDATE, size) if size else b""
        if size:
            check_update(exchange, data)
        return EncodedChange(data, norm, ticks / self.identity.ticks_hz)

    async def counters(self) -> DeviceCounters:
        """What the board counted since its reset."""
        return DeviceCounters(*await self._talk.told(Command.COUNTERS))

    async def reset(self) -> None:
        """Have the board start anew; this device is of no use afterwards."""
        await self._talk.told(Command.RESET)
        self._talk.forget(DeviceRestarted("the board was reset: connect anew"))

    async def close(self) -> None:
        """Close the line; a second call does nothing."""
        await self.link.close()

    async def __aenter__(self) -> Device:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    def _model(self) -> _Layout:
        if self._layout is None:
            raise InvalidInput("the board has no model yet: configure it first")
        return self._layout

    def _ready_for(self, phase: Phase) -> _Layout:
        model = self._model()
        if phase.batch_size > 1 and not model.gradient:
            raise InvalidInput("to train in batches, configure the board with gradient=True")
        if phase.proximal and not model.keep_start:
            raise InvalidInput("for a proximal phase, configure the board with keep_start=True")
        if phase.passes > 1 and model.stored_samples < phase.samples:
            raise InvalidInput(
                f"several passes over {phase.samples} samples need as many stored_samples,"
                f" the board is configured for {model.stored_samples}"
            )
        if phase.samples * phase.passes >= _COUNT:
            raise InvalidInput(f"a board trains fewer than {_COUNT:,} samples in all passes")
        return model

    def _trained(self, phase: Phase, result: RunResult) -> Trained:
        self.busy_seconds = result.ticks / self.identity.ticks_hz
        steps = phase.samples * phase.passes
        self._diverged = result.diverged
        if result.diverged:
            return Trained(float("nan"), result.updates, finite=False)
        if (result.steps, result.updates) != (steps, phase.updates):
            raise BadAnswer(f"{result.steps} steps and {result.updates} updates for {phase}")
        if not np.isfinite(result.loss_sum):
            raise BadAnswer(f"a loss of {result.loss_sum} without divergence")
        return Trained(result.loss_sum / steps, phase.updates, finite=True)

    def _evaluated(self, count: int, result: RunResult) -> DeviceEvaluation:
        self.busy_seconds = result.ticks / self.identity.ticks_hz
        if result.steps != count or result.correct > count:
            raise BadAnswer(f"{result.correct} correct of {result.steps}, not of {count}")
        return DeviceEvaluation(result.loss_sum / count, result.correct / count)


def _sizes(configured: Configured) -> tuple[int, int, int]:
    return configured.inputs, configured.outputs, configured.parameters


def _encoded(spec: ModelSpec, samples: Samples, count: int) -> EncodedSamples:
    check_samples(spec, samples)
    if len(samples) != count:
        raise InvalidInput(f"the phase takes {count} samples, got {len(samples)}")
    encoded = encode_samples(samples)
    if len(encoded.data) >= _COUNT:
        raise InvalidInput(f"{count} samples are over 4 GiB: send them in several phases")
    return encoded


def _by_sample(progress: Progress | None, sample_bytes: int) -> Progress | None:
    return None if progress is None else lambda taken: progress(taken // sample_bytes)


def _checked_count(count: int) -> int:
    if not 1 <= count <= MAX_SAMPLES:
        raise InvalidInput(f"samples to evaluate must be 1 to {MAX_SAMPLES}, got {count}")
    return count


def _checked_seed(seed: int) -> int:
    if not 0 <= seed < _COUNT:
        raise InvalidInput(f"a sensor's seed must be 0 to {_COUNT - 1}, got {seed}")
    return seed

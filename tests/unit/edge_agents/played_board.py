"""A board that a test plays: it trains with the host's learner and fails when it is told to.

It keeps to the interface of `mcu_bridge.device.Device`, as far as an agent uses it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from mcu_bridge.device import DeviceIdentity, EncodedChange
from mcu_bridge.errors import (
    DeviceRefused,
    DeviceRestarted,
    LineLost,
    ModelDoesNotFit,
    NoAnswer,
    Status,
    WrongVersion,
)
from mcu_bridge.link.frame import ReaderCounters
from mcu_bridge.link.link import LinkCounters
from tinyfleet.codec.selected import encode_selected
from tinyfleet.exchange import Exchange
from tinyfleet.learner import Samples, Trained, make_learner
from tinyfleet.learner.targets import board_memory_needed
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.randomness import RandomStream
from tinyfleet.strategies.base import delta_norm
from tinyfleet.strategies.plan import Phase

FAILURES = {
    "unplugged": LineLost("the board was unplugged"),
    "silent": NoAnswer("the board is silent"),
    "restarted": DeviceRestarted("the board has restarted"),
    "lacks a layer": DeviceRefused(Status.BAD_LAYER, "CONFIGURE"),
    "is of another version": WrongVersion("the board has version 2, this needs 1: flash it"),
}


def identity(board: str = "fake", memory_bytes: int = 200_000) -> DeviceIdentity:
    return DeviceIdentity(
        board=board,
        firmware="test",
        unique_id="00" * 8,
        boot_id=1,
        learner_version=1,
        memory_bytes=memory_bytes,
        ring_bytes=1024,
        clock_hz=64_000_000,
        ticks_hz=1_000_000,
        reset_cause="power",
        fault=None,
        has_sensor=True,
    )


@dataclass
class Bench:
    """Where boards are plugged in.

    plugged: whether one is there. fail_at: call -> what happens. fail_open: the same for
    connections. slow_at: call -> seconds it takes. A call is a number, counted from 1, or a name
    for the first of that name: where an idle board is asked for its counters meanwhile, numbers
    depend on the time.
    """

    who: DeviceIdentity = field(default_factory=identity)
    plugged: bool = True
    fail_at: dict[int | str, str] = field(default_factory=dict)
    fail_open: dict[int, str] = field(default_factory=dict)
    slow_at: dict[int | str, float] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    closed: int = 0

    async def connect(self, url: str) -> FakeDevice:
        self.opened.append(url)
        if failure := self.fail_open.get(len(self.opened)):
            raise FAILURES[failure]
        if not self.plugged:
            raise FAILURES["unplugged"]
        return FakeDevice(self)

    async def count(self, call: str) -> None:
        self.calls.append(call)
        named = call if self.calls.count(call) == 1 else ""
        slow_s = self.slow_at.get(len(self.calls)) or self.slow_at.get(named, 0.0)
        failure = self.fail_at.get(len(self.calls)) or self.fail_at.get(named)
        await asyncio.sleep(slow_s)
        if not self.plugged:
            raise FAILURES["unplugged"]
        if failure:
            raise FAILURES[failure]


class FakeDevice:
    """One connection to the board; what it knows is lost with it."""

    def __init__(self, bench: Bench) -> None:
        self.identity = bench.who
        self.busy_seconds = 0.0
        self.link = SimpleNamespace(counters=LinkCounters(), received=ReaderCounters())
        self._bench = bench
        self._spec: ModelSpec | None = None
        self._gradient = False
        self._stored = 0
        self._start: Parameters | None = None
        self._keeps_start = False
        self._parameters: Parameters | None = None

    async def configure(
        self,
        spec: ModelSpec,
        *,
        keep_start: bool = False,
        gradient: bool = False,
        stored_samples: int = 0,
    ) -> None:
        await self._bench.count("configure")
        taken = board_memory_needed(
            spec, keep_start=keep_start, gradient=gradient, stored_samples=stored_samples
        )
        if taken > self.identity.memory_bytes:
            raise ModelDoesNotFit(taken, self.identity.memory_bytes)
        self._spec, self._gradient, self._stored = spec, gradient, stored_samples
        self._parameters, self._keeps_start = None, keep_start

    async def write_parameters(self, parameters: Parameters) -> None:
        await self._bench.count("write")
        self._parameters = parameters.copy()
        self._start = parameters.copy() if self._keeps_start else None

    async def train(self, phase: Phase, samples: Samples) -> Trained:
        await self._bench.count("train")
        assert self._spec is not None
        assert self._parameters is not None
        assert phase.batch_size == 1 or self._gradient
        assert phase.passes == 1 or phase.samples <= self._stored
        self.busy_seconds = 0.5
        return make_learner(self._spec).train(self._parameters, samples, phase, self._start)

    async def train_on_sensor(self, phase: Phase, seed: int) -> Trained:
        assert self._spec is not None
        inputs = np.full((phase.samples, self._spec.inputs), seed * 2.0**-32, np.float32)
        return await self.train(phase, Samples(inputs, inputs[:, : self._spec.outputs]))

    async def read_parameters(self) -> Parameters:
        await self._bench.count("read")
        assert self._parameters is not None
        return self._parameters.copy()

    async def encode(self, exchange: Exchange, noise: RandomStream | None) -> EncodedChange:
        await self._bench.count("encode")
        assert self._parameters is not None
        assert self._start is not None
        change, self._start = self._parameters - self._start, None
        sent = exchange.shared(change)
        data = encode_selected(sent, exchange.most_entries / len(sent), exchange.precision, noise)
        norm = delta_norm(change)
        return EncodedChange(data if np.isfinite(norm) else b"", norm, 0.1)

    async def counters(self) -> None:
        await self._bench.count("counters")

    async def close(self) -> None:
        self._bench.closed += 1

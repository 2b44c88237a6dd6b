"""The rounds of a run, one after the other, with nothing between the parts but function calls.

A fleet over gRPC does the same steps in the same order: samples from (seed, round, slot), the
strategy's plan, the start, the delta, its encoding, and the updates folded in slot order. So both
end in the same parameters, bit for bit. Of a strategy whose rounds overlap they are folded in the
order of their arrival; here that is what `arrivals` makes it, in a fleet what it was.

With error feedback a device remembers what its updates left out, so that the result depends on
which device serves which slot: here those of `devices`, or else slot k is device k's in every
round. A fleet does the latter where it has one agent for each slot and no agent restarts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tinyfleet.errors import Diverged, InvalidInput
from tinyfleet.exchange import Exchange, exchange_of
from tinyfleet.learner.protocol import Learner, learn_by_plan
from tinyfleet.model.spec import Parameters
from tinyfleet.run import RunSpec, training_samples
from tinyfleet.simulation.arrivals import Devices, devices_of
from tinyfleet.simulation.devices import DevicesLeftOut, Encode, ServedDevices
from tinyfleet.strategies import Strategy, Update
from tinyfleet.strategies.base import Memory
from tinyfleet.strategies.server import ServerState, next_state, state_at
from tinyfleet.tasks.base import Task

MAX_DIVERGED_ROUNDS = 20  # our choice: rounds in a row without one finite update

NO_WAY_ON = (
    "a run with error_feedback cannot go on from a checkpoint, which does not have what its "
    "devices left out of their updates: start it anew"
)


@dataclass(frozen=True, slots=True)
class RoundReport:
    """One finished round.

    round: counts from 0. loss: mean training loss over the slots that stayed finite, nan if none
    did. diverged: slots whose training left the finite numbers; their delta is zero. parameters:
    the model after the round, which is version `round + 1`; memory: what the server's rule
    remembers with it. samples, bytes_up and bytes_down: of this round, counted as in
    `SimulationResult`.
    """

    round: int
    loss: float
    diverged: int
    parameters: Parameters
    samples: int
    bytes_up: int
    bytes_down: int
    memory: Memory = ()

    @property
    def version(self) -> int:
        return self.round + 1


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """The end of a run.

    version: of `parameters`, the number of rounds done since the run began. samples, bytes and
    diverged count what this call did. bytes_down: the starts that devices were sent. bytes_up: the
    encoded updates, 0 for one that diverged. Both are payload, without any framing of messages.
    diverged: slots that sent nothing and count as zero.
    """

    parameters: Parameters
    version: int
    samples: int
    bytes_up: int
    bytes_down: int
    diverged: int


@dataclass(frozen=True, slots=True)
class _SlotResult:
    update: Update
    size: int
    loss: float
    finite: bool


def simulate(
    run: RunSpec,
    task: Task,
    learner: Learner,
    on_round: Callable[[RoundReport], None] | None = None,
    parameters: Parameters | None = None,
    version: int = 0,
    memory: Memory = (),
    devices: ServedDevices | int | None = None,
) -> SimulationResult:
    """Train `run` from version 0, or go on from `parameters`, which are `version`, to its end.

    memory: what the server's rule remembers at that version, for a strategy that does.

    on_round is called after each round; what it raises ends the simulation, and the report it
    was given last holds all that is needed to go on. But neither a run whose rounds overlap can go
    on, for its devices are at work on earlier versions, nor one with error feedback, for what its
    devices left out of their updates is in no report. devices: so many serve the slots in turns and
    keep their last start, where the plan has them do so; None: each slot has a device that is new.
    They change bytes_down alone, and with error feedback the result. A number: they hold nothing
    yet. Raises Diverged when training leaves the finite numbers in every slot of 20 rounds in a
    row.
    """
    if learner.spec != run.model:
        raise InvalidInput(f"the learner is not for the run's model '{run.model.name}'")
    if not 0 <= version <= run.rounds:
        raise InvalidInput(f"a run of {run.rounds} rounds has no version {version}")
    strategy = run.make_strategy()
    model = run.initial_parameters() if parameters is None else parameters
    run.model.check_parameters(model)
    state = state_at(strategy, model, version, memory)
    at_work = devices_of(run)
    if at_work is not None and version:
        raise InvalidInput(
            f"a run of {run.strategy} cannot go on from version {version}: its devices were at "
            "work on earlier ones, which are not kept; begin it anew"
        )
    exchange = exchange_of(run)
    if version and exchange.error_feedback:
        raise InvalidInput(NO_WAY_ON)
    if not isinstance(devices, ServedDevices):
        devices = ServedDevices(exchange, strategy.agents_per_round, devices)
    left_out = DevicesLeftOut(exchange, devices)
    fleet = _Fleet(run.seed, strategy, exchange, task, learner, left_out)
    totals = _Totals()
    for index in range(version, run.rounds):
        model = state.parameters
        start = exchange.start(model)
        bytes_down = devices.serve(index, start)
        begin = model if exchange.start_is_model else exchange.started(start, model)
        results = (
            fleet.round(index, begin) if at_work is None else fleet.buffer(at_work, index, begin)
        )
        state = next_state(strategy, state, [result.update for result in results], index)
        report = totals.add(index, results, bytes_down, state)
        if on_round is not None:
            on_round(report)
        totals.check(run)
        _check_finite(state.parameters)
    return totals.result(run, state.parameters)


@dataclass(frozen=True)
class _Fleet:
    """What trains the slots of a run: all that stays the same from round to round."""

    seed: int
    strategy: Strategy
    exchange: Exchange
    task: Task
    learner: Learner
    left_out: DevicesLeftOut

    def round(self, number: int, start: Parameters) -> list[_SlotResult]:
        """All slots of a round, in their order."""
        slots = range(self.strategy.agents_per_round)
        return [
            self._slot(number, slot, start, self.left_out.encoder(number, slot)) for slot in slots
        ]

    def buffer(
        self, at_work: Devices[Parameters], version: int, model: Parameters
    ) -> list[_SlotResult]:
        """What arrives first, each trained from the model that was the newest when it began."""
        results = []
        for arrival in at_work.next_buffer(version, model):
            number, slot = divmod(arrival.slot, self.strategy.agents_per_round)
            encode = self.left_out.encoder_of(arrival.device)
            result = self._slot(number, slot, arrival.start, encode)
            update = replace(result.update, staleness=version - arrival.base_version)
            results.append(replace(result, update=update))
        return results

    def _slot(self, number: int, slot: int, start: Parameters, encode: Encode) -> _SlotResult:
        plan = self.strategy.plan(number)
        samples = training_samples(self.task, self.seed, number, slot, plan.samples)
        delta, done = learn_by_plan(self.learner, start, samples, plan)
        if delta is None:
            return _SlotResult(Update(slot, np.zeros_like(start), plan.samples), 0, math.nan, False)
        encoded = encode(delta, self.seed, number, slot)
        update = Update(slot, self.exchange.decode(encoded), plan.samples)
        return _SlotResult(update, len(encoded), done.loss, finite=True)


class _Totals:
    """What a simulation counts."""

    def __init__(self) -> None:
        self.samples = self.bytes_up = self.bytes_down = self.diverged = 0
        self.lost_rounds = 0

    def add(
        self, round: int, results: list[_SlotResult], bytes_down: int, state: ServerState
    ) -> RoundReport:
        losses = [result.loss for result in results if result.finite]
        diverged = len(results) - len(losses)
        samples = sum(result.update.samples for result in results)
        bytes_up = sum(result.size for result in results)
        self.samples += samples
        self.bytes_up += bytes_up
        self.bytes_down += bytes_down
        self.diverged += diverged
        self.lost_rounds = 0 if losses else self.lost_rounds + 1
        loss = math.fsum(losses) / len(losses) if losses else math.nan
        counted = (samples, bytes_up, bytes_down)
        return RoundReport(round, loss, diverged, state.parameters, *counted, state.memory)

    def result(self, run: RunSpec, model: Parameters) -> SimulationResult:
        counts = (self.samples, self.bytes_up, self.bytes_down, self.diverged)
        return SimulationResult(model, run.rounds, *counts)

    def check(self, run: RunSpec) -> None:
        if self.lost_rounds >= MAX_DIVERGED_ROUNDS:
            raise Diverged(
                f"training diverged in {self.lost_rounds} rounds in a row: "
                f"choose a lower inner_rate (or outer_rate) for {run.strategy}"
            )


def _check_finite(model: Parameters) -> None:
    if not np.isfinite(model).all():
        raise Diverged("the model is no longer finite: choose a lower inner_rate or outer_rate")

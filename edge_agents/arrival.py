"""What came with an assignment, read at once: the next start may be sent as changes to this one.

A stream is ordered, and the coordinator takes it that an agent holds the start it was sent last
there. So a start is taken in when it comes, whether or not it is ever trained from.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from edge_agents.trainers.protocol import NotNow
from tinyfleet.codec.start import Start
from tinyfleet.exchange import Exchange
from tinyfleet.run import RunSpec
from tinyfleet.start_history import HELD_RUNS
from tinyfleet.strategies.plan import TrainingPlan
from tinyfleet.v1 import coordinator_pb2
from tinyfleet.wire import plan_from_message


class SlotWork(NamedTuple):
    """What is to be done, checked. start: None when it has to be fetched."""

    plan: TrainingPlan
    exchange: Exchange
    start: Start | None


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """An assignment in line. work: what to do, or why it cannot be done, to be raised in turn."""

    message: coordinator_pb2.Assignment
    work: SlotWork | Exception

    def checked(self) -> SlotWork:
        """The work; raises what was wrong with it."""
        if isinstance(self.work, Exception):
            raise self.work
        return self.work


class HeldStarts:
    """The last start of each of the last few runs that came on this stream."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[int, Start]] = OrderedDict()

    def forget(self) -> None:
        """A new stream begins: it takes nothing for known."""
        self._held.clear()

    def work(self, message: coordinator_pb2.Assignment, spec: RunSpec) -> SlotWork:
        """The work in an assignment of that run; its start is held from now on.

        Raises InvalidInput when it makes no sense, NotNow when its start is relative to one that
        is not held. Then nothing of the run is held.
        """
        held = self._held.pop(message.run_id, None)
        plan = plan_from_message(message.plan)
        exchange = Exchange(spec.model, plan)
        if not message.parameters and not message.HasField("relative_to"):
            if held is not None:
                self._keep(message.run_id, *held)
            return SlotWork(plan, exchange, None)
        start = _start(message, exchange, held)
        if exchange.keeps_starts:
            self._keep(message.run_id, message.base_version, start)
        return SlotWork(plan, exchange, start)

    def _keep(self, run_id: str, version: int, start: Start) -> None:
        self._held[run_id] = (version, start)
        if len(self._held) > HELD_RUNS:
            self._held.popitem(last=False)


def _start(
    message: coordinator_pb2.Assignment, exchange: Exchange, held: tuple[int, Start] | None
) -> Start:
    if not message.HasField("relative_to"):
        return exchange.starts.read_whole(message.parameters)
    version, start = held or (None, None)
    if start is None or version != message.relative_to:
        raise NotNow(f"version {message.relative_to} is not held here: send all of the start")
    return exchange.starts.read_changes(message.parameters, start)

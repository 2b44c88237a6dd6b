"""What the agents of a run are sent to start from: everything, or what changed since they had it.

An agent's stream is ordered. So what it was sent last there is what it holds, whether or not it
trained from it; a new stream begins with nothing.
"""

from __future__ import annotations

from dataclasses import replace

from services.coordinator.fleet import Agent
from services.coordinator.work import RoundWork
from tinyfleet.exchange import Exchange
from tinyfleet.model.spec import ModelSpec
from tinyfleet.start_history import HELD_RUNS, StartHistory
from tinyfleet.wire import parameters_from_bytes

MAX_INLINE_BYTES = 256 * 1024  # larger models are fetched from the aggregator, which tells none


class Starts:
    """The starts of one run."""

    def __init__(self, model: ModelSpec, exchange: Exchange) -> None:
        self._model = model
        self._exchange = exchange
        self._history = StartHistory(exchange.starts) if exchange.keeps_starts else None

    def open(self, version: int, parameters: bytes) -> bytes:
        """The whole start of a version, from the model as the aggregator tells it, float32.

        Nothing when it is not told or too large: agents fetch it then. Raises InvalidInput when
        that is no model of this run.
        """
        if not parameters or len(parameters) > MAX_INLINE_BYTES:
            return b""
        if self._exchange.start_is_plain:
            return self._exchange.shared_bytes(parameters)
        model = parameters_from_bytes(parameters, self._model.parameter_count)
        start = self._exchange.start(model)
        if self._history is None:
            return self._exchange.starts.write_whole(start)
        self._history.add(version, start)
        return self._history.sent_to(None).data

    def for_agent(self, agent: Agent, work: RoundWork) -> RoundWork:
        """The work of the open round as this agent is sent it, who holds its start from then on."""
        if self._history is None or not work.parameters:
            return work
        sent = self._history.sent_to(agent.held.pop(work.run_id, None))
        agent.held[work.run_id] = work.version
        if len(agent.held) > HELD_RUNS:
            agent.held.popitem(last=False)
        return replace(work, parameters=sent.data, relative_to=sent.base)

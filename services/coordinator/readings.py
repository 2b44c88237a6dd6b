"""What the coordinator can tell of the fleet and of its runs at a moment."""

from __future__ import annotations

from collections.abc import Iterable

from services.coordinator.core import Dispatcher
from tinyfleet.readings import Level, Reading


def readings_of(core: Dispatcher, now: float) -> Iterable[Reading]:
    """now: seconds on the dispatcher's clock."""
    yield _fleet(core)
    yield _runs(core, now)


def _fleet(core: Dispatcher) -> Reading:
    agents = core.fleet.agents.values()
    attached = sum(agent.session is not None for agent in agents)
    busy = sum(agent.working is not None for agent in agents)
    values = {"attached_agents": attached, "known_agents": len(agents), "busy_agents": busy}
    if core.runs and not attached:
        return Reading("fleet", Level.WARN, "runs go on and no agent is attached", values)
    return Reading("fleet", Level.OK, f"{attached} agents attached", values)


def _runs(core: Dispatcher, now: float) -> Reading:
    """round_age_s: of the round that is open the longest, of any run; 0 when none is."""
    runs = core.runs.values()
    opened = [run.round_opened for run in runs if run.round_opened is not None]
    values = {
        "active_runs": len(runs),
        "round_age_s": max((now - one for one in opened), default=0.0),
    }
    problem = next((run.problem for run in runs if run.problem), "")
    return Reading("runs", Level.WARN if problem else Level.OK, problem or "ok", values)

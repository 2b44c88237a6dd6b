"""What the coordinator can tell of the fleet and of its runs at a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.coordinator.core import Dispatcher
from services.coordinator.runs import RunStatus
from tinyfleet.readings import Level, Reading


@dataclass
class Tally:
    """What happened since the process started: rounds of all runs, and runs that ended, how."""

    rounds: int = 0
    ended: Counter[RunStatus] = field(default_factory=Counter)


def readings_of(core: Dispatcher, tally: Tally, now: float) -> Iterable[Reading]:
    """now: seconds on the dispatcher's clock."""
    yield _fleet(core)
    yield _runs(core, tally, now)


def _fleet(core: Dispatcher) -> Reading:
    agents = core.fleet.agents.values()
    attached = sum(agent.session is not None for agent in agents)
    busy = sum(agent.working is not None for agent in agents)
    values = {"attached_agents": attached, "known_agents": len(agents), "busy_agents": busy}
    if core.runs and not attached:
        return Reading("fleet", Level.WARN, "runs go on and no agent is attached", values)
    return Reading("fleet", Level.OK, f"{attached} agents attached", values)


def _runs(core: Dispatcher, tally: Tally, now: float) -> Reading:
    """round_age_s: of the round that is open the longest, of any run; 0 when none is."""
    runs = core.runs.values()
    opened = [run.round_opened for run in runs if run.round_opened is not None]
    values = {
        "active_runs": len(runs),
        "pending_runs": sum(run.status is RunStatus.PENDING for run in runs),
        "running_runs": sum(run.status is RunStatus.RUNNING for run in runs),
        "finished_runs": tally.ended[RunStatus.FINISHED],
        "stopped_runs": tally.ended[RunStatus.STOPPED],
        "failed_runs": tally.ended[RunStatus.FAILED],
        "rounds": tally.rounds,
        "round_age_s": max((now - one for one in opened), default=0.0),
    }
    problem = next((run.problem for run in runs if run.problem), "")
    return Reading("runs", Level.WARN if problem else Level.OK, problem or "ok", values)

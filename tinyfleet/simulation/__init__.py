"""A whole federation in one process, with exactly the semantics of a fleet."""

from tinyfleet.simulation.federation import RoundReport, SimulationResult, simulate

__all__ = ["RoundReport", "SimulationResult", "simulate"]

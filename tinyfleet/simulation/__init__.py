"""A whole federation in one process, with exactly the semantics of a fleet."""

from tinyfleet.simulation.devices import ServedDevices
from tinyfleet.simulation.federation import RoundReport, SimulationResult, simulate

__all__ = ["RoundReport", "ServedDevices", "SimulationResult", "simulate"]

"""Estimates of what training and its messages cost a device: seconds and joules.

Models of processors and links are data (`models.toml`), each number with its source. Nothing here
was measured on a device; docs/energy.md says what that means.
"""

from tinyfleet.energy.estimate import Estimate, Workload, estimate, plan_workload, training_macs
from tinyfleet.energy.models import (
    Deployment,
    EnergyModels,
    Link,
    Processor,
    builtin_models,
    load_models,
)

__all__ = [
    "Deployment",
    "EnergyModels",
    "Estimate",
    "Link",
    "Processor",
    "Workload",
    "builtin_models",
    "estimate",
    "load_models",
    "plan_workload",
    "training_macs",
]

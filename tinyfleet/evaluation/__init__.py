"""Adapt-then-test on problems that training never draws."""

from tinyfleet.evaluation.adaptation import (
    CurvePoint,
    Evaluation,
    EvaluationSettings,
    evaluate,
    layers_in_words,
)
from tinyfleet.evaluation.health import Health
from tinyfleet.evaluation.score import Interval, Score

__all__ = [
    "CurvePoint",
    "Evaluation",
    "EvaluationSettings",
    "Health",
    "Interval",
    "Score",
    "evaluate",
    "layers_in_words",
]

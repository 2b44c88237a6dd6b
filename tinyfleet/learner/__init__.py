"""Learners: the same model and plan, computed natively in C or with NumPy."""

from __future__ import annotations

import logging
from functools import cache

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.learner.native import LIBRARY, NativeLearner
from tinyfleet.learner.protocol import Learner, Samples, Trained, run_plan
from tinyfleet.learner.reference import ReferenceLearner
from tinyfleet.model.spec import ModelSpec

__all__ = ["ENGINES", "Learner", "Samples", "Trained", "make_learner", "run_plan"]

ENGINES = ("auto", "native", "reference")
_log = logging.getLogger(__name__)


def make_learner(spec: ModelSpec, engine: str = "auto") -> Learner:
    """A learner for `spec`.

    engine: `native` is the C learner, `reference` NumPy float32 with the same results, bit for bit,
    many times slower; `auto` is native where the installation has it, else reference, and says so
    once.
    Raises DoesNotFit when the C learner is asked for but missing, or stale; InvalidInput for a
    network that computes by itself, whose learner is `tinyfleet.litert.learner.LiteRtLearner`.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if spec.computes_by_itself:
        raise InvalidInput(f"model '{spec.name}' needs its .tflite file: --trainable FILE")
    if engine == "native" or (engine == "auto" and LIBRARY.is_file()):
        return NativeLearner(spec)
    if engine == "auto":
        _say_once_that_it_is_slow()
    return ReferenceLearner(spec)


@cache
def _say_once_that_it_is_slow() -> None:
    _log.warning(
        "no C learner in this installation: learning with NumPy, same results, many times slower; "
        "install gcc and run `make setup` to get it"
    )

"""Samples that come one after the other give the bits of all samples at once."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.learner import Samples, Trained, make_learner
from tinyfleet.learner.pieces import PlanInPieces
from tinyfleet.learner.protocol import learn_by_plan
from tinyfleet.model.spec import Parameters
from tinyfleet.run import make_run
from tinyfleet.strategies.plan import Phase, TrainingPlan
from tinyfleet.tasks import make_task

SPEC = make_run(make_task("sine", {}), "tiny_reptile", 10, 1, model="mlp_32")
START = SPEC.initial_parameters()
LEARNERS = {engine: make_learner(SPEC.model, engine) for engine in ("native", "reference")}
PLANS = {
    "online": TrainingPlan((Phase(samples=24, rate=0.01),)),
    "several phases": TrainingPlan(
        (
            Phase(samples=5, rate=0.02, trainable=("dense_3",)),
            Phase(samples=12, rate=0.01),
            Phase(samples=1, rate=0.003),
        )
    ),
    "counted from a later phase": TrainingPlan(
        (Phase(samples=8, rate=0.02), Phase(samples=9, rate=0.01)), counted_from=1
    ),
    "proximal": TrainingPlan((Phase(samples=20, rate=0.01, proximal=20.0),)),
    "stored between online ones": TrainingPlan(
        (
            Phase(samples=4, rate=0.01),
            Phase(samples=6, rate=0.01, batch_size=4, passes=3),
            Phase(samples=7, rate=0.01, proximal=5.0),
        ),
        counted_from=2,
    ),
    "diverging": TrainingPlan((Phase(samples=30, rate=10.0), Phase(samples=4, rate=0.01))),
}


def samples_of(seed: int, count: int) -> Samples:
    random = np.random.default_rng(seed)
    inputs = random.uniform(-5, 5, (count, 1)).astype(np.float32)
    return Samples(inputs, np.sin(inputs) * np.float32(3.0))


def in_pieces(
    engine: str, plan: TrainingPlan, samples: Samples, sizes: list[int]
) -> tuple[Parameters | None, Trained]:
    """Trained on pieces of these sizes, as far as the plan takes them; the last one again."""
    pieces, at, left = PlanInPieces(LEARNERS[engine], START, plan), 0, list(sizes)
    while not pieces.over:
        size = max(pieces.least, min(pieces.most, left.pop(0) if left else 1))
        pieces.train(samples[at : at + size])
        at += size
    return pieces.result()


@pytest.mark.parametrize("engine", LEARNERS)
@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 30), max_size=40), seed=st.integers(0, 2**32 - 1))
@example(sizes=[30] * 9, seed=1)
def test_pieces_of_any_size_end_in_the_bits_of_one_call(
    engine: str, name: str, sizes: list[int], seed: int
) -> None:
    plan, before = PLANS[name], START.copy()
    samples = samples_of(seed, plan.samples)
    whole, done = learn_by_plan(LEARNERS[engine], START, samples, plan)
    pieced, total = in_pieces(engine, plan, samples, sizes)
    assert np.array_equal(START, before)
    assert (whole is None) == (pieced is None)
    assert done.finite == total.finite
    if whole is not None and pieced is not None:
        assert whole.tobytes() == pieced.tobytes()
        assert done == total


@pytest.mark.parametrize("engine", LEARNERS)
def test_each_piece_says_the_loss_before_its_updates(engine: str) -> None:
    plan, samples = PLANS["online"], samples_of(3, 24)
    pieces = PlanInPieces(LEARNERS[engine], START, plan)
    first = pieces.train(samples[0:1])
    assert first == LEARNERS[engine].losses(START, samples[0:1])[0]
    between = pieces.parameters.copy()
    assert pieces.train(samples[1:2]) == LEARNERS[engine].losses(between, samples[1:2])[0]


def test_stored_phase_waits_for_all_its_samples() -> None:
    pieces = PlanInPieces(LEARNERS["native"], START, PLANS["stored between online ones"])
    assert (pieces.least, pieces.most) == (1, 4)
    pieces.train(samples_of(1, 3))
    assert (pieces.least, pieces.most) == (1, 1)
    pieces.train(samples_of(1, 1))
    assert (pieces.least, pieces.most) == (6, 6)
    with pytest.raises(InvalidInput, match="6 to 6 samples, got 5"):
        pieces.train(samples_of(1, 5))


def test_no_result_before_the_last_sample_and_no_sample_after_it() -> None:
    pieces = PlanInPieces(LEARNERS["native"], START, PLANS["proximal"])
    with pytest.raises(InvalidInput, match="some are missing"):
        pieces.result()
    pieces.train(samples_of(1, 20))
    assert (pieces.over, pieces.least, pieces.most) == (True, 0, 0)
    with pytest.raises(InvalidInput, match="0 to 0 samples, got 1"):
        pieces.train(samples_of(1, 1))


def test_piece_that_diverges_ends_the_plan() -> None:
    pieces = PlanInPieces(LEARNERS["native"], START, PLANS["diverging"])
    assert np.isnan(pieces.train(samples_of(1, 30)))
    assert pieces.over
    delta, total = pieces.result()
    assert (delta, total.finite) == (None, False)

"""What the C learner trains in the tests of its bits, and what this machine makes of it."""

from dataclasses import dataclass

import numpy as np

from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.protocol import Samples, Trained
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.layers import (
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    MaxPool2D,
    ReLU,
    Tanh,
)
from tinyfleet.model.spec import LOSSES, ModelSpec, Parameters
from tinyfleet.strategies.plan import Phase

MSE, CROSS_ENTROPY = LOSSES
SUBNORMAL = np.float32(1e-39)  # the smallest normal float32 is 1.2e-38


@dataclass(frozen=True)
class Case:
    """One phase of training."""

    spec: ModelSpec
    parameters: Parameters
    samples: Samples
    phase: Phase


def image_model() -> ModelSpec:
    """Channels that fill vectors of every width, and that leave some over."""
    body = (Conv2D(11, 3, 1, 1), ReLU(), DepthwiseConv2D(3, 1, 1), Tanh(), MaxPool2D(2, 2))
    top = (Conv2D(9, 2), Tanh(), AveragePool2D(2, 1), Flatten(), Dense(34), ReLU(), Dense(5))
    return ModelSpec("images", (10, 9, 2), (*body, *top), CROSS_ENTROPY)


def pooled_model() -> ModelSpec:
    layers = (Conv2D(8, 3, 2, 1), Tanh(), Conv2D(3, 1), GlobalAveragePool2D())
    return ModelSpec("pooled", (8, 8, 1), layers, CROSS_ENTROPY)


def case(spec: ModelSpec, phase: Phase) -> Case:
    """`phase` on random samples, of whose inputs a quarter are zeros."""
    random = np.random.default_rng(7)
    inputs = random.normal(size=(phase.samples, spec.inputs)).astype(np.float32)
    inputs[random.random(inputs.shape) < 0.25] = 0.0
    targets = random.normal(size=(phase.samples, spec.outputs)).astype(np.float32)
    if spec.loss == CROSS_ENTROPY:
        targets = np.eye(spec.outputs, dtype=np.float32)[targets.argmax(axis=1)]
    return Case(spec, initial_parameters(spec, 7), Samples(inputs, targets), phase)


def subnormal_case() -> Case:
    """Training within subnormals: the errors, the steps and all parameters but the last weights."""
    layers = (Dense(40), ReLU(), Dense(16))
    normal = case(ModelSpec("subnormals", (1, 1, 8), layers, MSE), Phase(300, 0.02))
    samples = Samples(normal.samples.inputs, normal.samples.targets * SUBNORMAL)
    weights = slice(normal.spec.placed[-1].start, -normal.spec.outputs)
    parameters = normal.parameters * SUBNORMAL
    parameters[weights] = normal.parameters[weights]
    return Case(normal.spec, parameters, samples, normal.phase)


def cases() -> dict[str, Case]:
    sine, images = builtin_model("mlp_32", (1, 1, 1), 1, MSE), image_model()
    some_layers = Phase(100, 0.02, trainable=("conv2d_1", "dense_1"))
    return {
        "mlp_32": case(sine, Phase(200, 0.02, passes=2)),
        "mlp_32 in batches": case(sine, Phase(101, 0.05, batch_size=10, passes=5)),
        "images": case(images, Phase(150, 0.01, passes=2)),
        "images in batches": case(images, Phase(50, 0.05, batch_size=8, passes=2)),
        "images, some layers": case(images, some_layers),
        "proximal": case(images, Phase(60, 0.05, proximal=3.0)),
        "proximal, in batches": case(sine, Phase(50, 0.05, 8, 3, proximal=0.5)),
        "pooled": case(pooled_model(), Phase(200, 0.05)),
        "subnormals": subnormal_case(),
    }


CASES = cases()


def trained_here(case: Case) -> tuple[Trained, Parameters]:
    parameters = case.parameters.copy()
    learner = NativeLearner(case.spec)
    return learner.train(parameters, case.samples, case.phase, case.parameters), parameters


def differing(one: Parameters, other: Parameters) -> int:
    """How many parameters differ in any bit."""
    return int((one.view(np.uint32) != other.view(np.uint32)).sum())

"""Writes learner.json: what every implementation of the learner must compute, to the bit.

    python tests/vectors/make_learner_vectors.py

The numbers come from the NumPy float32 reference, and each vector is written only if the float64
oracle agrees with it. Floats are written as float.hex(), so that no digit is lost.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tinyfleet.learner.oracle import OracleLearner
from tinyfleet.learner.protocol import Floats, Samples
from tinyfleet.learner.reference import ReferenceLearner
from tinyfleet.model import ModelSpec, model_to_document, parameters_sha256
from tinyfleet.model.layers import (
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    Layer,
    MaxPool2D,
    ReLU,
    Tanh,
)
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.strategies.plan import Phase

OUTPUT = Path(__file__).with_name("learner.json")
SEED = 20261121
MSE, CROSS_ENTROPY = "mean_squared_error", "softmax_cross_entropy"
HEAD = ("dense_1",)
CONV = (Conv2D(3, 3, 2, 1), ReLU(), Conv2D(9, 2), Tanh(), Flatten(), Dense(3))

# id, comment, flags, input shape, loss, layers, phase
CASES: list[tuple[str, str, list[str], tuple[int, int, int], str, tuple[Layer, ...], Phase]] = [
    (
        *("mlp_step", "One online step of a small regression network.", ["online", "one_step"]),
        *((1, 1, 2), MSE, (Dense(9), ReLU(), Dense(2)), Phase(1, 0.05)),
    ),
    (
        *("mlp_trajectory", "Twelve online steps, two passes over six samples.", ["online"]),
        *((1, 1, 3), MSE, (Dense(10), ReLU(), Dense(6), Tanh(), Dense(1)), Phase(6, 0.1, 1, 2)),
    ),
    (
        *("mlp_batches", "Batches of four and a last one of two.", ["batched"]),
        *((1, 1, 3), CROSS_ENTROPY, (Dense(11), Tanh(), Dense(4)), Phase(6, 0.2, 4, 2)),
    ),
    (
        *("conv_step", "One online step through padded, strided convolutions.", ["one_step"]),
        *((6, 5, 2), CROSS_ENTROPY, CONV, Phase(1, 0.1)),
    ),
    (
        *("conv_trajectory", "Five online steps through convolutions.", ["online"]),
        *((6, 5, 2), CROSS_ENTROPY, CONV, Phase(5, 0.1)),
    ),
    (
        *("conv_head_only", "Only the last layer learns.", ["online", "partial"]),
        *((6, 5, 2), CROSS_ENTROPY, CONV, Phase(4, 0.2, trainable=HEAD)),
    ),
    (
        *("conv_body_only", "All but the last layer learn, in one batch.", ["batched", "partial"]),
        *((6, 5, 2), CROSS_ENTROPY, CONV, Phase(3, 0.2, 3, 2, ("conv2d_1", "conv2d_2"))),
    ),
    (
        *("depthwise", "A depthwise convolution between two pointwise ones.", ["online"]),
        *((5, 5, 2), MSE),
        (Conv2D(5, 1), ReLU(), DepthwiseConv2D(3, 1, 1), Conv2D(2, 1), GlobalAveragePool2D()),
        Phase(3, 0.1),
    ),
    (
        *("pools", "Overlapping max pooling with ties, average pooling.", ["online", "ties"]),
        *((6, 6, 1), CROSS_ENTROPY),
        (Conv2D(4, 2), ReLU(), MaxPool2D(2, 1), AveragePool2D(2, 2), Flatten(), Dense(3)),
        Phase(3, 0.1),
    ),
    (
        *("diverges", "A rate far too high: training must stop and say so.", ["diverges"]),
        *((1, 1, 2), MSE, (Dense(4), ReLU(), Dense(1)), Phase(40, 10.0)),
    ),
    (
        *("proximal_online", "Each online step is pulled back.", ["online", "proximal"]),
        *((1, 1, 3), MSE, (Dense(10), ReLU(), Dense(2)), Phase(6, 0.1, 1, 2, proximal=0.75)),
    ),
    (
        *("proximal_batches", "So is each batch's, where it learns.", ["batched", "proximal"]),
        *((6, 5, 2), CROSS_ENTROPY, CONV),
        Phase(4, 0.1, 3, 2, ("conv2d_2", "dense_1"), proximal=2.5),
    ),
]


def main() -> None:
    """Write the file."""
    cases = (_vector(index, *case) for index, case in enumerate(CASES))
    document = {"schema": "learner.schema.json", "vectors": list(cases)}
    OUTPUT.write_text(_text(document), "utf-8")


def _text(document: dict[str, Any]) -> str:
    """Indented JSON in which a list of plain values takes one line."""
    text = json.dumps(document, indent=1) + "\n"
    return re.sub(r"\[[^][{}]+\]", lambda values: re.sub(r"\s+", " ", values[0]), text)


def _vector(
    index: int,
    name: str,
    comment: str,
    flags: list[str],
    shape: tuple[int, int, int],
    loss: str,
    layers: tuple[Layer, ...],
    phase: Phase,
) -> dict[str, Any]:
    spec, seed = ModelSpec(name, shape, layers, loss), SEED + index
    samples, parameters = _samples(spec, phase.samples, seed), _parameters(spec, seed)
    start = _parameters(spec, seed + 1000) if phase.proximal else None
    return {
        "id": name,
        "comment": comment,
        "flags": flags,
        "generator": Path(__file__).name,
        "seed": seed,
        "input": {
            "model": model_to_document(spec),
            "phase": _phase(phase),
            "parameters": _hex(parameters),
            "inputs": [_hex(row) for row in samples.inputs],
            "targets": [_hex(row) for row in samples.targets],
        }
        | ({} if start is None else {"start": _hex(start)}),
        "expected": _expected(spec, parameters, samples, phase, start),
    }


def _expected(
    spec: ModelSpec, parameters: Floats, samples: Samples, phase: Phase, start: Floats | None
) -> dict[str, Any]:
    learner, trained = ReferenceLearner(spec), parameters.copy()
    done = learner.train(trained, samples, phase, start)
    if not done.finite:
        return {"finite": False}
    exact = parameters.astype(np.float64)
    exact_start = None if start is None else start.astype(np.float64)
    OracleLearner(spec).train(exact, samples, phase, exact_start)
    # Twelve steps at most, each within a few 1e-7 of the float64 one: 1e-5 tells right from wrong.
    assert np.abs(exact - trained).max() < 1e-5, spec.name
    return {
        "finite": True,
        "updates": done.updates,
        "loss": done.loss.hex(),
        "outputs_before": [_hex(row) for row in learner.predict(parameters, samples.inputs)],
        "losses_before": _hex(learner.losses(parameters, samples)),
        "parameters": _hex(trained),
        "parameters_sha256": parameters_sha256(trained),
    }


def _samples(spec: ModelSpec, count: int, seed: int) -> Samples:
    stream = RandomStream(seed, Purpose.TRAINING_TASK)
    inputs = _centred(stream, (count, spec.inputs))
    inputs[stream.uniform(inputs.size).reshape(inputs.shape) < 0.2] = 0.0
    if spec.loss == MSE:
        return Samples(inputs, _centred(stream, (count, spec.outputs)))
    classes = stream.integers(count, spec.outputs)
    return Samples(inputs, np.eye(spec.outputs, dtype=np.float32)[classes])


def _parameters(spec: ModelSpec, seed: int) -> Floats:
    return _centred(RandomStream(seed, Purpose.INITIALIZATION), (spec.parameter_count,)) / 2


def _centred(stream: RandomStream, shape: tuple[int, ...]) -> Floats:
    """Uniform in [-1.5, 1.5): the same numbers with every version of NumPy."""
    values = 3.0 * stream.uniform(int(np.prod(shape))) - 1.5
    return values.astype(np.float32).reshape(shape)


def _phase(phase: Phase) -> dict[str, Any]:
    document = {
        "samples": phase.samples,
        "rate": phase.rate.hex(),
        "batch_size": phase.batch_size,
        "passes": phase.passes,
        "trainable": list(phase.trainable),
    }
    return document | ({"proximal": phase.proximal.hex()} if phase.proximal else {})


def _hex(values: Floats) -> list[str]:
    return [float(value).hex() for value in values]


if __name__ == "__main__":
    main()

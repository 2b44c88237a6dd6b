"""The initialization every run starts from."""

from __future__ import annotations

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.randomness import Purpose, RandomStream


def initial_parameters(spec: ModelSpec, run_seed: int) -> Parameters:
    """`(parameter_count,) float32`: He-uniform weights, zero biases.

    Weights are uniform in [-b, b) with b = sqrt(6 / fan_in) (He et al. 2015, eq. 10, as a uniform
    distribution of the same variance; our choice, because it needs only exactly rounded
    operations and is therefore the same on every processor). The last layer with parameters starts
    ten times smaller: our choice, it keeps the first online steps small. Raises InvalidInput for a
    network that computes by itself: it begins with the weights in its file.
    """
    if spec.computes_by_itself:
        raise InvalidInput(f"model '{spec.name}' begins with the weights in its .tflite file")
    stream = RandomStream(run_seed, Purpose.INITIALIZATION)
    parameters = np.zeros(spec.parameter_count, np.float32)
    trainable = [placed for placed in spec.placed if placed.trainable]
    for placed in trainable:
        bound = np.sqrt(6.0 / placed.layer.fan_in(placed.input_shape))
        scale = 0.1 if placed is trainable[-1] else 1.0
        weights = (2.0 * stream.uniform(placed.weights) - 1.0) * (scale * bound)
        parameters[placed.start : placed.start + placed.weights] = weights.astype(np.float32)
    return parameters

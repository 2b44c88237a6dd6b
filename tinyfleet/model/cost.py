"""What running a model costs, by counting."""

from __future__ import annotations

from tinyfleet.model.layers import Conv2D, Dense, DepthwiseConv2D
from tinyfleet.model.spec import ModelSpec, PlacedLayer


def multiply_accumulates(spec: ModelSpec) -> int:
    """Multiplications with a weight in one forward pass of one sample, padding counted as pixels.

    A training step takes about three times as many: forward, gradient of the inputs, gradient of
    the weights.
    """
    return sum(layer_multiply_accumulates(placed) for placed in spec.placed)


def layer_multiply_accumulates(placed: PlacedLayer) -> int:
    """The same of one layer."""
    height, width, _ = placed.output_shape
    if isinstance(placed.layer, Dense | Conv2D | DepthwiseConv2D):
        return height * width * placed.weights
    return 0

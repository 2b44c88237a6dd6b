"""The layer table: a model as the C learner reads it, 20 bytes a layer, little-endian.

    kind u8, kernel u8, stride u8, padding u8,
    in height u16, in width u16, in channels u32, out height u16, out width u16, out channels u32

Kernel and stride are 0 for kinds that have none, padding for all but convolutions.
"""

from __future__ import annotations

import struct

from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import ModelSpec, PlacedLayer

# MUST match mcu_bridge/firmware/learner/learner.h (tests/unit/learner/test_header.py).
LAYER_CODES = {
    "dense": 1,
    "conv2d": 2,
    "depthwise_conv2d": 3,
    "max_pool2d": 4,
    "average_pool2d": 5,
    "global_average_pool2d": 6,
    "flatten": 7,
    "relu": 8,
    "tanh": 9,
}
LOSS_CODES = {"mean_squared_error": 1, "softmax_cross_entropy": 2}
LAYER = struct.Struct("<BBBBHHIHHI")


def layer_table(spec: ModelSpec) -> bytes:
    """The table of `spec`: `20 * len(spec.layers)` bytes.

    Raises InvalidInput for a network that computes by itself: C has no code for it.
    """
    if spec.computes_by_itself:
        raise InvalidInput(f"model '{spec.name}' is a .tflite file: it cannot run on a board")
    return b"".join(_pack(placed) for placed in spec.placed)


def _pack(placed: PlacedLayer) -> bytes:
    layer = placed.layer
    window = (getattr(layer, name, 0) for name in ("kernel", "stride", "padding"))
    return LAYER.pack(LAYER_CODES[layer.kind], *window, *placed.input_shape, *placed.output_shape)

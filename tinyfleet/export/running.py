"""Runs a `.tflite` that was written here: it need not be tried in another process first."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyfleet.learner.protocol import Floats
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.graph import TensorLayout
from tinyfleet.litert.runtime import make_interpreter


def run_written(file: TfliteFile, inputs: Floats) -> Floats:
    """What LiteRT says of each sample.

    inputs: `(count, inputs) float32`; returns `(count, outputs) float32`.
    """
    interpreter = make_interpreter(file)
    entry = layout_of(interpreter.get_input_details())
    leave = layout_of(interpreter.get_output_details())
    outputs = np.empty((len(inputs), leave.values), np.float32)
    for sample, output in zip(inputs, outputs, strict=True):
        interpreter.set_tensor(entry.index, entry.encode(sample))
        interpreter.invoke()
        output[:] = leave.decode(interpreter.get_tensor(leave.index))
    return outputs


def layout_of(details: list[dict[str, Any]]) -> TensorLayout:
    """The only tensor of an interpreter's input or output details."""
    (detail,) = details
    shape = tuple(int(side) for side in detail["shape"][1:])
    return TensorLayout(detail["index"], shape, detail["dtype"], *detail["quantization"])

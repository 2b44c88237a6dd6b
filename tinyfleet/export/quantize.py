"""A model as an int8 `.tflite` file: all layers are computed with whole numbers.

The scheme is that of LiteRT's int8 kernels (Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", arXiv 1712.05877, with signed values).
Activations: one scale and zero point per tensor, from the range that calibration samples reach.
Weights: symmetric, a scale per filter of a convolution; one for a whole dense layer, because older
runtimes know no other. Biases: int32 of the scale input * weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput
from tinyfleet.export.layers import FloatValues, input_tensor_shape, write_layers
from tinyfleet.export.running import layout_of
from tinyfleet.export.tflite import check_exportable, write_model
from tinyfleet.export.writer import GraphWriter, Quantization, Tensor, value
from tinyfleet.learner.protocol import Floats, check_inputs
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.runtime import make_interpreter
from tinyfleet.model.layers import Conv2D, Dense, DepthwiseConv2D
from tinyfleet.model.spec import ModelSpec, Parameters, PlacedLayer

Ranges = dict[str, tuple[float, float]]

_LOWEST, _HIGHEST = -128, 127
_STEPS = _HIGHEST - _LOWEST
_MOST_BIAS = 2**30  # leaves the sum of products as much of an int32 as the bias
_AXES: dict[type, int | None] = {Dense: None, Conv2D: 0, DepthwiseConv2D: 3}  # of the outputs
_SMALLEST = 1e-9  # of a scale, our choice: float32 has room on both sides of its products
_SMALLEST_PART = 2.0**-16  # of a layer's largest scale


@dataclass(frozen=True)
class Int8Values:
    """All tensors are int8. ranges: lowest and highest value by the name of a tensor."""

    ranges: Ranges

    def enter(self, writer: GraphWriter, x: Tensor) -> Tensor:
        if x.dtype == "int8":
            return x
        scale = x.quantization and requantized(x.quantization)
        output = value(f"{x.name}/int8", x.shape, scale or activation_scale(*self.ranges[x.name]))
        return writer.operator("QUANTIZE", [x], output)

    def activation(self, name: str, shape: tuple[int, ...], x: Tensor, *weights: Tensor) -> Tensor:
        return value(name, shape, activation_scale(*self.ranges[name], finest_scale(x, *weights)))

    def fixed(self, name: str, shape: tuple[int, ...], scale: Quantization) -> Tensor:
        return value(name, shape, scale)

    def parameters(
        self, writer: GraphWriter, placed: PlacedLayer, weights: Floats, biases: Floats, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        assert x.quantization is not None  # noqa: S101 - every tensor here has one
        axis = _AXES[type(placed.layer)]
        scales = weight_scales(weights, biases, x.quantization.scale, axis)
        whole = _rounded(weights, _along(scales, axis, weights.ndim), _HIGHEST).astype(np.int8)
        bias_scales = scales.astype(np.float64) * x.quantization.scale
        whole_biases = _rounded(biases, bias_scales, _MOST_BIAS).astype(np.int32)
        return (
            writer.constant(f"{placed.name}/weights", whole, _per_axis(scales, axis or 0)),
            writer.constant(f"{placed.name}/biases", whole_biases, _per_axis(bias_scales, 0)),
        )


def int8_tflite(
    spec: ModelSpec,
    parameters: Parameters,
    calibration: Floats,
    probabilities: bool = False,
    float_io: bool = False,
) -> TfliteFile:
    """The file; input and output are int8, or float32 converted in the graph (`float_io`).

    calibration: `(count, inputs) float32`, from 1 sample, like those that the model will see: what
    lies outside of the ranges that they reach is cut off. Raises InvalidInput like `float_tflite`.
    """
    check_exportable(spec, parameters, probabilities)
    values = Int8Values(measured_ranges(spec, parameters, calibration))
    writer, shape = GraphWriter(), input_tensor_shape(spec)
    scale = None if float_io else activation_scale(*values.ranges["input"])
    x = writer.input("input", shape, scale)
    output = write_model(writer, spec, parameters, x, values, probabilities)
    return writer.finish([FloatValues().enter(writer, output) if float_io else output])


def measured_ranges(spec: ModelSpec, parameters: Parameters, calibration: Floats) -> Ranges:
    """Of the input and of what each operator puts out, over all samples."""
    if not len(check_inputs(spec, calibration)):
        raise InvalidInput("calibration needs at least one sample")
    if not np.isfinite(calibration).all():
        raise InvalidInput("calibration samples must be finite")
    writer = GraphWriter()
    x = writer.input("input", input_tensor_shape(spec))
    write_layers(writer, spec, parameters, x, FloatValues())
    own = {"input": (float(calibration.min()), float(calibration.max()))}
    return own | ranges_of(writer.finish(writer.written), writer.written, calibration)


def ranges_of(file: TfliteFile, outputs: Sequence[Tensor], inputs: Floats) -> Ranges:
    """Lowest and highest value of each output of a graph of float32 outputs, over all inputs.

    inputs: `(count, values) float32`, from 1. Raises InvalidInput when a value is not finite.
    """
    interpreter = make_interpreter(file)
    entry = layout_of(interpreter.get_input_details())
    places = [detail["index"] for detail in interpreter.get_output_details()]
    lowest, highest = np.full(len(places), np.inf), np.full(len(places), -np.inf)
    for sample in inputs:
        interpreter.set_tensor(entry.index, entry.encode(sample))
        interpreter.invoke()
        reached = [interpreter.get_tensor(place) for place in places]
        lowest = np.minimum(lowest, [tensor.min() for tensor in reached])
        highest = np.maximum(highest, [tensor.max() for tensor in reached])
    if not np.isfinite([lowest, highest]).all():
        raise InvalidInput("calibration samples lead to values that are not finite")
    pairs = zip(lowest.tolist(), highest.tolist(), strict=True)
    return {tensor.name: pair for tensor, pair in zip(outputs, pairs, strict=True)}


def activation_scale(low: float, high: float, finest: float = 0.0) -> Quantization:
    """The scale and zero point of int8 values from `low` to `high`; 0 is always exact.

    finest: below it a scale makes no sense.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max((high - low) / _STEPS, finest, _SMALLEST)))
    zero_point = int(np.clip(np.rint(_LOWEST - low / scale), _LOWEST, _HIGHEST))
    return Quantization((scale,), zero_point)


def finest_scale(x: Tensor, *weights: Tensor) -> float:
    """The scale below which the output of an operator on `x` shows nothing but rounding.

    With weights: a whole step of the sum of products. Without: 1/64 of the input's (our choice).
    LiteRT's kernels refuse what is much finer, which a layer that is nearly always zero asks for.
    """
    assert x.quantization is not None  # noqa: S101 - every tensor here has one
    if not weights:
        return x.quantization.scale / 64
    return x.quantization.scale * max(max(w.quantization.scales) for w in weights if w.quantization)


def weight_scales(
    weights: Floats, biases: Floats, input_scale: float, axis: int | None
) -> npt.NDArray[np.float32]:
    """Scales of weights, so that they and their biases fit: `(outputs,)`, or `(1,)` without axis.

    A bias is a multiple of input_scale * scale below 2**30: where the weights of a filter are next
    to nothing, its bias is what decides. Scales of a layer are at most 65,536 apart: LiteRT's
    kernels have a lower limit, and so far below the others a filter rounds to zero anyway.
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights.astype(np.float64)).max(axis=others)
    bias = np.abs(biases.astype(np.float64))
    bias = bias if axis is not None else bias.max()
    needed = np.atleast_1d(np.maximum(largest / _HIGHEST, bias / (input_scale * _MOST_BIAS)))
    lowest = max(needed.max() * _SMALLEST_PART, _SMALLEST)
    scales: npt.NDArray[np.float32] = np.maximum(needed, lowest).astype(np.float32)
    return scales


def requantized(scale: Quantization) -> Quantization:
    """Of uint8 values, the same as int8."""
    return Quantization(scale.scales, scale.zero_point + _LOWEST)


def _per_axis(scales: npt.NDArray[Any], axis: int) -> Quantization:
    return Quantization(tuple(float(np.float32(scale)) for scale in scales), 0, axis)


def _along(scales: npt.NDArray[Any], axis: int | None, axes: int) -> npt.NDArray[Any]:
    """Scales in a shape that divides an array of so many axes."""
    return scales.reshape([-1 if i == axis else 1 for i in range(axes)])


def _rounded(values: Floats, scales: npt.NDArray[Any], most: int) -> npt.NDArray[np.float64]:
    quotients: npt.NDArray[np.float64] = np.rint(values.astype(np.float64) / scales)
    return np.clip(quotients, -most, most)

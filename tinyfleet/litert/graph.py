"""A `.tflite` network of one input and one output, run sample by sample."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Floats
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.probe import check_tflite
from tinyfleet.litert.runtime import first_line, make_interpreter

MAX_VALUES = 4_000_000  # our choice, as of the largest layer's output: 16 MB
_TYPES = (np.float32, np.int8, np.uint8)


@dataclass(frozen=True)
class TensorLayout:
    """What goes in or comes out. shape: of one sample, the batch's axis excluded.

    dtype: float32, int8 or uint8, as NumPy's type. A quantized value q stands for
    scale * (q - zero_point); scale is 0 for float32.
    """

    index: int
    shape: tuple[int, ...]
    dtype: Any
    scale: float
    zero_point: int

    @property
    def values(self) -> int:
        """Of one sample."""
        return prod(self.shape)

    def encode(self, sample: Floats) -> np.ndarray[Any, Any]:
        """A sample of `(values,) float32` as the tensor wants it, a batch of one."""
        if self.scale:
            limits = np.iinfo(self.dtype)
            sample = np.rint(sample / np.float32(self.scale)) + self.zero_point
            sample = np.clip(sample, limits.min, limits.max)
        return sample.astype(self.dtype).reshape(1, *self.shape)

    def decode(self, tensor: np.ndarray[Any, Any]) -> Floats:
        """What a tensor of one sample stands for, `(values,) float32`."""
        values = tensor.reshape(-1).astype(np.float32)
        return np.float32(self.scale) * (values - self.zero_point) if self.scale else values


class Graph:
    """A network with one input and one output, of one sample each. Not thread-safe.

    Raises InvalidInput, in one line, for a file that LiteRT does not take or that is of another
    kind. The file is tried in a process of its own first, so it cannot end this one.
    """

    def __init__(self, file: TfliteFile) -> None:
        self._interpreter = make_interpreter(file, plain=check_tflite(file))
        self.input = _only("input", self._interpreter.get_input_details())
        self.output = _only("output", self._interpreter.get_output_details())

    def __call__(self, inputs: Floats) -> Floats:
        """`(count, output.values) float32` of `(count, input.values) float32`.

        Raises InvalidInput for inputs of another type or shape and outputs that are not finite.
        """
        if inputs.dtype != np.float32 or inputs.ndim != 2 or inputs.shape[1] != self.input.values:
            raise InvalidInput(
                f"this .tflite takes (count, {self.input.values}) float32, "
                f"got {inputs.dtype} {inputs.shape}"
            )
        outputs = np.empty((len(inputs), self.output.values), np.float32)
        for sample, output in zip(inputs, outputs, strict=True):
            output[:] = self._run(sample)
        if not np.isfinite(outputs).all():
            raise InvalidInput("this .tflite gives numbers that are not finite")
        return outputs

    def _run(self, sample: Floats) -> Floats:
        self._interpreter.set_tensor(self.input.index, self.input.encode(sample))
        try:
            self._interpreter.invoke()
        except RuntimeError as error:  # zeros went well, these values do not
            raise InvalidInput(f"LiteRT cannot run this sample: {first_line(error)}") from None
        return self.output.decode(self._interpreter.get_tensor(self.output.index))


def _only(what: str, details: list[dict[str, Any]]) -> TensorLayout:
    if len(details) != 1:
        raise InvalidInput(f"a .tflite must have one {what} to be used here, got {len(details)}")
    detail = details[0]
    batch, *shape = (int(side) for side in detail["shape"]) if len(detail["shape"]) else (0,)
    if batch != 1 or not 1 <= prod(shape) <= MAX_VALUES:
        raise InvalidInput(f"the {what} must be one sample, [1, ...], got {list(detail['shape'])}")
    if detail["dtype"] not in _TYPES:
        raise InvalidInput(
            f"the {what} must be float32, int8 or uint8, got {detail['dtype'].__name__}"
        )
    scale, zero_point = detail["quantization"]
    if detail["dtype"] is np.float32:
        scale = zero_point = 0
    elif not (np.isfinite(scale) and scale > 0):
        raise InvalidInput(f"the {what} is {detail['dtype'].__name__} without a scale")
    return TensorLayout(detail["index"], tuple(shape), detail["dtype"], scale, zero_point)

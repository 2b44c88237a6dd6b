"""A `.tflite` graph as it is written: tensors, constants and operators, one after the other.

The format is LiteRT's FlatBuffers schema, by the classes that come with the runtime. What is
written depends on what is asked for alone: the same calls give the same bytes.
"""

from __future__ import annotations

import copy
import importlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput
from tinyfleet.litert.file import TfliteFile

SIGNATURE = "serving_default"  # TensorFlow's name for the signature that one takes without asking
_SCHEMA_VERSION = 3
_FEATURES = "features"
_ALIGNMENT = 16  # bytes: `force_align` of a buffer's data in the schema
_REMEDY = "writing a .tflite needs LiteRT's schema: pip install 'tinyfleet[litert]'"
_MALFORMED = (AttributeError, IndexError, TypeError, ValueError, OverflowError, struct.error)

# Of each operator the version that its types need: (float32, int8), by LiteRT's table of versions.
_VERSIONS = {
    "AVERAGE_POOL_2D": (1, 2),
    "CONV_2D": (1, 3),
    "DEPTHWISE_CONV_2D": (1, 3),
    "DEQUANTIZE": (2, 2),
    "FULLY_CONNECTED": (1, 4),
    "MAX_POOL_2D": (1, 2),
    "MEAN": (1, 2),
    "PAD": (1, 2),
    "QUANTIZE": (1, 1),
    "RELU": (1, 2),
    "RESHAPE": (1, 1),
    "SOFTMAX": (1, 2),
    "TANH": (1, 2),
}


@dataclass(frozen=True)
class Quantization:
    """What an int8 value q stands for: scale * (q - zero_point).

    scales: one, or one for each index along `axis`. zero_point: of all of them.
    """

    scales: tuple[float, ...]
    zero_point: int = 0
    axis: int = 0

    @property
    def scale(self) -> float:
        """The only one."""
        (scale,) = self.scales
        return scale


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph. shape: with the batch's axis. dtype: NumPy's name of the type."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    quantization: Quantization | None = None


class GraphWriter:
    """A graph in the making: empty, or the one of a file, to be continued."""

    def __init__(self, file: TfliteFile | None = None) -> None:
        """Raises InvalidInput without LiteRT's schema, or for a file that does not follow it."""
        self._schema = load_schema()
        self._model = _empty(self._schema) if file is None else parse_tflite(file)
        self._graph = self._model.subgraphs[0]
        self.written: list[Tensor] = []  # what operators put out, in order

    def only_output(self) -> Tensor:
        """The output of a file's graph, as the tensor `features`, for an operator to continue from.

        Raises InvalidInput unless it is the only one, of float32, int8 or uint8 with a scale.
        """
        try:
            return self._read_output()
        except _MALFORMED:
            raise InvalidInput(
                "this .tflite file cannot be continued: it needs one output, of float32, int8 or "
                "uint8 with one scale"
            ) from None

    def takes_floats(self) -> bool:
        """Whether the graph's input is float32."""
        (index,) = self._graph.inputs
        return bool(self._graph.tensors[index].type == self._types()["float32"])

    def _read_output(self) -> Tensor:
        (index,) = self._graph.outputs
        tensor = self._graph.tensors[index]
        (dtype,) = (name for name, code in self._types().items() if code == tensor.type)
        shape = tuple(int(side) for side in tensor.shape)
        if dtype == "float32":
            return Tensor(int(index), _FEATURES, shape)
        (scale,), (zero_point,) = tensor.quantization.scale, tensor.quantization.zeroPoint
        quantization = Quantization((float(scale),), int(zero_point))
        return Tensor(int(index), _FEATURES, shape, dtype, quantization)

    def input(self, name: str, shape: tuple[int, ...], scale: Quantization | None = None) -> Tensor:
        """The graph's input."""
        tensor = self._add(name, shape, "int8" if scale else "float32", scale, 0)
        self._graph.inputs = [tensor.index]
        return tensor

    def constant(
        self, name: str, array: npt.NDArray[Any], scale: Quantization | None = None
    ) -> Tensor:
        """An array in the file; float32, int8 or int32, C order."""
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(little.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return self._add(name, array.shape, array.dtype.name, scale, len(self._model.buffers) - 1)

    def operator(
        self, kind: str, inputs: Sequence[Tensor], output: Tensor, **options: Any
    ) -> Tensor:
        """Let an operator make `output`, which `value` describes, of `inputs`. Returns it placed.

        kind: a name of LiteRT's BuiltinOperator. options: of its options table.
        """
        tensor = self._add(output.name, output.shape, output.dtype, output.quantization, 0)
        entry = self._schema.OperatorT()
        entry.opcodeIndex = self._code(kind, "int8" in (inputs[0].dtype, output.dtype))
        entry.inputs = [one.index for one in inputs]
        entry.outputs = [tensor.index]
        self._set_options(entry, kind, options)
        self._graph.operators.append(entry)
        self.written.append(tensor)
        return tensor

    def named(self, table: str, name: str) -> int:
        """The number of a name in one of the schema's enumerations."""
        return int(getattr(getattr(self._schema, table), name))

    def describe(self, text: str, facts: bytes) -> None:
        """Say in the file what it is: for people, and as JSON under the name `tinyfleet`."""
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(facts, np.uint8)
        self._model.buffers.append(buffer)
        entry = self._schema.MetadataT()
        entry.name, entry.buffer = "tinyfleet", len(self._model.buffers) - 1
        self._model.metadata = [*(self._model.metadata or []), entry]
        self._model.description = text

    def finish(self, outputs: Sequence[Tensor]) -> TfliteFile:
        """The file. A single output gets a signature, of the names `input` and `output`.

        Raises InvalidInput when the file is larger than LiteRT files may be here.
        """
        self._graph.outputs = [tensor.index for tensor in outputs]
        self._model.signatureDefs = [self._signature()] if len(outputs) == 1 else []
        return pack_tflite(self._model)

    def _add(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        scale: Quantization | None,
        buffer: int,
    ) -> Tensor:
        entry = self._schema.TensorT()
        entry.name, entry.shape, entry.buffer = name, list(shape), buffer
        entry.type = self._types()[dtype]
        if scale is not None:
            entry.quantization = self._quantization(scale)
        self._graph.tensors.append(entry)
        return Tensor(len(self._graph.tensors) - 1, name, shape, dtype, scale)

    def _types(self) -> dict[str, int]:
        names = ("float32", "int8", "uint8", "int32")
        return {name: self.named("TensorType", name.upper()) for name in names}

    def _quantization(self, scale: Quantization) -> Any:
        entry = self._schema.QuantizationParametersT()
        entry.scale = list(scale.scales)
        entry.zeroPoint = [scale.zero_point] * len(scale.scales)
        entry.quantizedDimension = scale.axis
        return entry

    def _code(self, kind: str, quantized: bool) -> int:
        """The index of an operator's code, which is added where it is missing."""
        number, version = self.named("BuiltinOperator", kind), _VERSIONS[kind][quantized]
        for index, code in enumerate(self._model.operatorCodes):
            if (code.builtinCode, code.version) == (number, version):
                return index
        code = self._schema.OperatorCodeT()
        code.builtinCode, code.version = number, version
        code.deprecatedBuiltinCode = min(number, 127)
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1

    def _set_options(self, entry: Any, kind: str, options: dict[str, Any]) -> None:
        table = _OPTIONS.get(kind)
        if table is None:
            return
        entry.builtinOptionsType = self.named("BuiltinOptions", table)
        entry.builtinOptions = getattr(self._schema, f"{table}T")()
        for name, value in options.items():
            setattr(entry.builtinOptions, name, value)

    def _signature(self) -> Any:
        signature = self._schema.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.inputs = [self._mapped("input", self._graph.inputs)]
        signature.outputs = [self._mapped("output", self._graph.outputs)]
        return signature

    def _mapped(self, name: str, tensors: Sequence[int]) -> Any:
        entry = self._schema.TensorMapT()
        (entry.tensorIndex,), entry.name = tensors, name
        return entry


_OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "PAD": "PadOptions",
    "QUANTIZE": "QuantizeOptions",
    "RESHAPE": "ReshapeOptions",
    "SOFTMAX": "SoftmaxOptions",
}


class _Aligned:
    """A buffer whose data begin where the schema wants them: FlatBuffers for Python forgets that.

    A Cortex-M4 reads float32 straight from the file, and only from multiples of 4.
    """

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the name the schema's classes call
        if self._buffer.data is not None:
            builder.Prep(_ALIGNMENT, len(self._buffer.data))
        return self._buffer.Pack(builder)


def value(name: str, shape: tuple[int, ...], scale: Quantization | None = None) -> Tensor:
    """A tensor that an operator is to make: float32, or int8 of a scale."""
    return Tensor(-1, name, shape, "int8" if scale else "float32", scale)


def renamed(tensor: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor that an operator is to make of `tensor` without another type or scale."""
    return replace(tensor, index=-1, name=name, shape=shape)


def values_of(tensor: Tensor) -> int:
    """How many values it has."""
    return prod(tensor.shape)


def load_schema() -> Any:
    """LiteRT's schema as classes; raises InvalidInput, with the remedy, where it is missing."""
    try:
        importlib.import_module("flatbuffers")
        return importlib.import_module("ai_edge_litert.schema_py_generated")
    except ImportError:
        raise InvalidInput(_REMEDY) from None


def _empty(schema: Any) -> Any:
    model = schema.ModelT()
    model.version = _SCHEMA_VERSION
    model.operatorCodes, model.buffers, model.subgraphs = [], [schema.BufferT()], []
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = "main", [], []
    model.subgraphs = [graph]
    return model


def parse_tflite(file: TfliteFile) -> Any:
    """The file as an object of the schema, `ModelT`.

    Offsets of a hostile file can make this slow: let LiteRT verify it first (`Graph` does). Raises
    InvalidInput without the schema, or for a file that does not follow it.
    """
    schema = load_schema()
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.content, 0))
    except _MALFORMED:
        raise InvalidInput("this .tflite file does not follow its schema") from None
    if not model.subgraphs or not model.buffers or not model.operatorCodes:
        raise InvalidInput("this .tflite file has no graph")
    return model


def pack_tflite(model: Any) -> TfliteFile:
    """The object of the schema as a file; raises InvalidInput when it is too large for one."""
    aligned = copy.copy(model)
    aligned.buffers = [_Aligned(buffer) for buffer in model.buffers]
    builder = importlib.import_module("flatbuffers").Builder(1024)
    builder.Finish(aligned.Pack(builder), b"TFL3")
    return TfliteFile(bytes(builder.Output()))

"""Small `.tflite` files for tests, written with the format's own schema: a dense layer and ReLU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FLOAT32, INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8
BOOL = schema.TensorType.BOOL
_INPUT_SCALE, _WEIGHT_SCALE, _OUTPUT_SCALE = 1 / 32, 1 / 128, 1 / 16


@cache
def dense_file(
    inputs: int = 4,
    outputs: int = 3,
    shape: tuple[int, ...] | None = None,
    kind: int = FLOAT32,
    seed: int = 1,
    takes: int = 1,
) -> bytes:
    """ReLU(W x + b) of a sample: `(inputs,) -> (outputs,)`, W and b drawn from `seed`.

    shape: of the input with its batch, if it is not (1, inputs). kind: of input and output, float32
    or int8. takes: inputs that the graph names, of which only the first is used.
    """
    weights = np.random.default_rng(seed).uniform(-1, 1, (outputs, inputs)).astype(np.float32)
    bias = np.full(outputs, 0.125, np.float32)
    if kind == INT8:
        weights = np.rint(weights / _WEIGHT_SCALE).clip(-127, 127).astype(np.int8)
        bias = np.rint(bias / (_INPUT_SCALE * _WEIGHT_SCALE)).astype(np.int32)
    graph = _Graph()
    first = graph.tensor("input", shape or (1, inputs), kind, scale=_INPUT_SCALE)
    others = [graph.tensor(f"other_{n}", (1, 2), kind, scale=1.0) for n in range(1, takes)]
    layer = [
        first,
        graph.tensor("weights", weights.shape, kind, weights, scale=_WEIGHT_SCALE),
        graph.tensor(
            "bias",
            bias.shape,
            schema.TensorType.INT32 if kind == INT8 else FLOAT32,
            bias,
            scale=_INPUT_SCALE * _WEIGHT_SCALE,
        ),
    ]
    output = graph.tensor("output", (1, outputs), kind, scale=_OUTPUT_SCALE)
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    graph.operator(schema.BuiltinOperator.FULLY_CONNECTED, layer, output, options)
    return graph.bytes([first, *others], [output])


@cache
def exponential_file() -> bytes:
    """exp(x) of a sample of one value: not finite from 89 on."""
    graph = _Graph()
    first = graph.tensor("input", (1, 1), FLOAT32)
    output = graph.tensor("output", (1, 1), FLOAT32)
    graph.operator(schema.BuiltinOperator.EXP, [first], output, schema.ExpOptionsT())
    return graph.bytes([first], [output])


@cache
def custom_file() -> bytes:
    """An operator that no runtime knows."""
    graph = _Graph()
    first = graph.tensor("input", (1, 1), FLOAT32)
    output = graph.tensor("output", (1, 1), FLOAT32)
    graph.operator(schema.BuiltinOperator.CUSTOM, [first], output, None, custom="Mystery")
    return graph.bytes([first], [output])


@cache
def odd_file(kind: int = BOOL, shape: tuple[int, ...] = (1, 2)) -> bytes:
    """Input and output of a kind and a shape that no sample has: a RESHAPE to what it is."""
    graph = _Graph()
    first = graph.tensor("input", shape, kind)
    output = graph.tensor("output", shape, kind)
    options = schema.ReshapeOptionsT()
    options.newShape = list(shape)
    graph.operator(schema.BuiltinOperator.RESHAPE, [first], output, options)
    return graph.bytes([first], [output])


class _Graph:
    """A model of one subgraph in the making."""

    def __init__(self) -> None:
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.subgraphs = [self._graph]
        self._model.operatorCodes, self._model.buffers = [], [schema.BufferT()]

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        kind: int,
        values: np.ndarray[Any, Any] | None = None,
        scale: float = 1.0,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), kind
        if kind in (INT8, schema.TensorType.INT32):
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            tensor.buffer = len(self._model.buffers) - 1
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def operator(
        self, code: int, inputs: Sequence[int], output: int, options: Any, custom: str | None = None
    ) -> None:
        named = schema.OperatorCodeT()
        named.builtinCode, named.version, named.customCode = code, 1, custom
        named.deprecatedBuiltinCode = min(code, 127)
        if code == schema.BuiltinOperator.FULLY_CONNECTED:
            named.version = 4  # signed 8-bit weights
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes)
        operator.inputs, operator.outputs = list(inputs), [output]
        if options is not None:
            operator.builtinOptions = options
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        self._model.operatorCodes.append(named)
        self._graph.operators.append(operator)

    def bytes(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        self._graph.inputs, self._graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

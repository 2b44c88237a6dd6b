"""A `.tflite` that trains itself, with other weights to begin with: those that a fleet learned.

TensorFlow's converter keeps what a variable begins with as a constant, which a graph of its own
assigns once. Here other constants take their place; the rest of the file stays as it is. So it is
the same trainer, and a product, or a further run, begins where this one ended.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.learner import open_trainable
from tinyfleet.litert.signatures import WeightTensor
from tinyfleet.model.spec import Parameters
from tinyfleet.model.trainable import SignatureNames

_REMEDY = "this .tflite file does not begin with constants: use its set_weights instead"

Variable = tuple[bytes, bytes]
"""What the graphs of a file call a variable: container and name."""


def with_weights(file: TfliteFile, names: SignatureNames, parameters: Parameters) -> TfliteFile:
    """`file`, beginning with `(parameter_count,) float32`; opened again and compared to the bit.

    Raises InvalidInput, in one line, when the file is of no use or made in another way.
    """
    weights = open_trainable(file, names).layout.weights
    schema = _module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(file.content)))
    graphs = _Graphs(model, schema.BuiltinOperator)
    for one in weights:
        graphs.begin_with(one, names.get_weights, parameters[one.start : one.stop], schema)
    builder = _module("flatbuffers").Builder(len(file.content))
    builder.Finish(model.Pack(builder), b"TFL3")
    learned = TfliteFile(bytes(builder.Output()))
    if open_trainable(learned, names).weights().tobytes() != parameters.tobytes():
        raise InvalidInput(_REMEDY)
    return learned


class _Graphs:
    """The graphs of a file, as the schema's objects, and its variables in them."""

    def __init__(self, model: Any, codes: Any) -> None:
        self._model = model
        self._codes = codes

    def begin_with(
        self, weight: WeightTensor, get_weights: str, values: Parameters, schema: Any
    ) -> None:
        """Let the variable behind an output of `get_weights` begin with other values."""
        variable = self._behind(weight.name, get_weights)
        assigned = [
            (graph, operator)
            for graph in self._model.subgraphs
            for operator in self._operators(graph, "ASSIGN_VARIABLE")
            if self._variable(graph, operator.inputs[0]) == variable
            and self._is_constant(graph.tensors[operator.inputs[1]])
        ]
        if len(assigned) != 1:
            raise InvalidInput(_REMEDY)
        graph, operator = assigned[0]
        operator.inputs = [operator.inputs[0], self._constant(graph, weight, values, schema)]

    def _behind(self, name: str, get_weights: str) -> Variable:
        """The variable that an output of `get_weights` is read from."""
        signature = next(
            one for one in self._model.signatureDefs if one.signatureKey == get_weights.encode()
        )
        graph = self._model.subgraphs[signature.subgraphIndex]
        index = next(one.tensorIndex for one in signature.outputs if one.name == name.encode())
        for operator in self._operators(graph, "READ_VARIABLE"):
            if index in operator.outputs:
                return self._variable(graph, operator.inputs[0])
        raise InvalidInput(_REMEDY)

    def _variable(self, graph: Any, handle: int) -> Variable:
        for operator in self._operators(graph, "VAR_HANDLE"):
            if handle in operator.outputs:
                options = operator.builtinOptions
                return options.container or b"", options.sharedName or b""
        raise InvalidInput(_REMEDY)

    def _operators(self, graph: Any, kind: str) -> Iterator[Any]:
        code = getattr(self._codes, kind)
        for operator in graph.operators or ():
            if self._model.operatorCodes[operator.opcodeIndex].builtinCode == code:
                yield operator

    def _is_constant(self, tensor: Any) -> bool:
        return self._model.buffers[tensor.buffer].data is not None

    def _constant(self, graph: Any, weight: WeightTensor, values: Parameters, schema: Any) -> int:
        """A tensor of its own: equal ones share theirs in what the converter writes."""
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        tensor.name, tensor.shape = f"{weight.name}_learned", list(weight.shape)
        tensor.type, tensor.buffer = schema.TensorType.FLOAT32, len(self._model.buffers) - 1
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InvalidInput(
            "writing a .tflite file needs its schema: pip install 'tinyfleet[litert]'"
        ) from None

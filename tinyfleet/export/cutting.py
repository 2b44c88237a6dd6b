"""Cuts a `.tflite` at a tensor: what a classifier knows before its last layer is features.

A trained classifier becomes an extractor so. What comes after the tensor is left out, with its
weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.export.writer import load_schema, pack_tflite, parse_tflite
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.probe import check_tflite

_OTHER_GRAPHS = ("CALL", "CALL_ONCE", "IF", "WHILE")  # operators that run further graphs


@dataclass(frozen=True)
class Made:
    """A tensor that an operator makes. shape: with the batch's axis. dtype: the schema's name."""

    name: str
    operator: str
    shape: tuple[int, ...]
    dtype: str


def tensors_made(file: TfliteFile) -> list[Made]:
    """What the operators of the main graph make, in order.

    Raises InvalidInput for a file that LiteRT does not run, and without LiteRT's schema.
    """
    model, graph = _main_graph(file)
    types = _names("TensorType")
    return [
        Made(
            _name(graph.tensors[index]),
            _kind(model, operator),
            tuple(_numbers(graph.tensors[index].shape)),
            types[graph.tensors[index].type].lower(),
        )
        for operator in graph.operators
        for index in _numbers(operator.outputs)
    ]


def cut(file: TfliteFile, at: str) -> TfliteFile:
    """The part of the main graph that makes a tensor, which becomes its only output.

    at: the tensor's name, or where it stands among `tensors_made`, from 1: converters make names
    that nobody types. Raises InvalidInput for a tensor that no operator makes, where further graphs
    are needed to make it, and like `tensors_made`.
    """
    model, graph = _main_graph(file)
    output = _found(graph, at)
    graph.outputs = [output]
    graph.operators = _needed(graph.operators, output)
    _check_one_graph(model, graph)
    _drop_unused(model, graph)
    model.subgraphs, model.signatureDefs = [graph], []
    return pack_tflite(model)


def _main_graph(file: TfliteFile) -> tuple[Any, Any]:
    check_tflite(file)
    model = parse_tflite(file)
    return model, model.subgraphs[0]


def _found(graph: Any, at: str) -> int:
    """The tensor of that name, or else of that number among what operators make."""
    order = [index for operator in graph.operators for index in _numbers(operator.outputs)]
    made = {_name(graph.tensors[index]): index for index in order}
    if at in made:
        return made[at]
    if not (at.isascii() and at.isdigit()):
        raise unknown_name("tensor", at, made)
    if not 1 <= int(at[:9]) <= len(order):
        raise InvalidInput(f"tensors have numbers from 1 to {len(order)} here, got {at[:9]}")
    return order[int(at[:9]) - 1]


def _needed(operators: list[Any], output: int) -> list[Any]:
    """Those that the tensor depends on; they are in an order that runs."""
    wanted, kept = {output}, []
    for operator in reversed(operators):
        if wanted & set(_numbers(operator.outputs)):
            wanted |= set(_numbers(operator.inputs))
            kept.append(operator)
    return kept[::-1]


def _check_one_graph(model: Any, graph: Any) -> None:
    for operator in graph.operators:
        if (kind := _kind(model, operator)) in _OTHER_GRAPHS:
            raise InvalidInput(f"cannot cut a graph that runs other graphs ({kind})")


def _drop_unused(model: Any, graph: Any) -> None:
    """Leave out the tensors of other operators, and the buffers that nobody needs any more."""
    users = [graph, *graph.operators]
    used = {i for user in users for i in (*_numbers(user.inputs), *_numbers(user.outputs))}
    tensors = _Renumbered(used - {-1})
    for user in users:
        user.inputs = [tensors[i] for i in _numbers(user.inputs)]
        user.outputs = [tensors[i] for i in _numbers(user.outputs)]
    for operator in graph.operators:
        operator.intermediates = None
    graph.tensors = [graph.tensors[i] for i in tensors.kept]
    entries = [*graph.tensors, *(model.metadata or [])]
    buffers = _Renumbered({0} | {entry.buffer for entry in entries})
    for entry in entries:
        entry.buffer = buffers[entry.buffer]
    model.buffers, model.metadataBuffer = [model.buffers[i] for i in buffers.kept], None


class _Renumbered:
    """New numbers for those that are kept, in their order; -1, no tensor at all, stays -1."""

    def __init__(self, kept: Iterable[int]) -> None:
        self.kept = sorted(kept)
        self._new = {old: new for new, old in enumerate(self.kept)} | {-1: -1}

    def __getitem__(self, old: int) -> int:
        return self._new[old]


def _numbers(vector: Any) -> list[int]:
    """A vector of the schema, which is None where it was left out."""
    return [] if vector is None else [int(number) for number in vector]


def _kind(model: Any, operator: Any) -> str:
    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)  # old files have the latter alone
    return _names("BuiltinOperator").get(number, "CUSTOM")


def _names(table: str) -> dict[int, str]:
    entries = vars(getattr(load_schema(), table)).items()
    return {number: name for name, number in entries if isinstance(number, int)}


def _name(tensor: Any) -> str:
    return bytes(tensor.name or b"").decode(errors="replace")

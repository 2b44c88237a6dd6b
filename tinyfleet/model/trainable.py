"""A network that is a trainer of its own: a `.tflite` file with signatures for training.

Such a file computes and learns by itself; this project reads and writes its weights. To everybody
who only handles parameters it is a model like others, whose layers are its weight tensors (kind
`tensor`), in the order of their names. Nothing here needs LiteRT: what a file offers is found out
by `tinyfleet.litert.signatures`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.model.spec import MAX_LAYERS, ModelSpec, Parameters, parameters_sha256
from tinyfleet.run_files import RunFile, check_sha256

_MAX_NAME = 128  # our choice, of characters


@dataclass(frozen=True)
class SignatureNames:
    """What a file calls its signatures and their tensors.

    train, infer, get_weights, set_weights: the signatures. x, y, rate: the inputs of `train`: a
    batch of samples, of targets, and the learning rate, a float32 scalar. loss: an output of
    `train`, logits: of `infer`; not looked at where there is only one. own_rate: the rate that
    is built into a file whose `train` takes none, above 0 and at most 10; 0 where it takes one.
    """

    train: str = "train"
    infer: str = "infer"
    get_weights: str = "get_weights"
    set_weights: str = "set_weights"
    x: str = "x"
    y: str = "y"
    rate: str = "rate"
    loss: str = "loss"
    logits: str = "logits"
    own_rate: float = 0.0

    def __post_init__(self) -> None:
        for one in fields(self):
            if one.name != "own_rate":
                _check_name(one.name, getattr(self, one.name))
        if isinstance(self.own_rate, bool) or not isinstance(self.own_rate, int | float):
            raise InvalidInput(f"own_rate must be a number, got {self.own_rate!r}")
        if not (math.isfinite(self.own_rate) and 0.0 <= self.own_rate <= 10.0):
            raise InvalidInput(f"own_rate must be 0 to 10, got {self.own_rate:g}")

    @classmethod
    def of(cls, options: dict[str, Any]) -> SignatureNames:
        """The names, those in `options` instead of the usual ones; others are refused."""
        known = {one.name for one in fields(cls)}
        for name in options:
            if name not in known:
                raise unknown_name("name of a signature or tensor", name, known)
        return replace(cls(), **options)

    def to_document(self) -> dict[str, Any]:
        """The names that are not the usual ones."""
        usual = asdict(SignatureNames())
        return {name: value for name, value in asdict(self).items() if value != usual[name]}


@dataclass(frozen=True)
class TrainableGraph:
    """The file that computes a run's model, by its content.

    sha256: of the file, in hex; size: its bytes, 1 to 64 MiB. initial_sha256: of the weights it
    begins with, which are version 0 of the run, as `parameters_sha256` counts. weights: the names
    of its weight tensors, in order; layer k of the model is the k-th.
    """

    sha256: str
    size: int
    initial_sha256: str
    weights: tuple[str, ...]
    names: SignatureNames = field(default_factory=SignatureNames)

    def __post_init__(self) -> None:
        _ = self.file
        check_sha256(self.initial_sha256)
        if not 1 <= len(self.weights) <= MAX_LAYERS:
            raise InvalidInput(f"a trainable file has 1 to {MAX_LAYERS} weight tensors")
        for name in self.weights:
            _check_name("a weight tensor", name)
        if list(self.weights) != sorted(set(self.weights)):
            raise InvalidInput("the weight tensors of a trainable file must be in order, each once")

    @property
    def file(self) -> RunFile:
        """Which file it is."""
        return RunFile(self.sha256, self.size)

    def initial_file(self, model: ModelSpec) -> RunFile:
        """The weights it begins with as a file of their own: little-endian float32."""
        return RunFile(self.initial_sha256, model.parameter_bytes)

    def check_file(self, sha256: str) -> None:
        """Raise InvalidInput unless this is the hash of the file."""
        if sha256 != self.sha256:
            raise InvalidInput(f"this file is {sha256[:12]}..., the run's is {self.sha256[:12]}...")

    def check_model(self, model: ModelSpec) -> None:
        """Raise InvalidInput unless the layers of `model` are this file's tensors."""
        if not model.computes_by_itself or len(model.layers) != len(self.weights):
            raise InvalidInput(
                f"model '{model.name}' must have {len(self.weights)} layers of kind tensor, one "
                "for each weight tensor of its .tflite file"
            )

    def check_initial(self, parameters: Parameters) -> Parameters:
        """`parameters` if they are what the file begins with; raises InvalidInput if not."""
        if parameters_sha256(parameters) != self.initial_sha256:
            raise InvalidInput("these are not the weights that the run's .tflite file begins with")
        if not np.isfinite(parameters).all():
            raise InvalidInput("the weights that the .tflite file begins with are not finite")
        return parameters


def trainable_to_document(graph: TrainableGraph) -> dict[str, Any]:
    """The graph as plain JSON values; `trainable_from_document` reads it back to an equal one."""
    return {
        "sha256": graph.sha256,
        "size": graph.size,
        "initial_sha256": graph.initial_sha256,
        "weights": list(graph.weights),
        "names": graph.names.to_document(),
    }


def trainable_from_document(document: Any) -> TrainableGraph:
    """The graph that a document describes; raises InvalidInput for anything else."""
    keys = {one.name for one in fields(TrainableGraph)}
    if not isinstance(document, dict) or document.keys() != keys:
        raise InvalidInput(f"a trainable file has exactly the keys {', '.join(sorted(keys))}")
    sha256, size, initial, weights, names = (
        document[key] for key in ("sha256", "size", "initial_sha256", "weights", "names")
    )
    if not (isinstance(sha256, str) and isinstance(initial, str) and type(size) is int):
        raise InvalidInput("a trainable file's hashes must be strings, its size a whole number")
    if not isinstance(weights, list) or not isinstance(names, dict):
        raise InvalidInput("a trainable file's weights must be a list, its names an object")
    return TrainableGraph(sha256, size, initial, tuple(weights), SignatureNames.of(names))


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        raise InvalidInput(f"the name of {what} must have 1 to {_MAX_NAME} printable characters")

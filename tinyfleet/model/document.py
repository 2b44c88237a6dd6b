"""Models as plain documents: TOML files that people write, JSON headers of checkpoints.

name = "my_model"
input_shape = [28, 28, 1]
loss = "softmax_cross_entropy"
layers = [
    { kind = "conv2d", filters = 8, stride = 2, padding = 1 },
    { kind = "relu" },
    { kind = "flatten" },
    { kind = "dense", units = 5 },
]
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.model.spec import MAX_LAYERS, ModelSpec, make_layer

_KEYS = ("name", "input_shape", "loss", "layers")
_MAX_FILE_BYTES = 64 * 1024


def load_model(path: Path) -> ModelSpec:
    """The model in a TOML file; raises InvalidInput with the file and the key to mend."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InvalidInput(f"{path}: a model file has at most {_MAX_FILE_BYTES} bytes")
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"cannot read model file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}") from None
    try:
        model = model_from_document(document)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None
    if model.computes_by_itself:
        raise InvalidInput(f"{path}: tensors are of a .tflite file: give that, with --trainable")
    return model


def model_from_document(document: dict[str, Any]) -> ModelSpec:
    """The model a document describes; unknown or missing keys are refused."""
    for key in document:
        if key not in _KEYS:
            raise unknown_name("key of a model", key, _KEYS)
    for key in _KEYS:
        if key not in document:
            raise InvalidInput(f"a model needs the key '{key}'")
    name, shape, loss, layers = (document[key] for key in _KEYS)
    if not isinstance(name, str) or not isinstance(loss, str):
        raise InvalidInput("name and loss must be strings")
    if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        raise InvalidInput(f"layers must be a list of at most {MAX_LAYERS} tables")
    return ModelSpec(name, _shape(shape), tuple(_layer(entry) for entry in layers), loss)


def model_to_document(spec: ModelSpec) -> dict[str, Any]:
    """The document `model_from_document` reads back to an equal spec."""
    return {
        "name": spec.name,
        "input_shape": list(spec.input_shape),
        "loss": spec.loss,
        "layers": [{"kind": layer.kind, **asdict(layer)} for layer in spec.layers],
    }


def _shape(value: Any) -> tuple[int, int, int]:
    sides = value if isinstance(value, list) else []
    if len(sides) == 1:
        sides = [1, 1, *sides]
    if len(sides) != 3 or not all(type(side) is int for side in sides):
        raise InvalidInput("input_shape must be [values] or [height, width, channels]")
    return sides[0], sides[1], sides[2]


def _layer(entry: Any) -> Any:
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        raise InvalidInput("each layer must be a table with a 'kind'")
    return make_layer(entry["kind"], {k: v for k, v in entry.items() if k != "kind"})

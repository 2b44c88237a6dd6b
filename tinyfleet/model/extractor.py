"""A frozen network in front of a model that learns, known by the hash of its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinyfleet.errors import InvalidInput
from tinyfleet.model.layers import MAX_SIDE, Shape
from tinyfleet.run_files import RunFile

MAX_VALUES = 65_535  # as of a model's input channels
_KEYS = ("sha256", "size", "input_shape", "features")


@dataclass(frozen=True)
class Extractor:
    """Which file turns a task's samples into what the model takes, `(1, 1, features)`.

    sha256: of the file, in hex. size: of the file, bytes, 1 to 64 MiB. input_shape: of a sample
    before it, `(height, width, channels)`. features: values of a sample behind it, 1 to 65535.
    Raises InvalidInput when one of these is out of range.
    """

    sha256: str
    size: int
    input_shape: Shape
    features: int

    def __post_init__(self) -> None:
        _ = self.file
        height, width, channels = self.input_shape
        sides = 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE
        if not (sides and 1 <= channels <= MAX_VALUES):
            raise InvalidInput(f"an extractor's input shape {self.input_shape} is out of range")
        if not 1 <= self.features <= MAX_VALUES:
            raise InvalidInput(
                f"an extractor gives 1 to {MAX_VALUES} features, not {self.features}"
            )

    @property
    def file(self) -> RunFile:
        """Which file it is."""
        return RunFile(self.sha256, self.size)

    @property
    def output_shape(self) -> Shape:
        """What the model behind it takes."""
        return 1, 1, self.features


def extractor_to_document(extractor: Extractor) -> dict[str, Any]:
    """The extractor as plain JSON values."""
    return vars(extractor) | {"input_shape": list(extractor.input_shape)}


def extractor_from_document(document: Any) -> Extractor:
    """The extractor that a document describes; raises InvalidInput for anything else."""
    if not isinstance(document, dict) or document.keys() != set(_KEYS):
        raise InvalidInput(f"an extractor has exactly the keys {', '.join(_KEYS)}")
    shape = document["input_shape"]
    if not isinstance(shape, list) or len(shape) != 3:
        raise InvalidInput("an extractor's input_shape must be [height, width, channels]")
    for value in (*shape, document["size"], document["features"]):
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidInput(f"an extractor's numbers must be whole, got {value!r:.80}")
    height, width, channels = shape
    return Extractor(
        str(document["sha256"]), document["size"], (height, width, channels), document["features"]
    )

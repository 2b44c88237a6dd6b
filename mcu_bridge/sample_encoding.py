"""Samples as the bytes that a board takes: as few as give it every bit of the floats back.

An encoded sample is its input, then its target. An input is float32, or one byte a value where
every value of the batch is `byte / divisor` in float32, as an image is; a target is float32, or a
class index of 16 bits where every row is one-hot. Nothing is ever rounded: what the board makes of
the bytes has the bits of what was given. MUST match firmware/app; docs/formats/device.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tinyfleet.learner.protocol import Floats, Samples

DIVISORS = (255.0, 1.0)  # our choice: images of 8 bits, and black or white ones
MAX_CLASSES = 65536
_ONE = np.float32(1.0).view(np.uint32)


class InputEncoding(IntEnum):
    """How the values of an input travel."""

    FLOAT32 = 0
    BYTE_OVER_DIVISOR = 1


class TargetEncoding(IntEnum):
    """How a target travels."""

    FLOAT32 = 0
    CLASS_INDEX = 1


@dataclass(frozen=True)
class EncodedSamples:
    """Samples on their way to a board.

    data: `count * sample_bytes` bytes. divisor: of a byte's value; 1 where there are no bytes.
    """

    inputs: InputEncoding
    targets: TargetEncoding
    divisor: float
    sample_bytes: int
    data: bytes


def encode_samples(samples: Samples) -> EncodedSamples:
    """`samples` in the shortest of the encodings that lose nothing."""
    input_bytes, divisor = _encode_inputs(samples.inputs)
    target_bytes = _encode_targets(samples.targets)
    by_byte, by_class = divisor is not None, target_bytes is not None
    targets = _bytes_of(samples.targets) if target_bytes is None else target_bytes
    rows = np.concatenate([input_bytes, targets], axis=1)
    return EncodedSamples(
        InputEncoding.BYTE_OVER_DIVISOR if by_byte else InputEncoding.FLOAT32,
        TargetEncoding.CLASS_INDEX if by_class else TargetEncoding.FLOAT32,
        1.0 if divisor is None else divisor,
        rows.shape[1],
        rows.tobytes(),
    )


def decode_samples(encoded: EncodedSamples, inputs: int, outputs: int) -> Samples:
    """What the board makes of the bytes: `(count, inputs)` and `(count, outputs) float32`."""
    rows = np.frombuffer(encoded.data, np.uint8).reshape(-1, encoded.sample_bytes)
    by_byte = encoded.inputs == InputEncoding.BYTE_OVER_DIVISOR
    split = inputs if by_byte else 4 * inputs
    xs, ts = rows[:, :split], np.ascontiguousarray(rows[:, split:])
    if by_byte:
        values = xs.astype(np.float32) / np.float32(encoded.divisor)
    else:
        values = np.ascontiguousarray(xs).view("<f4").astype(np.float32)
    if encoded.targets == TargetEncoding.FLOAT32:
        return Samples(values, ts.view("<f4").astype(np.float32))
    one_hot = np.zeros((len(rows), outputs), np.float32)
    one_hot[np.arange(len(rows)), ts.view("<u2")[:, 0]] = 1.0
    return Samples(values, one_hot)


def _encode_inputs(inputs: Floats) -> tuple[NDArray[np.uint8], float | None]:
    for divisor in DIVISORS:
        as_bytes = _as_bytes(inputs, np.float32(divisor))
        if as_bytes is not None:
            return as_bytes, divisor
    return _bytes_of(inputs), None


def _as_bytes(inputs: Floats, divisor: np.float32) -> NDArray[np.uint8] | None:
    """The bytes that divided by `divisor` give the bits of `inputs`, or None."""
    with np.errstate(all="ignore"):  # any float may come; what does not fit fails the comparison
        near = np.rint(inputs * divisor)
        bytes_ = np.where((near >= 0) & (near <= 255), near, 0).astype(np.uint8)
    again = bytes_.astype(np.float32) / divisor
    same = np.array_equal(again.view(np.uint32), np.ascontiguousarray(inputs).view(np.uint32))
    return bytes_ if same else None


def _encode_targets(targets: Floats) -> NDArray[np.uint8] | None:
    """The class indices as `(count, 2)` bytes, or None where a row is not one-hot to the bit."""
    bits = np.ascontiguousarray(targets).view(np.uint32)
    ones = bits == _ONE
    if targets.shape[1] > MAX_CLASSES or not (ones.sum(axis=1) == 1).all():
        return None
    if np.count_nonzero(bits) != len(targets):
        return None
    classes = ones.argmax(axis=1).astype("<u2")
    return np.frombuffer(classes.tobytes(), np.uint8).reshape(len(targets), 2)


def _bytes_of(values: Floats) -> NDArray[np.uint8]:
    little = np.ascontiguousarray(values, "<f4")
    return little.view(np.uint8).reshape(len(values), -1)

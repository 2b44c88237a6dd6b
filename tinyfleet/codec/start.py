"""What a device starts a round from, as bytes: all shared parameters, or what changed of them.

Rounding takes no random draw and no arithmetic that could differ: the same parameters give the
same start for every device, in every process, on every processor. docs/formats/start.md is the
specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyfleet.codec.header import HEADER_BYTES, read_header, write_header
from tinyfleet.codec.positions import decode_positions, encode_positions, positions_bytes
from tinyfleet.codec.values import (
    STEPS,
    VALUE_TYPES,
    Precision,
    Stored,
    precision_named,
    round_values,
    value_bytes,
)
from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import Parameters

LOWEST_EXPONENT, HIGHEST_EXPONENT = -126, 121  # every step times 2^exponent is a normal float32

Bytes = npt.NDArray[np.uint8]
Exponents = npt.NDArray[np.int8]

_BITS = {4: np.uint32, 2: np.uint16, 1: np.uint8}
_NO_EXPONENTS: Exponents = np.zeros(0, np.int8)


@dataclass(frozen=True, eq=False)
class Start:
    """The shared parameters of a version, in the form in which they travel and are kept.

    values: `(n,)` float32, float16 or, in int8, steps. exponents: in int8 one for each layer, whose
    parameters are step * 2^exponent; else none. Nobody changes either.
    """

    values: Stored
    exponents: Exponents

    @property
    def size(self) -> int:
        """Bytes it takes, in memory as on the wire."""
        return self.values.nbytes + self.exponents.nbytes


class StartFormat:
    """How the starts of a run are written.

    count: shared parameters, n. whole_bytes: size of a start that is sent whole. least_bytes: no
    changes have fewer.
    """

    def __init__(self, precision: str, sizes: Sequence[int]) -> None:
        """precision: `float32`, `float16` or `int8`. sizes: shared parameters, layer by layer."""
        self._precision = precision_named(precision)
        self._sizes = np.array(sizes)
        self._offsets = np.cumsum(self._sizes) - self._sizes
        self._layers = len(sizes) if self._precision is Precision.INT8 else 0
        self.count: int = sum(sizes)
        self.whole_bytes: int = self._layers + self.count * value_bytes(self._precision)
        self.least_bytes: int = HEADER_BYTES + self._layers

    @property
    def is_exact(self) -> bool:
        """Whether a start is the shared parameters themselves."""
        return self._precision is Precision.FLOAT32

    def rounded(self, shared: Parameters) -> Start:
        """The start of `(n,) float32`; raises InvalidInput unless all are finite.

        float16: to nearest, ties to even, at most 65504 either way. int8: the exponent of a layer
        is the least with 127 * 2^exponent >= max |value|; value / 2^exponent to the nearest whole
        number, ties to even. Rounding what is rounded changes nothing.
        """
        if not np.isfinite(shared).all():
            raise InvalidInput("the model to start from holds values that are not finite")
        if self._precision is not Precision.INT8:
            return Start(round_values(shared, self._precision, None)[1], _NO_EXPONENTS)
        exponents = _exponents(np.maximum.reduceat(np.abs(shared), self._offsets))
        steps = np.rint(shared * self._powers(-exponents)).clip(-STEPS, STEPS)
        return Start(steps.astype(np.int8), exponents)

    def parameters(self, start: Start) -> Parameters:
        """`(n,) float32`, which is exactly what a device trains from; may be the start's own."""
        values: Parameters = start.values.astype(np.float32, copy=False)
        return values * self._powers(start.exponents) if self._layers else values

    def write_whole(self, start: Start) -> bytes:
        """All of it, `whole_bytes` long."""
        return start.exponents.tobytes() + self._written(start.values)

    def read_whole(self, data: bytes | bytearray) -> Start:
        """The start in `data`; raises InvalidInput unless it is one of this format."""
        if len(data) != self.whole_bytes:
            raise InvalidInput(
                f"a start of this run has {self.whole_bytes} bytes, not {len(data)}: "
                f"{self.count} parameters"
            )
        raw = np.frombuffer(data, np.uint8)
        exponents = _read_exponents(raw[: self._layers])
        return Start(self._read_values(raw[self._layers :]), exponents)

    def write_changes(self, held: Start, start: Start) -> bytes | None:
        """What turns `held` into `start`, to the bit; None where that is no shorter than all."""
        bits = _BITS[value_bytes(self._precision)]
        indices = np.flatnonzero(held.values.view(bits) != start.values.view(bits))
        rest = self.least_bytes + len(indices) * value_bytes(self._precision)
        if rest >= self.whole_bytes:
            return None
        sizes = positions_bytes(indices, self.count)
        positions = min(sizes, key=sizes.__getitem__)
        if rest + sizes[positions] >= self.whole_bytes:
            return None
        head = write_header(positions, self._precision, len(indices)) + start.exponents.tobytes()
        where = encode_positions(positions, indices, self.count)
        return head + where + self._written(start.values[indices])

    def read_changes(self, data: bytes | bytearray, held: Start) -> Start:
        """The start that `data` makes of `held`, which stays as it is.

        Raises InvalidInput for anything that `write_changes` cannot give for this format.
        """
        if len(data) >= self.whole_bytes:
            raise InvalidInput(
                f"changes of a start have fewer than {self.whole_bytes} bytes, got {len(data)}"
            )
        try:
            return self._read_changes(np.frombuffer(data, np.uint8), held)
        except InvalidInput as error:
            raise InvalidInput(f"the changes of a start cannot be read: {error}") from None

    def _read_changes(self, raw: Bytes, held: Start) -> Start:
        positions, precision, entries = read_header(raw, self.count)
        if precision is not self._precision:
            raise InvalidInput(f"their precision is not the run's, {self._precision.name.lower()}")
        before = self.least_bytes
        after = raw.size - entries * value_bytes(precision)
        if after < before:
            raise InvalidInput(f"{entries} entries end too soon")
        exponents = _read_exponents(raw[HEADER_BYTES:before])
        indices = decode_positions(positions, raw[before:after], entries, self.count)
        values = held.values.copy()
        values[indices] = self._read_values(raw[after:])
        return Start(values, exponents)

    def _written(self, values: Stored) -> bytes:
        return values.astype(VALUE_TYPES[self._precision], copy=False).tobytes()

    def _read_values(self, written: Bytes) -> Stored:
        """Values that an encoder writes, in the processor's byte order; copied only if need be."""
        kind = VALUE_TYPES[self._precision]
        values: Stored = written.view(kind).astype(kind.newbyteorder("="), copy=False)
        if self._precision is Precision.INT8:
            if (values < -STEPS).any():
                raise InvalidInput("a start in int8 must hold -127 to 127 only")
        elif not np.isfinite(values).all():
            raise InvalidInput("the model to start from holds values that are not finite")
        return values

    def _powers(self, exponents: Exponents) -> Parameters:
        """2^exponent for each parameter, exactly."""
        return np.repeat(np.ldexp(np.float32(1), exponents), self._sizes)


def _exponents(largest: Parameters) -> Exponents:
    """The least exponents of which 127 steps reach the largest magnitudes, within the bounds."""
    # As float64 the quotient is never rounded across a power of two: both have few bits.
    mantissas, exponents = np.frexp(largest.astype(np.float64) / STEPS)
    least = np.where(largest > 0, exponents - (mantissas == 0.5), LOWEST_EXPONENT)
    return least.clip(LOWEST_EXPONENT, HIGHEST_EXPONENT).astype(np.int8)


def _read_exponents(written: Bytes) -> Exponents:
    exponents = written.view(np.int8)
    if (
        exponents.size
        and not ((exponents >= LOWEST_EXPONENT) & (exponents <= HIGHEST_EXPONENT)).all()
    ):
        raise InvalidInput(
            f"the exponents of a start are {LOWEST_EXPONENT} to {HIGHEST_EXPONENT} only"
        )
    return exponents

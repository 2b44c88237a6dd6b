"""What a training changed: selected, rounded and encoded by the board itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mcu_bridge.device.messages import ENCODE
from mcu_bridge.errors import BadAnswer
from tinyfleet.codec.values import precision_named
from tinyfleet.errors import InvalidInput
from tinyfleet.exchange import Exchange
from tinyfleet.randomness import RandomStream

_WORD = 1 << 64


@dataclass(frozen=True)
class EncodedChange:
    """An update as the board wrote it.

    data: the bytes that `Exchange.encode` gives for the same change; empty where norm is inf. norm:
    Euclidean, of the whole change with its local layers, from a float32 sum of squares, so that it
    is inf beyond 1.8e19. seconds: it took, by the board's own clock.
    """

    data: bytes
    norm: float
    seconds: float


def encode_request(exchange: Exchange, noise: RandomStream | None) -> bytes:
    """ENCODE's payload. Raises InvalidInput for a dense upload, and for int8 without noise."""
    if exchange.is_dense:
        raise InvalidInput("a dense update is the parameters themselves: read those")
    if exchange.precision == "int8" and noise is None:
        raise InvalidInput("int8 rounds at random: it needs a stream of noise")
    precision = precision_named(exchange.precision)
    what = (exchange.shared_mask, exchange.most_entries, precision)
    return ENCODE.pack(*what, *noise_words(noise))


def noise_words(noise: RandomStream | None) -> tuple[int, int, int, int]:
    """State and increment as the firmware's pcg64_t has them, 64 bits each; zeros for None."""
    state, increment = noise.pcg64 if noise else (0, 0)
    return state % _WORD, state // _WORD, increment % _WORD, increment // _WORD


def norm_of(exchange: Exchange, size: int, squares: float) -> float:
    """The norm of a change that was encoded as `size` bytes; BadAnswer when they cannot be true."""
    if not squares >= 0.0 or (size == 0) != math.isinf(squares):  # NaN fails too
        raise BadAnswer(f"an update of {size} bytes, for a sum of squares of {squares}")
    try:
        exchange.check_size(size)
    except InvalidInput as error:
        raise BadAnswer(str(error)) from None
    return math.sqrt(squares)


def check_update(exchange: Exchange, data: bytes) -> None:
    """Raise BadAnswer unless a device of the exchange's plan may send `data`."""
    try:
        exchange.decode(data)
    except InvalidInput as error:
        raise BadAnswer(str(error)) from None

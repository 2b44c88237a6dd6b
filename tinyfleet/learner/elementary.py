"""exp, log and tanh in float32, operation for operation those of the C learner.

MUST match mcu_bridge/firmware/learner/elementary.c to the bit (tests/unit/learner). Elementwise on
arrays; every constant is a float32, every product and sum is rounded once.
"""

from __future__ import annotations

import numpy as np

from tinyfleet.learner.protocol import Floats


def _constants(*texts: str) -> tuple[np.float32, ...]:
    return tuple(np.float32(float.fromhex(text)) for text in texts)


_ONE, _TWO = np.float32(1.0), np.float32(2.0)
_ROUNDING = np.float32(12582912.0)  # 1.5 * 2**23
_LOG2_E, _LN2_HIGH, _LN2_LOW = _constants("0x1.715476p+0", "0x1.62e4p-1", "0x1.7f7d1cp-20")
_EXP = _constants(
    *("0x1.6a2434p-10", "0x1.1239e2p-7", "0x1.5558f2p-5", "0x1.555492p-3", "0x1.fffffcp-2")
)
_LOG = _constants("0x1.31e678p-2", "0x1.995e9cp-2", "0x1.55557ap-1")
_TANH = _constants(
    *("-0x1.76848ap-8", "0x1.524e66p-6", "-0x1.b8430ep-5", "0x1.110760p-3", "-0x1.555534p-2")
)
_SQRT_HALF = np.uint32(0x3F3504F3)
_MANTISSA = np.uint32(0x007FFFFF)


def exp32(x: Floats) -> Floats:
    """e^x."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        clamped = np.clip(x, np.float32(-104.0), np.float32(89.0))
        n = (clamped * _LOG2_E + _ROUNDING) - _ROUNDING
        r = (clamped - n * _LN2_HIGH) - n * _LN2_LOW
        e = _ONE + (r + (r * r) * _horner(r, _EXP))
        whole = np.where(np.isnan(n), np.float32(0.0), n).astype(np.int32)
        half = np.trunc(whole / 2).astype(np.int32)  # towards zero, as in C
        result = (e * _power_of_two(half)) * _power_of_two(whole - half)
    result = np.where(x < np.float32(-104.0), np.float32(0.0), result)
    return np.where(np.isnan(x), x, result)


def log32(x: Floats) -> Floats:
    """Natural logarithm of normal, positive numbers."""
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = x.view(np.uint32) - _SQRT_HALF
        exponent = (shifted.view(np.int32) >> 23).astype(np.float32)
        f = ((shifted & _MANTISSA) + _SQRT_HALF).view(np.float32) - _ONE
        s = f / (_TWO + f)
        z = s * s
        q = z * _horner(z, _LOG)
        result = exponent * _LN2_HIGH + (f - (s * (f - q) - exponent * _LN2_LOW))
    return np.where(x.view(np.uint32) >= np.uint32(0x7F800000), x, result)


def tanh32(x: Floats) -> Floats:
    """Hyperbolic tangent."""
    size = np.abs(x)
    with np.errstate(over="ignore", invalid="ignore"):
        z = x * x
        near = x + (x * z) * _horner(z, _TANH)
        far = _ONE - _TWO / (exp32(size + size) + _ONE)
    far = np.where(size >= np.float32(9.1), _ONE, far)
    result = np.where(size < np.float32(0.625), near, np.where(x < 0, -far, far))
    return np.where(np.isnan(x), x, result)


def _horner(x: Floats, coefficients: tuple[np.float32, ...]) -> Floats:
    """The polynomial with the highest coefficient first."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = coefficient + x * value
    return value


def _power_of_two(exponent: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> Floats:
    return ((exponent + np.int32(127)) << 23).view(np.float32)

"""Mathematics with the same bits on every processor and with every libm."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

# pi in two parts (Cody and Waite): the first has 33 significant bits, so that a small whole number
# of them is exact in float64.
_PI_HIGH = float.fromhex("0x1.921fb544p+1")
_PI_LOW = float.fromhex("0x1.0b4611a626331p-33")
_HALVINGS = 10  # of the exponent before its series, undone by as many squarings
# Taylor series of sin(r)/r in r*r, highest power first: r**17/17! is the last term.
_TAYLOR = [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(8, -1, -1)]


def portable_sine(angle: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """sin(angle), elementwise; the same bits on every processor and with every libm.

    Only exactly rounded float64 additions and multiplications are used. |angle| <= 1000: the
    absolute error is below 1e-13 (the first omitted term is (pi/2)**19/19! = 4.4e-14).
    """
    turns = np.rint(angle * (1.0 / math.pi))
    rest = (angle - turns * _PI_HIGH) - turns * _PI_LOW
    square = rest * rest
    series = square * _TAYLOR[0]
    for coefficient in _TAYLOR[1:-1]:
        series += coefficient
        series *= square
    series *= rest
    series += rest
    odd = turns - 2.0 * np.floor(turns * 0.5)
    return series * (1.0 - 2.0 * odd)


def portable_exp(exponent: float) -> float:
    """e**exponent; the same bits on every processor and with every libm.

    Only exactly rounded float64 additions, multiplications and divisions are used. |exponent| <=
    64: the relative error is below 1e-12.
    """
    small = exponent / 2**_HALVINGS
    power = 1.0
    for order in range(8, 0, -1):
        power = 1.0 + power * small / order
    for _ in range(_HALVINGS):
        power *= power
    return power

"""exp, log and tanh keep their stated errors over the whole range; C and NumPy share their bits."""

import ctypes

import numpy as np
import pytest
from builds import needs_gcc

from tinyfleet.learner.elementary import exp32, log32, tanh32

SMALLEST_NORMAL = 2.0**-126


def every(first, last, count=400_000):
    """`count` float32 values from `first` to `last`, both included, evenly spaced."""
    return np.linspace(first, last, count).astype(np.float32)


def every_size(first, last, count=400_000):
    """The same, evenly spaced in their bits: all exponents alike."""
    ends = np.array([first, last], np.float32).view(np.uint32)
    return np.linspace(*ends, count).astype(np.uint32).view(np.float32)


def test_exp_is_within_2e_7_wherever_the_result_is_normal():
    x = np.concatenate([every(-87.3, 88.7), every_size(1e-30, 80.0), -every_size(1e-30, 80.0)])
    exact = np.exp(x.astype(np.float64))
    assert np.max(np.abs(exp32(x) - exact) / exact) < 2e-7


def test_exp_fades_out_below_and_overflows_above():
    small = every(-104.0, -87.4)
    # Half a unit of the smallest denormal, and the relative error of the normal range.
    assert np.max(np.abs(exp32(small) - np.exp(small.astype(np.float64)))) < 2.0**-149
    assert (exp32(np.array([-105.0, -np.inf, -3e38], np.float32)) == 0.0).all()
    assert (exp32(np.array([89.0, 1e30, np.inf], np.float32)) == np.inf).all()
    assert np.isnan(exp32(np.array([np.nan], np.float32))).all()
    assert exp32(np.zeros(1, np.float32))[0] == 1.0


def test_exp_never_falls():
    assert (np.diff(exp32(every(-104.0, 88.7))) >= 0).all()


def test_log_is_within_2e_7_from_one_on():
    x = every_size(1.0000001, 3.4e38)
    exact = np.log(x.astype(np.float64))
    assert np.max(np.abs(log32(x) - exact) / exact) < 2e-7
    assert log32(np.ones(1, np.float32))[0] == 0.0


def test_log_is_within_2e_7_absolutely_below_one():
    x = every_size(SMALLEST_NORMAL, 1.0)
    exact = np.log(x.astype(np.float64))
    assert np.max(np.abs(log32(x) - exact) / np.maximum(1.0, np.abs(exact))) < 2e-7


def test_log_hands_on_infinity_and_nan():
    assert log32(np.array([np.inf], np.float32))[0] == np.inf
    assert np.isnan(log32(np.array([np.nan], np.float32))[0])


def test_tanh_is_within_2e_7_odd_and_bounded():
    x = np.concatenate([every(0.0, 12.0), every_size(1e-45, 3e38), np.zeros(1, np.float32)])
    y = tanh32(x)
    assert np.max(np.abs(y - np.tanh(x.astype(np.float64)))) < 2e-7
    assert (tanh32(-x) == -y).all()
    assert (np.abs(y) <= 1.0).all()
    assert (tanh32(np.array([9.1, 50.0, np.inf], np.float32)) == 1.0).all()
    assert np.isnan(tanh32(np.array([np.nan], np.float32))[0])


@needs_gcc
@pytest.mark.parametrize("name", ["exp", "log", "tanh"])
def test_c_and_numpy_share_their_bits(library, name, seed):
    bits = np.random.default_rng(seed).integers(0, 2**32, 20_000, np.uint32)
    x = np.concatenate([bits.view(np.float32), every(-110.0, 95.0, 20_000)])
    if name == "log":
        x = x[x >= SMALLEST_NORMAL]  # below is outside of its domain
    function = getattr(library, f"learner_{name}")
    function.argtypes, function.restype = (ctypes.c_float,), ctypes.c_float
    ours = np.array([function(value) for value in x.tolist()], np.float32)
    numpys = {"exp": exp32, "log": log32, "tanh": tanh32}[name](x)
    assert ((ours.view(np.uint32) == numpys.view(np.uint32)) | (np.isnan(ours) & np.isnan(x))).all()

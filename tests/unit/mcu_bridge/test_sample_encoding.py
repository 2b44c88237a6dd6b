"""Samples cross the line in as few bytes as give every bit back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mcu_bridge.sample_encoding import (
    EncodedSamples,
    InputEncoding,
    TargetEncoding,
    decode_samples,
    encode_samples,
)
from tinyfleet.learner.protocol import Floats, Samples

ANY_FLOAT = st.floats(width=32, allow_subnormal=True)
ONE_HOT = np.eye(5, dtype=np.float32)


def image(divisor: float, count: int = 3) -> Floats:
    pixels = np.random.default_rng(1).integers(0, 256, (count, 28 * 28))
    return pixels.astype(np.float32) / np.float32(divisor)


def bits(values: Floats) -> list[int]:
    return np.ascontiguousarray(values).view(np.uint32).ravel().tolist()


def encoded(inputs: Floats, targets: Floats) -> EncodedSamples:
    """The encoding, after checking that it gives all bits back."""
    result = encode_samples(Samples(inputs, targets))
    again = decode_samples(result, inputs.shape[1], targets.shape[1])
    assert bits(again.inputs) == bits(inputs)
    assert bits(again.targets) == bits(targets)
    assert len(result.data) == len(inputs) * result.sample_bytes
    return result


@pytest.mark.parametrize("divisor", [255.0, 1.0])
def test_an_image_takes_a_byte_a_pixel_and_two_for_its_class(divisor: float) -> None:
    result = encoded(image(divisor), ONE_HOT[[4, 0, 2]])
    assert (result.inputs, result.divisor) == (InputEncoding.BYTE_OVER_DIVISOR, divisor)
    assert result.targets == TargetEncoding.CLASS_INDEX
    assert result.sample_bytes == 28 * 28 + 2
    assert result.data[-2:] == b"\x02\x00"


def test_one_pixel_off_by_the_last_bit_makes_all_floats() -> None:
    inputs = image(255.0)
    inputs[2, 700] = np.nextafter(inputs[2, 700], np.float32(9))
    result = encoded(inputs, ONE_HOT[[4, 0, 2]])
    assert result.inputs == InputEncoding.FLOAT32
    assert result.sample_bytes == 4 * 28 * 28 + 2


@pytest.mark.parametrize("odd", [-0.0, np.nan, np.inf, -1.0, 256.0])
def test_what_is_no_byte_travels_as_float(odd: float) -> None:
    inputs = np.array([[1.0, odd]], np.float32)
    assert encoded(inputs, ONE_HOT[:1]).inputs == InputEncoding.FLOAT32


@pytest.mark.parametrize(
    "row",
    [[0, 0, 0], [1, 1, 0], [0.5, 0.5, 0], [1, -0.0, 0], [2, 0, 0], [np.nan, 1, 0], [1, 1e-40, 0]],
)
def test_what_is_not_one_hot_travels_as_float(row: list[float]) -> None:
    targets = np.array([[0, 1, 0], row], np.float32)
    result = encoded(np.zeros((2, 1), np.float32), targets)
    assert result.targets == TargetEncoding.FLOAT32


def test_a_class_beyond_16_bits_travels_as_float() -> None:
    targets = np.zeros((1, 65537), np.float32)
    targets[0, 65536] = 1.0
    assert encoded(image(1.0, 1), targets).targets == TargetEncoding.FLOAT32
    assert encoded(image(1.0, 1), targets[:, 1:]).targets == TargetEncoding.CLASS_INDEX


@given(
    arrays.arrays(np.float32, (4, 3), elements=ANY_FLOAT),
    arrays.arrays(np.float32, (4, 2), elements=st.one_of(st.sampled_from([0.0, 1.0]), ANY_FLOAT)),
)
def test_any_floats_come_back_to_the_bit(inputs: Floats, targets: Floats) -> None:
    encoded(inputs, targets)


@given(arrays.arrays(np.uint8, (4, 6)), st.sampled_from([255.0, 1.0]))
def test_all_bytes_come_back_to_the_bit(pixels: np.ndarray, divisor: float) -> None:
    inputs = pixels.astype(np.float32) / np.float32(divisor)
    assert encoded(inputs, ONE_HOT[:4]).inputs == InputEncoding.BYTE_OVER_DIVISOR


def test_rows_of_a_larger_array_are_encoded_like_a_copy_of_them() -> None:
    inputs, targets = image(255.0, 6)[::2], ONE_HOT[[0, 1, 2, 3, 4, 0]][::2]
    assert encoded(inputs, targets) == encoded(inputs.copy(), targets.copy())

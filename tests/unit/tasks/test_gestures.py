"""Gestures: strokes without place, size and speed; other digits test; bad data in one line."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_data import NOWHERE, real_file

from tinyfleet.errors import InvalidInput
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.tasks import make_task, outline_task
from tinyfleet.tasks.strokes import POINTS, stroke_features

REAL_DATA = real_file("gestures.npz")
DIGITS = (0, 2, 3, 4, 5, 6, 7, 8)
STROKES = 5  # of each digit


def stroke(digit, take):
    """A path of the digit's own: a zigzag of `digit + 3` corners, a little different each take."""
    count = 20 + take
    x = np.arange(count) * 10
    return np.stack([x, (x * (digit + 3)) % 97 + take], axis=1)


def arrays():
    strokes = [stroke(digit, take) for digit in DIGITS for take in range(STROKES)]
    return {
        "points": np.concatenate(strokes).astype(np.int16),
        "offsets": np.cumsum([0, *map(len, strokes)]),
        "label": np.repeat(np.arange(8), STROKES).astype(np.int16),
        "gestures": np.array([f"digit_{digit}" for digit in DIGITS]),
        "scale": np.float32(1 / 128),
    }


def write_npz(path, **changes):
    np.savez_compressed(path, **(arrays() | changes))
    return path


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("gestures") / "gestures.npz")


@pytest.fixture(scope="module")
def task(npz):
    return make_task("gestures", {}, npz)


def stream(index=0):
    return RandomStream(1, Purpose.TRAINING_TASK, index)


def known():
    """Digit and quarter turns of each stroke that there can be."""
    found = {}
    for digit in DIGITS:
        for take in range(STROKES):
            points = stroke_features(stroke(digit, take)).astype(np.float32).reshape(-1, 2) / 64
            for turns in range(4):
                found.setdefault((points + 0.0).tobytes(), (digit, turns))
                points = np.stack([-points[:, 1], points[:, 0]], axis=1)
    return found


def told(samples):
    table = known()
    return [table[(row + 0.0).tobytes()] for row in samples.inputs]


def test_even_digits_train_and_odd_ones_test(task):
    trained, tested = set(), set()
    for index in range(40):
        trained |= set(told(task.training_samples(stream(index), 9)))
        tested |= set(told(task.evaluation_problem(stream(index), 1, 2).query))
    assert trained == {(digit, turns) for digit in (0, 2, 4, 6, 8) for turns in range(4)}
    assert tested == {(3, 0), (5, 0), (7, 0)}


def test_without_rotations_nothing_is_turned(npz):
    task = make_task("gestures", {"rotations": False}, npz)
    assert {turns for i in range(9) for _, turns in told(task.training_samples(stream(i), 9))} == {
        0
    }


def test_validation_leaves_the_digits_that_test_alone(npz):
    task = make_task("gestures", {"split": "validation"}, npz)
    for index in range(10):
        assert {d for d, _ in told(task.training_samples(stream(index), 9))} <= {0, 2}
        assert {d for d, _ in told(task.evaluation_problem(stream(index), 2, 3).support)} == {
            4,
            6,
            8,
        }


@given(st.integers(0, 8), st.floats(0.01, 100), st.floats(-1000, 1000), st.floats(-1000, 1000))
def test_place_and_size_do_not_matter(digit, size, x, y):
    moved = stroke(digit, 0) * size + np.array([x, y])
    difference = stroke_features(moved).astype(int) - stroke_features(stroke(digit, 0))
    assert np.abs(difference).max() <= 1  # what lies at the middle between two levels may tip


def test_speed_does_not_matter():
    line = np.stack([np.arange(40.0), np.zeros(40)], axis=1)
    hasty = np.array([[0, 0], [1, 0], [30, 0], [39, 0]])
    assert np.array_equal(stroke_features(line), stroke_features(hasty))
    expected = np.rint(np.linspace(-64, 64, POINTS))
    assert np.array_equal(stroke_features(line)[::2], expected)


@pytest.mark.parametrize("points", [[[3, 4]], [[3, 4], [3, 4]]])
def test_a_stroke_that_never_moves_is_all_zeros(points):
    assert not stroke_features(np.array(points)).any()


def test_classes_are_balanced_and_shapes_are_the_outlines(task):
    samples = task.training_samples(stream(), 31)
    assert samples.inputs.shape == (31, 64)
    assert sorted(samples.targets.sum(axis=0).tolist()) == [10, 10, 11]
    assert np.abs(samples.inputs).max() == 1.0
    outline = outline_task("gestures", {})
    assert (outline.input_shape, outline.outputs, outline.loss) == (
        task.input_shape,
        task.outputs,
        task.loss,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": 4}, "ways must be 2 to 3"),
        ({"rotations": 0}, "true or false"),
        ({"split": "x"}, "unknown split"),
        ({"turns": 1}, "unknown option of task gestures"),
    ],
)
def test_bad_options_are_named(npz, options, message):
    with pytest.raises(InvalidInput, match=message):
        make_task("gestures", options, npz)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.zeros((3, 2))}, "as long as the offsets say"),
        ({"points": np.zeros((2000, 3))}, "numbers (count, 2)"),
        ({"points": np.full((2000, 2), np.nan)}, "finite and at most 1e9"),
        ({"points": np.full((2000, 2), 1e300)}, "finite and at most 1e9"),
        ({"offsets": np.arange(41)[::-1]}, "begin at 0 and rise"),
        ({"offsets": np.arange(41) * 20_000}, "begin at 0 and rise by 1 to 10000"),
        ({"offsets": np.zeros((2, 2), int)}, "whole numbers"),
        ({"label": np.full(40, 8)}, "label must be 0 to 7"),
        ({"label": np.zeros(3, int)}, "whole number for each item"),
        ({"gestures": np.array(["wave"] * 8)}, "unknown gesture 'wave'"),
        ({"gestures": np.arange(8)}, "texts digit_0 to digit_9"),
        ({"gestures": np.array([f"digit_{d}" for d in (0, 0, 2, 2, 4, 4, 6, 8)])}, "ways must be"),
    ],
)
def test_arrays_of_no_use_are_refused(tmp_path, change, message):
    with pytest.raises(InvalidInput) as caught:
        make_task("gestures", {}, write_npz(tmp_path / "a.npz", **change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_data_is_named_with_the_remedy(tmp_path):
    for path in (None, tmp_path, tmp_path / "nowhere.npz"):
        with pytest.raises(InvalidInput, match=r"give gestures\.npz"):
            make_task("gestures", {}, path)


@pytest.mark.skipif(REAL_DATA is None, reason=NOWHERE.format("gestures.npz"))
def test_the_real_strokes_are_a_hundred_of_each_digit():
    task = make_task("gestures", {}, Path(REAL_DATA))
    assert [len(members) for members in task._evaluation] == [100, 100, 100]
    assert len(task._training) == 20

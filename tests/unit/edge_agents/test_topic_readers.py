"""Fields of messages: what a path means, and that no message can do harm."""

from array import array
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from topic_messages import flat, imu, in_axes, joints

from edge_agents.topic.readers import ARRAY, IMU, JOINTS, make_reader
from edge_agents.topic.refusals import Reason, RefusedMessage
from tinyfleet.errors import InvalidInput


def read(type: str, paths: list[str], message: Any) -> list[float]:
    return make_reader(type, paths).read(message).tolist()


def refusal(type: str, paths: list[str], message: Any) -> Reason:
    with pytest.raises(RefusedMessage) as caught:
        make_reader(type, paths).read(message)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_fields_of_an_imu_come_in_the_order_of_the_paths() -> None:
    paths = ["linear_acceleration.z", "angular_velocity.x", "orientation.w"]
    assert read(IMU, paths, imu((1, 2, 3))) == [3.0, 0.1, 1.0]


def test_what_an_imu_does_not_measure_is_refused_only_where_it_is_used() -> None:
    message = imu(orientation_covariance=[-1.0] + [0.0] * 8)
    assert refusal(IMU, ["orientation.x"], message) is Reason.NOT_MEASURED
    assert read(IMU, ["linear_acceleration.z"], message) == [9.8]


def test_joints_are_found_by_name_wherever_they_are() -> None:
    reader = make_reader(JOINTS, ["position[left]", "velocity[right]", "position[arm/1.0]"])
    first = joints(["left", "right", "arm/1.0"], position=[1, 2, 3], velocity=[4, 5, 6])
    other = joints(["arm/1.0", "right", "left"], position=[1, 2, 3], velocity=[4, 5, 6])
    assert reader.read(first).tolist() == [1, 5, 3]
    assert reader.read(other).tolist() == [3, 5, 1]
    assert reader.read(first).tolist() == [1, 5, 3]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (joints([]), Reason.JOINT),
        (joints(["right"], position=[1]), Reason.JOINT),
        (joints(["left", "left"], position=[1, 2]), Reason.JOINT),
        (joints(["left", "right"], position=[1]), Reason.SIZE),
        (joints(["left"]), Reason.SIZE),
        (joints(["left"], position=[1, 2]), Reason.SIZE),
        (joints(["left"] * 4097, position=[1] * 4097), Reason.LAYOUT),
    ],
)
def test_joints_that_are_not_there_once_are_refused(message: Any, reason: Reason) -> None:
    assert refusal(JOINTS, ["position[left]"], message) is reason


def test_a_message_after_a_refused_one_is_read_again() -> None:
    reader = make_reader(JOINTS, ["position[left]"])
    for _ in range(2):
        with pytest.raises(RefusedMessage):
            reader.read(joints(["right"], position=[1]))
        assert reader.read(joints(["left"], position=[7])).tolist() == [7]


def test_array_without_axes_is_read_from_its_offset_on() -> None:
    assert read(ARRAY, ["data[1]", "data[0:3]"], flat(9, 1, 2, 3, offset=1)) == [2, 1, 2, 3]


def test_axes_are_found_by_label_and_stride() -> None:
    """Two rows of three channels, each row padded to four values."""
    message = in_axes([("row", 2, 8), ("channel", 3, 4)], [9, *range(8)], offset=1)
    assert read(ARRAY, ["row[1].channel[0:2]", "channel[2].row[0]"], message) == [4, 5, 2]
    assert read(ARRAY, ["row[0:2].channel[1:3]"], message) == [1, 2, 5, 6]
    assert read(ARRAY, ["channel[1:3].row[0:2]"], message) == [1, 5, 2, 6]
    assert read(ARRAY, ["data[3]"], message) == [3]


def test_axis_of_one_need_not_be_named_and_the_first_stride_says_nothing() -> None:
    message = in_axes([("sample", 1, 0), ("x", 3, 3), ("", 1, 1)], [1, 2, 3])
    assert read(ARRAY, ["x[1:3]"], message) == [2, 3]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (flat(1, 2, 3), Reason.LAYOUT),
        (in_axes([("y", 3, 3)], [1, 2, 3]), Reason.LAYOUT),
        (in_axes([("x", 3, 3), ("x", 1, 1)], [1, 2, 3]), Reason.LAYOUT),
        (in_axes([("row", 2, 6), ("x", 3, 3)], [1] * 6), Reason.LAYOUT),
        (in_axes([("row", 1, 3), ("x", 3, 3), ("y", 1, 0)], [1] * 3), Reason.LAYOUT),
        (in_axes([("x", 3, 3), ("row", 1, 2), ("y", 1, 4)], [1] * 9), Reason.LAYOUT),
        (in_axes([("", 1, 1)] * 9, [1]), Reason.LAYOUT),
        (in_axes([("x" * 257, 1, 1)], [1]), Reason.LAYOUT),
        (in_axes([("x", 2, 2)], [1, 2, 3]), Reason.SIZE),
        (in_axes([("x", 3, 3)], [1, 2]), Reason.SIZE),
        (in_axes([("x", 3, 3)], [1, 2, 3], offset=1), Reason.SIZE),
        (in_axes([("x", 2**32 - 1, 0)], [], offset=2**32 - 1), Reason.LAYOUT),
        (in_axes([("x", 4, 0), ("y", 1, 2**32 - 1)], [1], offset=2), Reason.LAYOUT),
        (in_axes([("x", 0, 0)], []), Reason.SIZE),
    ],
)
def test_layout_in_which_the_field_is_not_is_refused(message: Any, reason: Reason) -> None:
    assert refusal(ARRAY, ["x[0:3]"], message) is reason


@pytest.mark.parametrize(
    ("type", "path", "message"),
    [
        (IMU, "linear_acceleration.w", "did you mean"),
        (IMU, "__class__", "unknown field of an Imu"),
        (JOINTS, "position", "position[joint]"),
        (JOINTS, "name[left]", "position[joint]"),
        (JOINTS, "position[left].x", "position[joint]"),
        (ARRAY, "x", "x[3], or x[0:6]"),
        (ARRAY, "x[-1]", "x[3]"),
        (ARRAY, "x[3:3]", "must count up"),
        (ARRAY, "x[0:99999999]", "must count up, to 16777216"),
        (ARRAY, "x[0].x[1]", "names an axis twice"),
        (ARRAY, ".".join(["x[0]"] * 9), "is no path"),
        (ARRAY, "x[0", "is no path"),
        (ARRAY, "", "is no path"),
        (ARRAY, "x[0].", "is no path"),
        (ARRAY, "x\n[0]\n", "is no path"),
        (ARRAY, "x[0:60000].y[0:60000]", "3600000000 values"),
    ],
)
def test_path_of_no_use_is_refused_in_one_line(type: str, path: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_reader(type, [path])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_paths_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no fields"):
        make_reader(IMU, [])


U32 = st.integers(0, 2**32 - 1) | st.integers(0, 12)
LAYOUTS = st.builds(
    lambda axes, offset, data: SimpleNamespace(
        layout=SimpleNamespace(
            dim=[SimpleNamespace(label=a, size=b, stride=c) for a, b, c in axes], data_offset=offset
        ),
        data=array("f", data),
    ),
    st.lists(st.tuples(st.sampled_from(["x", "y", "z", "", "data"]) | st.text(), U32, U32)),
    U32,
    st.lists(st.floats(width=32), max_size=64),
)
PATHS = st.lists(
    st.sampled_from(["x[0]", "x[0:3]", "y[1].x[0:2]", "z[2]", "data[5]", "x[16777215]"]),
    min_size=1,
    max_size=4,
)


@given(paths=PATHS, messages=st.lists(LAYOUTS, max_size=6))
def test_no_layout_does_harm(paths: list[str], messages: list[Any]) -> None:
    """Whatever came before: values of the message, as many as the paths say, or a refusal."""
    reader, said = make_reader(ARRAY, paths), []
    for message in messages:
        try:
            values = reader.read(message)
        except RefusedMessage as refused:
            said.append(str(refused))
        else:
            assert values.shape == (reader.width,)
            assert set(map(repr, values)) <= set(map(repr, np.asarray(message.data, np.float64)))
    assert all(len(line) < 400 and line.isprintable() for line in said)


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(sizes=SIZES, padding=st.integers(0, 2), offset=st.integers(0, 3), data=st.data())
def test_element_is_where_numpy_has_it(
    sizes: list[int], padding: int, offset: int, data: st.DataObject
) -> None:
    padded = [*sizes[:-1], sizes[-1] + padding]
    whole = np.arange(prod(padded), dtype=np.float32).reshape(padded)
    labels = "abcd"[: len(sizes)]
    strides = [prod(padded[index:]) for index in range(len(sizes))]
    message = in_axes(
        list(zip(labels, sizes, strides, strict=True)), [-1.0] * offset + whole.ravel().tolist(),
        offset,
    )  # fmt: skip
    index = [data.draw(st.integers(0, size - 1)) for size in sizes]
    path = ".".join(f"{label}[{i}]" for label, i in zip(labels, index, strict=True))
    everything = ".".join(f"{label}[0:{size}]" for label, size in zip(labels, sizes, strict=True))
    assert read(ARRAY, [path], message) == [whole[tuple(index)]]
    within = whole[tuple(slice(size) for size in sizes)]
    assert read(ARRAY, [everything], message) == within.ravel().tolist()


@given(
    names=st.lists(st.sampled_from(["left", "right", "a", ""]), max_size=6),
    position=st.lists(st.floats(), max_size=6),
)
def test_no_list_of_joints_does_harm(names: list[str], position: list[float]) -> None:
    reader = make_reader(JOINTS, ["position[left]", "position[right]"])
    try:
        values = reader.read(joints(names, position=position))
    except RefusedMessage:
        assert names.count("left") != 1 or names.count("right") != 1 or len(names) != len(position)
    else:
        expected = [position[names.index("left")], position[names.index("right")]]
        assert np.array_equal(values, expected, equal_nan=True)

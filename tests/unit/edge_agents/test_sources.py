"""Samples come from the run's task, or from a file that is checked before it is used."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agents.preparation import ProcessData
from edge_agents.sources import FileSource, TaskSource, load_own_data
from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Samples
from tinyfleet.run import SampleShape, make_run, training_samples
from tinyfleet.tasks import make_task
from tinyfleet.tasks.holders import held_by

SINE = make_task("sine", {})


def counting(count: int) -> FileSource:
    column = np.arange(count, dtype=np.float32)[:, np.newaxis]
    return FileSource(Samples(column, -column))


def test_task_source_draws_what_the_slot_learns_from() -> None:
    drawn = TaskSource(SINE, 9).draw(round=4, slot=2, count=16)
    expected = training_samples(SINE, 9, 4, 2, 16)
    assert np.array_equal(drawn.inputs, expected.inputs)
    assert np.array_equal(drawn.targets, expected.targets)


def test_a_holder_trains_on_its_own_data_whatever_the_slot(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    inputs = np.arange(200, dtype=np.float32)[:, np.newaxis]
    np.savez(path, inputs=inputs, labels=np.repeat(np.arange(10), 20))
    task = make_task("table", {"ways": 2, "holders": 3, "alpha": 1}, path)
    run = make_run(task, "tiny_reptile", 10, 4)
    parts = []
    for holder in (1, 2):
        source = ProcessData(path, None, holder).for_a_member()(run)
        own = held_by(task, holder)
        drawn = [source.draw(index, 0, 9) for index in range(20)]
        expected = [training_samples(own, 4, index, 0, 9) for index in range(20)]
        assert all(
            np.array_equal(one.inputs, other.inputs)
            for one, other in zip(drawn, expected, strict=True)
        )
        parts.append({float(value) for one in drawn for value in one.inputs[:, 0]})
    assert parts[0].isdisjoint(parts[1])


def test_a_holder_that_a_run_does_not_have_is_refused(tmp_path: Path) -> None:
    run = make_run(SINE, "tiny_reptile", 10, 4)
    with pytest.raises(InvalidInput, match="task 'sine' has no holders: leave --holder out"):
        ProcessData(None, None, 1).for_a_member()(run)


def test_task_that_does_not_fit_the_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="task 'sine' gives"):
        TaskSource(SINE, 1).check(SampleShape((1, 1, 2), 1, "mean_squared_error"))
    TaskSource(SINE, 1).check(SampleShape((1, 1, 1), 1, "mean_squared_error"))


@given(length=st.integers(1, 50), counts=st.lists(st.integers(1, 120), max_size=5))
def test_own_data_come_in_order_and_start_again(length: int, counts: list[int]) -> None:
    source = counting(length)
    drawn = [source.draw(0, 0, count).inputs[:, 0] for count in counts]
    expected = np.arange(sum(counts)) % length
    assert np.array_equal(np.concatenate([*drawn, np.zeros(0)]), expected)


def test_own_data_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidInput, match="1 inputs and 1 targets"):
        counting(3).check(SampleShape((1, 1, 2), 1, "mean_squared_error"))
    counting(3).check(SampleShape((1, 1, 1), 1, "mean_squared_error"))


def test_own_data_are_read_as_rows_of_float32(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.savez(tmp_path / "own.npz", inputs=images, targets=np.array([0.5, 1.5]))
    drawn = load_own_data(tmp_path / "own.npz").draw(0, 0, 2)
    assert drawn.inputs.dtype == drawn.targets.dtype == np.float32
    assert np.array_equal(drawn.inputs, images.reshape(2, 12))
    assert np.array_equal(drawn.targets, [[0.5], [1.5]])


GOOD = np.ones((4, 1))
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an array missing": ({"inputs": GOOD}, "inputs and targets"),
    "pickles": ({"inputs": np.array([{}] * 4), "targets": GOOD}, "cannot be used"),
    "text": ({"inputs": np.array(["a"] * 4), "targets": GOOD}, "real numbers"),
    "complex numbers": ({"inputs": GOOD * 1j, "targets": GOOD}, "real numbers"),
    "a scalar": ({"inputs": np.float32(1), "targets": GOOD}, "real numbers"),
    "no sample": ({"inputs": np.ones((0, 1)), "targets": np.ones((0, 1))}, "a sample"),
    "counts that differ": ({"inputs": np.ones((3, 1)), "targets": GOOD}, "3 inputs but 4"),
    "NaN": ({"inputs": GOOD * np.nan, "targets": GOOD}, "not finite"),
    "numbers beyond float32": ({"inputs": GOOD * 1e300, "targets": GOOD}, "not finite"),
}


@pytest.mark.parametrize("case", BAD)
def test_own_data_of_no_use_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    arrays, message = BAD[case]
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(InvalidInput, match=message) as caught:
        load_own_data(tmp_path / "own.npz")
    assert "\n" not in str(caught.value)


def test_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    with pytest.raises(InvalidInput, match="cannot read"):
        load_own_data(path)
    path.write_bytes(b"neither zip nor npz")
    with pytest.raises(InvalidInput, match="cannot be used"):
        load_own_data(path)
    np.savez(path, inputs=np.ones((500, 7)), targets=np.ones((500, 1)))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(InvalidInput, match="cannot be used"):
        load_own_data(path)


def test_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.npz"
    monkeypatch.setattr("edge_agents.sources.MAX_OWN_BYTES", 10_000)
    np.savez_compressed(path, inputs=np.zeros((40, 31)), targets=np.zeros(40))
    with pytest.raises(InvalidInput, match="more than 10000 bytes"):
        load_own_data(path)
    np.savez_compressed(path, inputs=np.zeros((40, 20)), targets=np.zeros(40))
    load_own_data(path)


def test_a_header_that_does_not_end_is_refused(tmp_path: Path) -> None:
    """NumPy reads an array's header as Python, and so fails as Python does."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), ".ljust(0x75) + b"\n"
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("inputs", "targets"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00\x76\x00" + header)
    with pytest.raises(InvalidInput, match="cannot be used"):
        load_own_data(path)

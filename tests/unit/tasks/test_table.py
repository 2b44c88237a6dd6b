"""A table of one's own: what its arrays mean, who tests, and one line for what is no table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import check_fits, make_run
from tinyfleet.tasks import make_task, outline_task

GROUPS, EACH = 10, 12


def stream(index=0):
    return RandomStream(1, Purpose.TRAINING_TASK, index)


def write(path, **arrays):
    """Inputs are their own number and the number of their group (or class)."""
    number = np.arange(GROUPS * EACH)
    base = {"inputs": np.stack([number, number // EACH], axis=1).astype(np.float64)}
    np.savez(path, **{k: v for k, v in (base | arrays).items() if v is not None})
    return path


OWNER = np.repeat(np.arange(GROUPS), EACH)
NAMES = np.array([f"c{owner}" for owner in OWNER])
KIND = np.tile([0, 1, 2], GROUPS * EACH // 3)


def test_labels_alone_make_problems_of_new_classes(tmp_path):
    task = make_task("table", {"ways": 2}, write(tmp_path / "a.npz", labels=NAMES))
    assert dict(task.options) == {"input_shape": "1x1x2", "ways": 2}
    trained, tested = set(), set()
    for index in range(40):
        trained |= set(task.training_samples(stream(index), 8).inputs[:, 1].tolist())
        problem = task.evaluation_problem(stream(index), 2, 3)
        assert problem.support.targets.sum(axis=0).tolist() == [2, 2]
        tested |= set(problem.query.inputs[:, 1].tolist())
    assert tested == {4, 9}  # every fifth
    assert trained == set(range(10)) - tested


def test_targets_and_groups_make_problems_of_one_group(tmp_path):
    path = write(tmp_path / "a.npz", targets=OWNER * 2.0, groups=NAMES, evaluation=np.array(["c3"]))
    task = make_task("table", {}, path)
    assert (task.outputs, task.loss) == (1, "mean_squared_error")
    for index in range(20):
        samples = task.training_samples(stream(index), 30)
        (owner,) = set(samples.inputs[:, 1].tolist())
        assert owner != 3
        assert (samples.targets == 2 * owner).all()
        assert len(set(samples.inputs[:, 0].tolist())) == EACH
        problem = task.evaluation_problem(stream(index), 4, 8)
        both = [*problem.support.inputs[:, 0], *problem.query.inputs[:, 0]]
        assert sorted(both) == list(range(36, 48))


def test_labels_and_groups_keep_what_a_class_means(tmp_path):
    task = make_task("table", {}, write(tmp_path / "a.npz", labels=KIND, groups=OWNER))
    assert task.outputs == 3
    for index in range(20):
        problem = task.evaluation_problem(stream(index), 1, 3)
        for part in (problem.support, problem.query):
            assert len(set(part.inputs[:, 1].tolist())) == 1
            assert (part.inputs[:, 0] % 3 == part.targets.argmax(axis=1)).all()
        assert problem.support.targets.sum(axis=0).tolist() == [1, 1, 1]
        assert not set(problem.support.inputs[:, 0]) & set(problem.query.inputs[:, 0])


@given(st.sampled_from(["a", "b", "c"]), st.integers(1, 50), st.integers(0, 99))
def test_any_number_of_samples_can_be_drawn(tmp_path_factory, kind, count, index):
    arrays = {
        "a": {"labels": NAMES},
        "b": {"labels": KIND, "groups": OWNER},
        "c": {"targets": OWNER, "groups": OWNER},
    }[kind]
    path = tmp_path_factory.getbasetemp() / f"{kind}.npz"
    task = make_task("table", {}, path if path.exists() else write(path, **arrays))
    samples = task.training_samples(stream(index), count)
    assert samples.inputs.shape == (count, 2)
    assert samples.targets.shape == (count, task.outputs)


@pytest.mark.parametrize(
    ("shape", "text"), [((), "1x1x1"), ((7,), "1x1x7"), ((4, 5), "4x5x1"), ((4, 5, 3), "4x5x3")]
)
def test_the_axes_of_a_sample_are_its_shape(tmp_path, shape, text):
    inputs = np.zeros((GROUPS * EACH, *shape), np.uint8)
    task = make_task("table", {}, write(tmp_path / "a.npz", inputs=inputs, labels=OWNER))
    assert task.options["input_shape"] == text
    run = make_run(task, "tiny_reptile", 1, 1)
    check_fits(task, run)
    assert run.sample_shape.inputs == inputs[0].size


def test_whoever_lacks_the_file_knows_the_shapes_from_the_run(tmp_path):
    path = write(tmp_path / "a.npz", labels=KIND, groups=OWNER)
    task = make_task("table", {}, path)
    outline = outline_task("table", task.options)
    for name in ("input_shape", "outputs", "loss", "options"):
        assert getattr(outline, name) == getattr(task, name)
    assert make_task("table", outline.options, path).options == task.options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": "1x1x3"}, "holds inputs of 1x1x2, not of 1x1x3"),
        ({"input_shape": "2"}, "HEIGHTxWIDTHxCHANNELS"),
        ({"input_shape": "1x1x-2"}, "HEIGHTxWIDTHxCHANNELS"),
        ({"input_shape": 2}, "HEIGHTxWIDTHxCHANNELS"),
        ({"input_shape": "1x1x999999"}, "out of range"),
        ({"ways": 4}, "has 3 ways, not 4"),
        ({"targets": 1}, "needs its data|takes its shapes|has 3 ways"),
        ({"way": 4}, "did you mean 'ways'"),
    ],
)
def test_options_that_do_not_fit_the_table_are_refused(tmp_path, options, message):
    path = write(tmp_path / "a.npz", labels=KIND, groups=OWNER)
    with pytest.raises(InvalidInput) as caught:
        make_task("table", options, path)
    assert any(part in str(caught.value) for part in message.split("|"))


@pytest.mark.parametrize(
    "options",
    [{}, {"ways": 5}, {"input_shape": "1x1x2"}, {"input_shape": "1x1x2", "ways": 2, "targets": 1}],
)
def test_an_outline_needs_the_shapes(options):
    with pytest.raises(InvalidInput, match="takes its shapes from its data"):
        outline_task("table", options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "either labels or targets"),
        ({"labels": OWNER, "targets": OWNER}, "either labels or targets"),
        ({"targets": OWNER}, "targets need groups"),
        ({"inputs": None, "labels": OWNER}, "has no array 'inputs'"),
        ({"inputs": np.array([None] * 120), "labels": OWNER}, "pickle"),
        ({"inputs": np.zeros((120, 2), complex), "labels": OWNER}, "real numbers"),
        ({"inputs": np.full((120, 2), np.nan), "labels": OWNER}, "not finite"),
        ({"inputs": np.full((120, 2), 1e300), "labels": OWNER}, "not finite"),
        ({"inputs": np.zeros((0, 2)), "labels": OWNER[:0]}, "real numbers"),
        ({"inputs": np.zeros((120, 1, 1, 1, 2)), "labels": OWNER}, "one to three axes"),
        ({"inputs": np.zeros((120, 70_000), bool), "labels": OWNER}, "out of range"),
        (
            {"inputs": np.broadcast_to(np.uint8(0), (1000, 60_000)), "labels": OWNER},
            "a text for each",
        ),
        ({"labels": OWNER[:-1]}, "for each sample"),
        ({"labels": OWNER * 0.5}, "whole number or a text"),
        ({"labels": np.zeros(120, int)}, "something to train on"),
        ({"targets": OWNER[:-1], "groups": OWNER}, "a row for each sample"),
        ({"targets": np.full(120, np.inf), "groups": OWNER}, "not finite"),
        ({"labels": OWNER, "evaluation": np.array([77])}, "names '77', nobody's"),
        ({"labels": OWNER, "evaluation": np.arange(10)}, "something to train on"),
        ({"labels": OWNER, "evaluation": np.arange(0)}, "something to train on"),
        ({"labels": np.zeros(120, int), "groups": OWNER}, "ways must be 2 to"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, change, message):
    with pytest.raises(InvalidInput) as caught:
        make_task("table", {}, write(tmp_path / "a.npz", **change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_large_a_table_is_refused_before_memory_is_taken(tmp_path):
    path = write(tmp_path / "a.npz", inputs=np.zeros((1200, 60_000), np.uint8), labels=OWNER)
    with pytest.raises(InvalidInput, match="more than 268435456 bytes"):
        make_task("table", {}, path)


def test_missing_files_and_more_shots_than_samples_are_told(tmp_path):
    for path in (None, tmp_path, tmp_path / "x.npz"):
        with pytest.raises(InvalidInput, match="with the arrays inputs and labels"):
            make_task("table", {}, path)
    for arrays in (
        {"labels": NAMES},
        {"labels": KIND, "groups": OWNER},
        {"targets": OWNER, "groups": OWNER},
    ):
        task = make_task("table", {}, write(tmp_path / "a.npz", **arrays))
        with pytest.raises(InvalidInput, match="ask for fewer"):
            task.evaluation_problem(stream(), 12, 1)

"""Omniglot: balanced problems, unseen ones in evaluation, and one clear line for bad data."""

import itertools
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omniglot_files import (
    CLASSES,
    DRAWINGS,
    alphabets,
    arrays,
    drawing,
    write_folders,
    write_npz,
    write_zips,
)

from tinyfleet.errors import InvalidInput
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.tasks import make_task, outline_task

REAL_DATA = os.environ.get("TINYFLEET_DATA")


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("omniglot") / "omniglot.npz")


@pytest.fixture(scope="module")
def task(npz):
    return make_task("omniglot", {}, npz)


def stream(index=0, seed=1):
    return RandomStream(seed, Purpose.TRAINING_TASK, index)


def drawings_of(split):
    """Every drawing of a split as float32 bytes, with its class."""
    data = arrays()
    wanted = data["images"][data["split"] == list(CLASSES).index(split)]
    scaled = (wanted / 255.0).astype(np.float32)
    return {image.tobytes(): number for number, group in enumerate(scaled) for image in group}


def found(image, drawings):
    """Class and quarter turns of an image among the drawings; None if it is not there."""
    for turns in range(4):
        back = np.ascontiguousarray(np.rot90(image.reshape(28, 28), -turns)).tobytes()
        if back in drawings:
            return drawings[back], turns
    return None


def test_training_samples_are_drawings_of_one_turned_class_per_label(task):
    drawings = drawings_of("background")
    turned = set()
    for index in range(20):
        samples = task.training_samples(stream(index), 25)
        by_label = {}
        for image, label in zip(samples.inputs, samples.targets.argmax(axis=1), strict=True):
            by_label.setdefault(int(label), []).append(found(image, drawings))
        assert sorted(by_label) == list(range(5))
        assert all(len(set(images)) == 1 and None not in images for images in by_label.values())
        assert len({images[0] for images in by_label.values()}) == 5
        turned |= {images[0][1] for images in by_label.values()}
    assert turned == {0, 1, 2, 3}


def test_without_rotations_nothing_is_turned(npz):
    plain = make_task("omniglot", {"rotations": False}, npz)
    drawings = drawings_of("background")
    for index in range(10):
        samples = plain.training_samples(stream(index), 10)
        assert all(found(image, drawings)[1] == 0 for image in samples.inputs)


@given(st.integers(1, 80), st.integers(0, 1000))
def test_classes_are_balanced_and_targets_one_hot(task, count, index):
    samples = task.training_samples(stream(index), count)
    assert samples.inputs.shape == (count, 784)
    assert samples.targets.shape == (count, 5)
    assert (samples.targets.sum(axis=1) == 1.0).all()
    per_class = samples.targets.sum(axis=0)
    assert per_class.max() - per_class.min() <= 1.0


def test_a_drawing_comes_once_while_there_are_others(task):
    samples = task.training_samples(stream(), 5 * DRAWINGS)
    assert len({image.tobytes() for image in samples.inputs}) == 5 * DRAWINGS


def test_labels_come_in_random_order(task):
    labels = task.training_samples(stream(), 30).targets.argmax(axis=1).tolist()
    assert labels != sorted(labels)
    assert labels != [index % 5 for index in range(30)]


def test_evaluation_problems_are_of_classes_that_training_never_draws(task):
    drawings = drawings_of("evaluation")
    for index in range(10):
        problem = task.evaluation_problem(stream(index), 2, 3)
        assert (len(problem.support), len(problem.query)) == (10, 15)
        for part in (problem.support, problem.query):
            assert all(found(image, drawings)[1] == 0 for image in part.inputs)


def test_support_and_query_share_classes_but_no_drawing(task):
    drawings = drawings_of("evaluation")
    problem = task.evaluation_problem(stream(), 3, 3)
    classes = []
    for part in (problem.support, problem.query):
        labels = part.targets.argmax(axis=1).tolist()
        pairs = zip(part.inputs, labels, strict=True)
        classes.append({label: found(image, drawings)[0] for image, label in pairs})
    assert classes[0] == classes[1]
    support = {image.tobytes() for image in problem.support.inputs}
    assert not support & {image.tobytes() for image in problem.query.inputs}


def test_the_same_stream_gives_the_same_samples(npz):
    one, two = (make_task("omniglot", {}, npz).training_samples(stream(), 25) for _ in range(2))
    assert np.array_equal(one.inputs, two.inputs)
    assert np.array_equal(one.targets, two.targets)


def test_pixels_are_between_paper_and_ink(task):
    inputs = task.training_samples(stream(), 25).inputs
    assert inputs.dtype == np.float32
    assert (inputs.min(), inputs.max()) == (0.0, 1.0)


def test_more_shots_than_drawings_are_refused(task):
    with pytest.raises(InvalidInput, match="has 6 drawings, 5 shots and 2 queries"):
        task.evaluation_problem(stream(), 5, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": 1}, "ways must be 2 to"),
        ({"ways": 8}, "ways must be 2 to 7"),
        ({"ways": "5"}, "whole number"),
        ({"ways": True}, "whole number"),
        ({"rotations": 1}, "true or false"),
        ({"way": 5}, "unknown option of task omniglot 'way': did you mean 'ways'"),
    ],
)
def test_bad_options_are_named(npz, options, message):
    with pytest.raises(InvalidInput, match=message):
        make_task("omniglot", options, npz)


def test_the_number_of_ways_is_the_number_of_outputs(npz):
    task = make_task("omniglot", {"ways": 7}, npz)
    assert task.outputs == 7
    assert dict(task.options) == {"ways": 7, "rotations": True}
    assert task.training_samples(stream(), 14).targets.sum(axis=0).tolist() == [2.0] * 7


@pytest.mark.parametrize("rotations", [True, False])
def test_every_turn_of_a_training_character_is_a_training_class(npz, rotations):
    task = make_task("omniglot", {"rotations": rotations}, npz)
    classes = task.training_classes
    assert classes.count == CLASSES["background"] * (4 if rotations else 1)
    samples = classes.draw(stream(), 200)
    drawings, each = drawings_of("background"), 4 if rotations else 1
    labels = samples.targets.argmax(axis=1).tolist()
    for image, label in zip(samples.inputs, labels, strict=True):
        assert found(image, drawings) == divmod(label, each)
    assert len(set(labels)) == classes.count


def test_validation_tests_on_every_fifth_background_alphabet_and_does_not_train_on_it(npz):
    task = make_task("omniglot", {"split": "validation", "ways": 2}, npz)
    held_out = [number for number, name in enumerate(alphabets()) if name == "E"]
    drawings = drawings_of("background")
    tested = {
        found(image, drawings)[0]
        for index in range(10)
        for image in task.evaluation_problem(stream(index), 2, 2).query.inputs
    }
    trained = {
        found(image, drawings)[0]
        for index in range(40)
        for image in task.training_samples(stream(index), 4).inputs
    }
    assert tested == set(held_out)
    assert trained == set(range(CLASSES["background"])) - tested


def test_validation_is_the_same_in_folders_and_zips(tmp_path):
    folders, zips = tmp_path / "folders", tmp_path / "zips"
    folders.mkdir()
    zips.mkdir()
    options = {"split": "validation", "ways": 2}
    one, two = (
        make_task("omniglot", options, path) for path in (write_folders(folders), write_zips(zips))
    )
    assert len(one._test_images) == 2 * DRAWINGS
    assert len(one._training_images) == 6 * DRAWINGS
    for index in range(3):
        problems = [task.evaluation_problem(stream(index), 1, 2) for task in (one, two)]
        assert np.array_equal(problems[0].query.inputs, problems[1].query.inputs)


def test_validation_needs_alphabets(tmp_path):
    options = {"split": "validation", "ways": 2}
    one = np.array(["A"] * 15)
    assert "needs 5 background" in refused(write_npz(tmp_path / "a.npz", alphabet=one), options)
    odd = write_npz(tmp_path / "b.npz", alphabet=one[:3])
    assert "one text for each class" in refused(odd, options)
    names = arrays()
    del names["alphabet"]
    np.savez(tmp_path / "c.npz", **names)
    assert "no array 'alphabet'" in refused(tmp_path / "c.npz", options)
    assert make_task("omniglot", {}, tmp_path / "c.npz").drawings == DRAWINGS
    assert "did you mean 'test'" in refused(tmp_path / "c.npz", {"split": "tests"})


def test_what_a_run_carries_is_what_it_was_where_the_split_is_the_usual_one(npz):
    assert dict(make_task("omniglot", {"split": "test"}, npz).options) == {
        "ways": 5,
        "rotations": True,
    }
    assert outline_task("omniglot", {"split": "validation"}).options["split"] == "validation"


def test_what_a_model_needs_is_known_without_data(task):
    outline = outline_task("omniglot", {})
    for name in ("input_shape", "outputs", "loss", "options", "recommended", "default_model"):
        assert getattr(outline, name) == getattr(task, name)
    assert outline_task("omniglot", {"ways": 20}).outputs == 20


@pytest.mark.parametrize("options", [{"ways": 1}, {"ways": 2000}, {"ways": True}, {"way": 5}])
def test_options_that_no_data_could_suit_are_refused_without_data(options):
    with pytest.raises(InvalidInput, match="way"):
        outline_task("omniglot", options)


def test_folder_and_zips_of_the_official_drawings_are_the_same_task(tmp_path):
    folder, zips = tmp_path / "folders", tmp_path / "zips"
    folder.mkdir()
    zips.mkdir()
    paths = [write_folders(folder), write_zips(zips), folder / "images_background"]
    paths.append(zips / "images_evaluation.zip")
    samples = [make_task("omniglot", {}, path).training_samples(stream(), 25) for path in paths]
    assert all(np.array_equal(samples[0].inputs, other.inputs) for other in samples[1:])
    assert samples[0].inputs.any()


def test_official_drawings_become_means_over_boxes_of_their_ink(tmp_path):
    task = make_task("omniglot", {"rotations": False}, write_folders(tmp_path))
    ink = 255 - drawing(0).astype(np.float64)
    centres = np.arange(105) + 0.5
    edges = np.arange(29) * 3.75
    boxes = [(centres > low) & (centres <= high) for low, high in itertools.pairwise(edges)]
    expected = [[np.round(ink[rows][:, columns].mean()) for columns in boxes] for rows in boxes]
    stored = task._training_images.read(np.array([0]))[0] * 255.0
    # Means are rounded after each direction, so they may be off by one.
    assert np.abs(stored - np.ravel(expected)).max() <= 1.0 + 1e-4


def test_a_folder_with_the_npz_in_it_is_enough(npz):
    assert make_task("omniglot", {}, npz.parent).drawings == DRAWINGS


def refused(path, options=None):
    """The one line with which data is refused, whether at once or when it is first used."""
    with pytest.raises(InvalidInput) as caught:
        make_task("omniglot", options or {}, path).training_samples(stream(), 5)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_missing_data_is_named_with_the_remedy(tmp_path):
    assert "needs its data: give omniglot.npz" in refused(None)
    assert "no Omniglot data at" in refused(tmp_path / "none.npz")
    assert "neither images_background nor" in refused(tmp_path)


def test_pickles_are_refused(tmp_path):
    pickled = np.array([{"a": 1}] * 15, dtype=object)
    assert "is pickled" in refused(write_npz(tmp_path / "a.npz", split=pickled))
    assert "is pickled" in refused(write_npz(tmp_path / "b.npz", images=pickled))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((15, 6, 28, 27), np.uint8)}, "images must be uint8"),
        ({"images": np.zeros((15, 6, 28, 28), np.float32)}, "images must be uint8"),
        ({"images": np.zeros((15, 1, 28, 28), np.uint8)}, "15 classes of 1 drawings"),
        ({"split": np.zeros(14, np.uint8)}, "one number for each class"),
        ({"split": np.zeros(15, np.float32)}, "one number for each class"),
        ({"split_names": np.array(["train", "evaluation"])}, "lacks background"),
        ({"split": np.zeros(15, np.uint8)}, "ways must be 2 to 0"),
    ],
)
def test_arrays_of_the_wrong_shape_are_refused(tmp_path, change, message):
    assert message in refused(write_npz(tmp_path / "a.npz", **change))


def test_an_archive_without_the_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    assert "has no array 'images'" in refused(tmp_path / "a.npz")


def test_a_header_that_promises_more_than_the_file_has_is_refused(tmp_path):
    huge = b"\x93NUMPY\x01\x00\x76\x00"
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (15, 6000000, 28, 28), }"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", huge + header.ljust(0x75) + b"\n")
    assert "cut short" in refused(tmp_path / "a.npz")


def test_a_header_that_does_not_end_is_refused(tmp_path):
    """NumPy reads an array's header as Python, and so fails as Python does."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (15, 20, 28, 28), ".ljust(0x75)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in ("images", "alphabet", "split", "split_names"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00\x76\x00" + header + b"\n")
    assert "a.npz" in refused(tmp_path / "a.npz")


@settings(max_examples=60, deadline=None)
@given(cut=st.booleans(), where=st.floats(0.0, 1.0, exclude_max=True), change=st.integers(1, 255))
def test_a_damaged_file_gives_one_line_or_the_same_samples(npz, task, cut, where, change):
    good = npz.read_bytes()
    at = int(where * len(good))
    damaged = good[:at] if cut else good[:at] + bytes([good[at] ^ change]) + good[at + 1 :]
    path = npz.with_name("damaged.npz")
    path.write_bytes(damaged)
    try:
        samples = make_task("omniglot", {}, path).training_samples(stream(), 25)
    except InvalidInput as error:
        samples, line = task.training_samples(stream(), 25), str(error)
    else:
        line = ""
    assert "\n" not in line
    assert np.array_equal(samples.inputs, task.training_samples(stream(), 25).inputs)


def test_characters_with_different_numbers_of_drawings_are_refused(tmp_path):
    write_folders(tmp_path)
    next(tmp_path.glob("images_background/*/*/*_06.png")).unlink()
    assert "same number of drawings" in refused(tmp_path)


def test_a_drawing_that_is_no_drawing_is_refused(tmp_path):
    write_folders(tmp_path)
    next(tmp_path.glob("images_background/*/*/*.png")).write_bytes(b"GIF89a")
    assert "not a PNG image" in refused(tmp_path)


@pytest.mark.skipif(REAL_DATA is None, reason="TINYFLEET_DATA does not say where Omniglot is")
def test_the_real_data_has_what_the_readme_says():
    path = Path(REAL_DATA)
    task = make_task("omniglot", {}, path / "omniglot.npz" if path.is_dir() else path)
    assert (len(task._training_images), len(task._test_images)) == (964 * 20, 292 * 20)
    assert task._training_images.nbytes < 4_500_000


@pytest.mark.skipif(REAL_DATA is None, reason="TINYFLEET_DATA does not say where Omniglot is")
def test_the_real_data_have_six_alphabets_to_choose_settings_by():
    path = Path(REAL_DATA)
    path = path / "omniglot.npz" if path.is_dir() else path
    task = make_task("omniglot", {"split": "validation"}, path)
    assert len(task._training_images) + len(task._test_images) == 964 * 20
    assert len(task._test_images) == 233 * 20

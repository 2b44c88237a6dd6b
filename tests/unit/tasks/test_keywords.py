"""Keywords: balanced problems, words that only test, owners, and one clear line for bad data."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_data import NOWHERE, real_file
from sound_files import (
    CLIPS,
    DIGITS,
    SPEAKERS,
    TRAINING,
    clip,
    clips,
    write_folder,
    write_npz,
    write_wav,
)

from tinyfleet.errors import InvalidInput
from tinyfleet.learner import make_learner
from tinyfleet.learner.memory import memory_needed
from tinyfleet.learner.targets import MEMORY_BYTES
from tinyfleet.model import initial_parameters
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import fitting_model
from tinyfleet.strategies.plan import Phase
from tinyfleet.tasks import make_task, outline_task
from tinyfleet.tasks.keywords import split_words
from tinyfleet.tasks.mfcc import mfcc

REAL_DATA = real_file("speech_commands.npz")


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("words") / "speech_commands.npz")


@pytest.fixture(scope="module")
def task(npz):
    """Clips as they are; `augmented` is the default."""
    return make_task("keywords", {"ways": 3, "augment": False}, npz)


@pytest.fixture(scope="module")
def known():
    """Word and speaker of each clip, by its features."""
    found = {}
    for word, speaker, sound in clips():
        found[(mfcc(sound) / np.float32(32)).astype(np.float32).tobytes()] = (word, speaker)
    assert len(found) == CLIPS * 9
    return found


def stream(index=0, seed=1):
    return RandomStream(seed, Purpose.TRAINING_TASK, index)


def told(samples, known):
    """Word and speaker of each sample."""
    return [known[row.tobytes()] for row in samples.inputs]


def test_training_takes_commands_and_tests_take_digits(task, known):
    trained, tested = set(), set()
    for index in range(30):
        trained |= {word for word, _ in told(task.training_samples(stream(index), 12), known)}
        problem = task.evaluation_problem(stream(index), 2, 3)
        for part in (problem.support, problem.query):
            tested |= {word for word, _ in told(part, known)}
    assert trained == set(TRAINING)
    assert tested == set(DIGITS)


def test_every_training_word_is_a_class_and_its_echo_another(task, npz, known):
    samples = task.training_classes.draw(stream(), 100)
    words = [word for word, _ in told(samples, known)]
    assert samples.targets.shape == (100, len(TRAINING))
    assert [sorted(TRAINING)[label] for label in samples.targets.argmax(axis=1)] == words
    both = make_task("keywords", {"ways": 3}, npz).training_classes
    assert both.count == 2 * len(TRAINING)
    assert both.draw(stream(), 10).targets.shape == (10, both.count)


def test_validation_takes_neither_digits_nor_words_that_it_trains_on(npz, known):
    task = make_task("keywords", {"ways": 2, "split": "validation", "augment": False}, npz)
    trained, tested = set(), set()
    for index in range(30):
        trained |= {word for word, _ in told(task.training_samples(stream(index), 8), known)}
        tested |= {
            word for word, _ in told(task.evaluation_problem(stream(index), 1, 1).query, known)
        }
    assert tested == {"go", "right"}
    assert trained == set(TRAINING) - tested


@given(
    st.sets(st.sampled_from([*TRAINING, *DIGITS, "tree", "yes"])),
    st.sampled_from(["test", "validation"]),
)
def test_no_word_is_trained_and_tested(words, split):
    training, evaluation = split_words(sorted(words), split)
    assert not set(training) & set(evaluation)
    assert split == "validation" or sorted(training + evaluation) == sorted(words)


@given(st.integers(1, 60), st.integers(0, 1000))
def test_words_are_balanced_and_targets_one_hot(task, count, index):
    samples = task.training_samples(stream(index), count)
    assert (samples.inputs.shape, samples.targets.shape) == ((count, 490), (count, 3))
    assert (samples.targets.sum(axis=1) == 1.0).all()
    per_word = samples.targets.sum(axis=0)
    assert per_word.max() - per_word.min() <= 1.0


def test_a_label_stands_for_one_word(task, known):
    samples = task.training_samples(stream(), 3 * CLIPS)
    words = [word for word, _ in told(samples, known)]
    pairs = set(zip(samples.targets.argmax(axis=1).tolist(), words, strict=True))
    assert len(pairs) == 3
    assert len({row.tobytes() for row in samples.inputs}) == 3 * CLIPS  # each clip once


def test_support_and_query_share_words_but_no_clip(task, known):
    problem = task.evaluation_problem(stream(), 2, 4)
    support = {row.tobytes() for row in problem.support.inputs}
    assert not support & {row.tobytes() for row in problem.query.inputs}
    names = [
        {
            (int(t.argmax()), known[x.tobytes()][0])
            for x, t in zip(part.inputs, part.targets, strict=True)
        }
        for part in (problem.support, problem.query)
    ]
    assert names[0] == names[1]


def test_inputs_are_exact_multiples_of_a_thirty_second(task):
    inputs = task.training_samples(stream(), 30).inputs
    assert np.array_equal(inputs * 32, np.rint(inputs * 32))
    assert inputs.min() >= -4.0
    assert inputs.max() < 4.0


def test_augmented_words_are_moved_and_also_play_backwards(npz, task):
    augmented = make_task("keywords", {"ways": 3}, npz)
    clips_ = task._features.reshape(-1, 49, 10)
    found = set()
    for index in range(12):
        samples = augmented.training_samples(stream(index), 9)
        ways = {}
        for row, target in zip(samples.inputs * 32, samples.targets, strict=True):
            middle = row.reshape(49, 10)[4:-4].astype(int)
            places = [
                (word // CLIPS, backwards, by)
                for word, clip_ in enumerate(clips_)
                for backwards in (False, True)
                for by in range(-4, 5)
                if np.array_equal(clip_[:: -1 if backwards else 1][4 + by : 45 + by], middle)
            ]
            assert len({place[:2] for place in places}) == 1
            ways.setdefault(int(target.argmax()), set()).add(places[0][:2])
            found.add((places[0][1], places[0][2]))
        assert all(len(same) == 1 for same in ways.values())
    assert {backwards for backwards, _ in found} == {False, True}
    assert {by for _, by in found} == set(range(-4, 5))


def test_problems_to_test_on_are_never_augmented(npz, task):
    augmented = make_task("keywords", {"ways": 3}, npz)
    one, two = (t.evaluation_problem(stream(), 2, 3) for t in (augmented, task))
    assert np.array_equal(one.support.inputs, two.support.inputs)
    assert np.array_equal(one.query.inputs, two.query.inputs)


def test_per_speaker_a_problem_is_one_persons(npz, known):
    task = make_task("keywords", {"ways": 3, "per_speaker": True, "augment": False}, npz)
    assert task.owners == len(SPEAKERS)
    seen = set()
    for index in range(20):
        (speaker,) = {
            speaker for _, speaker in told(task.training_samples(stream(index), 18), known)
        }
        seen.add(speaker)
    assert seen == set(SPEAKERS)


def test_folder_and_npz_give_the_same_clips(tmp_path, npz, known):
    folder = make_task("keywords", {"ways": 3, "augment": False}, write_folder(tmp_path))
    assert folder.training_words == make_task("keywords", {"ways": 3}, npz).training_words
    assert set(told(folder.training_samples(stream(), 18), known)) <= set(known.values())


def test_the_same_stream_gives_the_same_samples(npz):
    tasks = [make_task("keywords", {"ways": 3}, npz.parent) for _ in range(2)]
    one, two = (task.training_samples(stream(), 9) for task in tasks)
    assert np.array_equal(one.inputs, two.inputs)
    assert np.array_equal(one.targets, two.targets)


def test_what_a_model_needs_is_known_without_data(task):
    outline = outline_task("keywords", {"ways": 3, "augment": False})
    for name in ("input_shape", "outputs", "loss", "options", "recommended", "default_model"):
        assert getattr(outline, name) == getattr(task, name)


def test_the_model_for_words_fits_the_board_and_learns(task):
    model = fitting_model(task)
    assert memory_needed(model).online_bytes <= MEMORY_BYTES
    assert model.outputs == 3
    learner, parameters = make_learner(model, "auto"), initial_parameters(model, 1).copy()
    samples = task.training_samples(stream(), 1)
    before = learner.losses(parameters, samples)[0]
    learner.train(parameters, samples, Phase(1, 0.05, passes=10))
    assert learner.losses(parameters, samples)[0] < before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": 1}, "ways must be 2 to"),
        ({"ways": 4}, "ways must be 2 to 3, got 4"),
        ({"ways": "4"}, "whole number"),
        ({"per_speaker": 1}, "true or false"),
        ({"augment": "no"}, "augment must be true or false"),
        ({"split": "train"}, "unknown split 'train'"),
        ({"split": 5}, "unknown split '5'"),
        ({"speaker": True}, "did you mean 'per_speaker'"),
    ],
)
def test_bad_options_are_named(npz, options, message):
    with pytest.raises(InvalidInput, match=message):
        make_task("keywords", {"ways": 3} | options, npz)


def test_more_shots_than_clips_are_refused(task):
    with pytest.raises(InvalidInput, match="has 6 samples, 5 shots and 2 queries"):
        task.evaluation_problem(stream(), 5, 2)


def test_per_speaker_needs_speakers_of_enough_words(tmp_path):
    alone = np.array([f"{number:08x}" for number in range(CLIPS * 9)])
    path = write_npz(tmp_path / "a.npz", speaker=alone)
    with pytest.raises(InvalidInput, match="no speaker says 3 of the training words"):
        make_task("keywords", {"ways": 3, "per_speaker": True}, path)


def refused(path):
    with pytest.raises(InvalidInput) as caught:
        make_task("keywords", {"ways": 3}, path)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_missing_data_is_named_with_the_remedy(tmp_path):
    assert "needs its data: give speech_commands.npz" in refused(None)
    assert "no spoken words at" in refused(tmp_path / "nowhere")
    assert "holds no clip" in refused(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"waveform": np.zeros(10, np.int16)}, "as long as the offsets say"),
        ({"waveform": np.zeros((900_000, 1), np.int16)}, "waveform must be int16"),
        ({"waveform": np.full(900_000, np.nan)}, "waveform must be int16"),
        ({"waveform": np.array([None] * 4)}, "pickle"),
        ({"offsets": np.arange(3)}, "a text for each clip"),
        ({"offsets": np.arange(55)[::-1]}, "begin at 0 and rise"),
        ({"offsets": np.arange(55) * 16_001}, "begin at 0 and rise by 1 to 16000"),
        ({"offsets": np.full(55, 2**63 - 1)}, "begin at 0"),
        ({"offsets": np.zeros(55, np.int64)}, "begin at 0 and rise by 1"),
        ({"offsets": np.linspace(0, 1, 55)}, "whole numbers"),
        ({"offsets": np.int64(3)}, "whole numbers"),
        ({"label": np.full(54, 9)}, "label must be 0 to 8"),
        ({"label": np.full(54, -1)}, "label must be 0 to 8"),
        ({"label": np.zeros(54)}, "whole number for each item"),
        ({"words": np.arange(9)}, "words must be 1 to 1000 texts"),
        ({"speaker": np.array(["a"])}, "a text for each clip"),
        ({"sample_rate": np.int32(8_000)}, "sample_rate must be 16000"),
        ({"sample_rate": np.array([16_000, 16_000])}, "sample_rate must be 16000"),
        ({"words": np.array([f"w{i}" for i in range(9)])}, "ways must be 2 to 0"),
    ],
)
def test_arrays_of_no_use_are_refused(tmp_path, change, message):
    assert message in refused(write_npz(tmp_path / "a.npz", **change))


@pytest.mark.parametrize(
    "missing", ["waveform", "offsets", "label", "words", "speaker", "sample_rate"]
)
def test_a_missing_array_is_named(tmp_path, npz, missing):
    with zipfile.ZipFile(npz) as whole, zipfile.ZipFile(tmp_path / "a.npz", "w") as part:
        for name in whole.namelist():
            if name != f"{missing}.npy":
                part.writestr(name, whole.read(name))
    assert f"has no array '{missing}'" in refused(tmp_path / "a.npz")


@settings(max_examples=30)
@given(cut=st.booleans(), where=st.floats(0.0, 1.0, exclude_max=True), change=st.integers(1, 255))
def test_a_damaged_file_gives_one_line_or_the_same_task(npz, task, cut, where, change):
    good = npz.read_bytes()
    at = int(where * len(good))
    damaged = good[:at] if cut else good[:at] + bytes([good[at] ^ change]) + good[at + 1 :]
    path = npz.with_name("damaged.npz")
    path.write_bytes(damaged)
    line = ""
    try:
        features = make_task("keywords", {"ways": 3}, path)._features
    except InvalidInput as error:
        features, line = task._features, str(error)
    assert "\n" not in line
    assert np.array_equal(features, task._features)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b""), "cut short"),
        (lambda path: path.write_bytes(b"RIFF\x00\x00\x00\x00WAVE"), "bed/a_nohash_0.wav"),
        (lambda path: path.write_bytes(b"ID3" * 100), "RIFF"),
        (lambda path: write_wav(path, clip(0, 0), channels=2), "mono, 16 bits"),
        (lambda path: write_wav(path, clip(0, 0), rate=8_000), "16000 Hz"),
        (lambda path: write_wav(path, clip(0, 0), width=1), "mono, 16 bits"),
        (lambda path: write_wav(path, clip(0, 0, 16_001)), "1 to 16000 samples"),
        (lambda path: write_wav(path, clip(0, 0, 0)), "1 to 16000 samples"),
        (lambda path: cut_short(write_wav(path, clip(0, 0))), "cut short"),
        (lambda path: path.mkdir(), "bed/a_nohash_0.wav|directory"),
    ],
)
def test_a_sound_file_of_no_use_is_named(tmp_path, write, message):
    (tmp_path / "bed").mkdir()
    write(tmp_path / "bed" / "a_nohash_0.wav")
    line = refused(tmp_path)
    assert any(part in line for part in message.split("|"))


def cut_short(path):
    path.write_bytes(path.read_bytes()[:1_000])


@pytest.mark.slow
@pytest.mark.skipif(REAL_DATA is None, reason=NOWHERE.format("speech_commands.npz"))
def test_the_real_words_are_split_as_the_readme_says():
    task = make_task("keywords", {}, Path(REAL_DATA))
    assert task.evaluation_words == ["eight", "five", "nine", "one", "seven", "two", "zero"]
    assert len(task.training_words) == 15
    assert task._features.shape == (947, 490)
    assert make_task("keywords", {"per_speaker": True}, Path(REAL_DATA)).owners == 28

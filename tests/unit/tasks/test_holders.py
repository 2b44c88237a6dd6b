"""Data dealt to holders: everything once, the same everywhere, and nobody draws from another's."""

import hashlib
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omniglot_files import CLASSES, alphabets
from omniglot_files import write_npz as write_drawings
from sound_files import SPEAKERS
from sound_files import write_npz as write_words

from tinyfleet.errors import InvalidInput
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import make_run, training_samples
from tinyfleet.tasks import make_task, outline_task
from tinyfleet.tasks.holders import Dealing, held_by, make_dealing

GOLDEN_COUNTS = [
    [5, 3, 10, 1, 16, 14, 7, 3, 1, 3],
    [2, 5, 13, 1, 2, 2],
    [9, 5, 19, 10, 3, 1, 1, 11, 13, 1],
    [4, 4, 11, 3, 1, 18, 12],
    [11, 1, 1, 1, 5, 4, 3],
]
GOLDEN_SHA256 = "7da79210a92d961812af4b039a3235654ccb854b0752aeeecdd4e7c134518fe4"


def classes_of(*sizes):
    numbers = np.arange(sum(sizes))
    return np.split(numbers, np.cumsum(sizes)[:-1])


def dealt(holders, alpha, *sizes, ways=0):
    return Dealing(holders, "dirichlet", alpha).deal(classes_of(*sizes), None, ways)


@given(
    holders=st.integers(2, 20),
    alpha=st.floats(1e-3, 1e6),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=10),
)
def test_every_sample_is_dealt_once_and_stays_in_its_class(holders, alpha, sizes):
    held = dealt(holders, alpha, *sizes)
    assert len(held) == holders
    everything = [number for classes in held for members in classes for number in members]
    assert sorted(everything) == list(range(sum(sizes)))
    starts = np.cumsum(sizes)
    for classes in held:
        kinds = [set(np.searchsorted(starts, members, side="right")) for members in classes]
        assert all(len(kind) == 1 for kind in kinds)
        assert len(set.union(set(), *kinds)) == len(classes)


def test_the_same_data_are_dealt_everywhere():
    """Golden: what a holder has is part of a run. Changing it changes what runs mean."""
    held = dealt(5, 0.3, *[20] * 12)
    counts = [[len(members) for members in classes] for classes in held]
    numbers = np.concatenate([members for classes in held for members in classes])
    digest = hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()
    assert (counts, digest) == (GOLDEN_COUNTS, GOLDEN_SHA256)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_counts_vary_as_dirichlet_shares_make_them(alpha):
    """Of n samples in shares from Dirichlet(alpha), a holder's count is beta-binomial.

    Mean n/N, variance n p (1 - p) (n + N alpha) / (1 + N alpha). 4,000 classes: the bound is four
    standard errors of the mean, and for the variance a tenth, far above its error here.
    """
    holders, size, classes = 4, 20, 4000
    held = dealt(holders, alpha, *[size] * classes)
    counts = np.zeros((holders, classes))
    for holder, parts in enumerate(held):
        for members in parts:
            counts[holder, members[0] // size] = len(members)
    p, total = 1 / holders, holders * alpha
    variance = size * p * (1 - p) * (size + total) / (1 + total)
    assert np.abs(counts.mean(axis=1) - size * p).max() < 4 * math.sqrt(variance / classes)
    assert np.abs(counts.var(axis=1) / variance - 1).max() < 0.1


def test_whole_groups_are_dealt_evenly():
    groups = [f"speaker {number % 7}" for number in range(70)]
    held = Dealing(3, "speaker", 0.0).deal(classes_of(30, 40), groups, 2)
    owners = {
        number: holder for holder, classes in enumerate(held) for m in classes for number in m
    }
    homes = {
        groups[number]: {owners[n] for n in range(70) if groups[n] == groups[number]}
        for number in range(70)
    }
    assert all(len(home) == 1 for home in homes.values())
    assert sorted(Counter(min(home) for home in homes.values()).values()) == [2, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((1, "", 0.0), "holders must be 2 to 10000, or 0"),
        ((10_001, "", 0.0), "holders must be 2 to"),
        ((-2, "", 0.0), "holders must be 2 to"),
        ((True, "", 0.0), "whole number"),
        ((2.0, "", 0.0), "whole number"),
        ((0, "dirichlet", 0.0), "give holders, too"),
        ((0, "", 0.5), "give holders, too"),
        ((3, "dirichle", 0.0), "did you mean 'dirichlet'"),
        ((3, "group", 0.5), "alpha is for by=dirichlet"),
        ((3, 5, 0.0), "unknown way of dealing"),
        ((3, "dirichlet", -1), "alpha must be 0.001 to"),
        ((3, "dirichlet", math.nan), "alpha must be 0.001 to"),
        ((3, "dirichlet", "much"), "alpha must be a number"),
        ((3, "dirichlet", True), "alpha must be a number"),
        ((3, "dirichlet", 10**400), "alpha must be"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        make_dealing(("group", "dirichlet"), *options)
    assert "\n" not in str(caught.value)


def test_a_holder_with_too_few_classes_is_refused_with_the_remedy():
    with pytest.raises(InvalidInput, match="needs 5 for a problem: take fewer holders or a larger"):
        dealt(10, 0.01, *[20] * 6, ways=5)
    with pytest.raises(InvalidInput, match="2 different speakers to deal to 3 holders"):
        Dealing(3, "speaker", 0.0).deal(classes_of(4), ["a", "a", "b", "b"], 1)


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    return write_drawings(tmp_path_factory.mktemp("omniglot") / "omniglot.npz")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return write_words(tmp_path_factory.mktemp("words") / "speech_commands.npz")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Inputs say which sample they are."""
    path = tmp_path_factory.mktemp("table") / "table.npz"
    inputs = np.arange(200, dtype=np.float32)[:, None]
    np.savez(path, inputs=inputs, labels=np.repeat(np.arange(10), 20))
    return path


def stream(index):
    return RandomStream(1, Purpose.TRAINING_TASK, index, 0)


def inputs_of(task, rounds=60, count=20):
    return {
        row.tobytes()
        for index in range(rounds)
        for row in task.training_samples(stream(index), count).inputs
    }


CASES = [
    ("omniglot", {"ways": 2, "holders": 3}),
    ("omniglot", {"ways": 2, "holders": 3, "by": "dirichlet", "rotations": False}),
    ("keywords", {"ways": 2, "holders": 2}),
    ("keywords", {"ways": 2, "holders": 2, "by": "dirichlet", "alpha": 1, "augment": False}),
    ("table", {"ways": 2, "holders": 4, "alpha": 0.3}),
]


@pytest.fixture
def data(drawings, words, table):
    return {"omniglot": drawings, "keywords": words, "table": table}


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_slot_s_samples_are_those_of_the_holder_it_draws(data, name, options):
    task = make_task(name, options, data[name])
    holders = [held_by(task, number) for number in range(1, options["holders"] + 1)]
    for index in range(20):
        samples = task.training_samples(stream(index), 7)
        drawn = int(stream(index).integers(1, len(holders))[0])
        again = holders[drawn].training_samples(stream(index), 7)
        assert np.array_equal(samples.inputs, again.inputs)
        assert np.array_equal(samples.targets, again.targets)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_no_holder_has_another_s_samples(data, name, options):
    if options.get("augment", True) and name == "keywords":
        options = options | {"augment": False, "by": "speaker"}
    task = make_task(name, options, data[name])
    parts = [inputs_of(held_by(task, number)) for number in range(1, options["holders"] + 1)]
    assert all(parts)
    assert len(set.union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_run_carries_how_its_data_are_dealt(data, name, options):
    task = make_task(name, options, data[name])
    carried = dict(task.options)
    assert carried["holders"] == options["holders"]
    assert ("alpha" in carried) == (carried["by"] == "dirichlet")
    assert outline_task(name, carried).options == task.options
    again = make_task(name, carried, data[name])
    run = make_run(task, "tiny_reptile", 5, 1)
    assert np.array_equal(
        training_samples(task, run.seed, 3, 1, 9).inputs,
        training_samples(again, run.seed, 3, 1, 9).inputs,
    )
    assert "holders" not in make_task(name, {"ways": 2}, data[name]).options


def test_alphabets_are_dealt_whole(drawings):
    task = make_task("omniglot", {"ways": 2, "holders": 3}, drawings)
    names = alphabets()[: CLASSES["background"]]
    homes = {}
    for holder, characters in enumerate(task._held.classes):
        for members in characters:
            homes.setdefault(names[members[0] // task.drawings], set()).add(holder)
    assert set(homes) == set(names)
    assert all(len(home) == 1 for home in homes.values())


def test_a_speaker_can_be_a_holder_too(words):
    task = make_task("keywords", {"ways": 2, "per_speaker": True}, words)
    assert task.owners == len(SPEAKERS)
    one = held_by(task, 1)
    assert inputs_of(one).isdisjoint(inputs_of(held_by(task, 2)))
    with pytest.raises(InvalidInput, match="leave it or holders out"):
        make_task("keywords", {"ways": 2, "per_speaker": True, "holders": 2}, words)


def test_a_holder_that_is_not_there_is_refused_with_the_remedy(drawings, tmp_path):
    task = make_task("omniglot", {"ways": 2, "holders": 3}, drawings)
    for number in (-1, 0, 4):
        with pytest.raises(InvalidInput, match="this run has holders 1 to 3"):
            held_by(task, number)
    with pytest.raises(InvalidInput, match="start it with the task option holders"):
        held_by(make_task("omniglot", {}, drawings), 1)
    with pytest.raises(InvalidInput, match="task 'sine' has no holders"):
        held_by(make_task("sine", {}), 1)
    groups = np.repeat([1, 2, 3], 10)
    np.savez(tmp_path / "g.npz", inputs=np.ones((30, 1)), targets=np.ones(30), groups=groups)
    with pytest.raises(InvalidInput, match="has its holders already"):
        make_task("table", {"holders": 2}, tmp_path / "g.npz")

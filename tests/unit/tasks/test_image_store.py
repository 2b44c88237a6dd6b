"""The compact store gives back what was put in, turned as asked."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tinyfleet.tasks.image_store import ImageStore

GREYS = st.sampled_from([0, 0, 0, 0, 1, 128, 255])


def groups(side):
    shape = st.tuples(st.integers(1, 4), st.just(side * side))
    return st.lists(
        shape.flatmap(lambda s: arrays.arrays(np.uint8, s, elements=GREYS)), min_size=1, max_size=3
    )


@given(st.sampled_from([1, 3, 28]).flatmap(lambda side: st.tuples(st.just(side), groups(side))))
def test_images_come_back_as_shares_of_full_ink(case):
    side, given_groups = case
    store = ImageStore(iter(given_groups), side)
    images = np.concatenate(given_groups)
    assert len(store) == len(images)
    backwards = np.arange(len(images))[::-1]
    assert np.array_equal(store.read(backwards), (images[::-1] / 255.0).astype(np.float32))


@given(groups(28), st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_images_come_back_turned(given_groups, turns):
    store = ImageStore(iter(given_groups), 28)
    numbers = np.arange(len(turns)) % len(store)
    images = np.concatenate(given_groups)[numbers].reshape(-1, 28, 28) / 255.0
    expected = [np.rot90(image, turn).ravel() for image, turn in zip(images, turns, strict=True)]
    assert np.array_equal(store.read(numbers, np.array(turns)), np.float32(expected))


def test_white_and_black_images_survive():
    white, black = np.zeros((1, 784), np.uint8), np.full((1, 784), 255, np.uint8)
    store = ImageStore(iter([white, black, white]), 28)
    assert store.read(np.array([0, 1, 2])).sum(axis=1).tolist() == [0.0, 784.0, 0.0]


def test_a_mostly_white_image_takes_two_bytes_an_inked_pixel():
    image = np.zeros((100, 784), np.uint8)
    image[:, 300:400] = 200
    assert ImageStore(iter([image]), 28).nbytes < 100 * (2 * 104 + 8) + 1

"""With error feedback, all that was learned arrives in the end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tinyfleet.codec.feedback import ErrorFeedback
from tinyfleet.codec.selected import decode_update, encode_selected
from tinyfleet.codec.values import PRECISIONS
from tinyfleet.errors import InvalidInput
from tinyfleet.randomness import Purpose, RandomStream

# Multiples of 2^-10 below 2: sums of a few hundred of them are exact in float32.
EXACT = st.integers(-2047, 2047).map(lambda steps: steps * 2.0**-10)
ROUNDS = st.integers(1, 6).flatmap(
    lambda rounds: arrays.arrays(np.float32, (rounds, 17), elements=EXACT)
)


def send(feedback, change, fraction, precision, number):
    """One round of an agent: what the server gets, and the state after it."""
    wanted = feedback.wanted(change)
    noise = RandomStream(7, Purpose.UPLOAD, number, 0)
    sent = decode_update(encode_selected(wanted, fraction, precision, noise), len(change))
    return sent, feedback.after(wanted, sent)


@given(ROUNDS, st.sampled_from([0.05, 0.25, 1.0]), st.sampled_from(["float32", "float16"]))
def test_nothing_is_lost(changes, fraction, precision):
    feedback, received = ErrorFeedback.empty(17), np.zeros(17, np.float32)
    for number, change in enumerate(changes):
        sent, feedback = send(feedback, change, fraction, precision, number)
        received += sent
    assert (received + feedback.residual == changes.sum(axis=0)).all()


def test_nothing_is_lost_in_int8_but_what_float32_rounds(seed):
    rounds, count = 200, 60
    changes = np.random.default_rng(seed).standard_normal((rounds, count)).astype(np.float32)
    feedback, received = ErrorFeedback.empty(count), np.zeros(count)
    largest = 0.0
    for number, change in enumerate(changes):
        sent, feedback = send(feedback, change, 0.25, "int8", number)
        received += sent
        largest = max(largest, float(np.abs(feedback.residual).max()), float(np.abs(sent).max()))
    # A round rounds twice, change + residual and wanted - sent: 2^-24 of no more than twice the
    # largest number that was met.
    allowed = rounds * 2 * 2.0**-24 * 2 * largest
    lost = received + feedback.residual - changes.astype(np.float64).sum(axis=0)
    assert np.abs(lost).max() <= allowed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_small_entry_is_sent_once_it_has_grown_enough(precision):
    change = np.array([1.0, 0.3, 0.0], np.float32)
    feedback, rounds = ErrorFeedback.empty(3), []
    for number in range(4):
        sent, feedback = send(feedback, change, 0.1, precision, number)
        rounds.append(np.flatnonzero(sent).tolist())
    assert rounds == [[0], [0], [0], [1]]


def test_without_feedback_it_never_is():
    change = np.array([1.0, 0.3, 0.0], np.float32)
    sent = [send(ErrorFeedback.empty(3), change, 0.1, "float32", n)[0] for n in range(4)]
    assert not any(update[1] for update in sent)


@given(ROUNDS, st.sampled_from([0.05, 0.25]), st.integers(0, 63))
def test_nothing_is_lost_of_updates_that_are_refused(changes, fraction, refused):
    feedback, received = ErrorFeedback.empty(17), np.zeros(17, np.float32)
    for number, change in enumerate(changes):
        sent, feedback = send(feedback, change, fraction, "float32", number)
        if refused >> number & 1:
            feedback = feedback.with_refused(sent)
        else:
            received += sent
    assert (received + feedback.residual == changes.sum(axis=0)).all()


def test_a_state_does_not_change():
    feedback = ErrorFeedback(np.array([0.5, 0.0], np.float32))
    before = feedback.residual.copy()
    sent, _ = send(feedback, np.ones(2, np.float32), 0.5, "float32", 0)
    feedback.with_refused(sent)
    assert (feedback.residual == before).all()


@pytest.mark.parametrize("wrong", [np.zeros(2), np.zeros(3, np.float32)])
def test_other_vectors_are_refused(wrong):
    feedback = ErrorFeedback.empty(2)
    with pytest.raises(InvalidInput, match="2 float32"):
        feedback.wanted(wrong)
    with pytest.raises(InvalidInput, match="2 float32"):
        feedback.after(np.zeros(2, np.float32), wrong)
    with pytest.raises(InvalidInput, match="2 float32"):
        feedback.with_refused(wrong)


def test_a_sum_beyond_float32_is_refused():
    largest = np.full(2, np.finfo(np.float32).max)
    with pytest.raises(InvalidInput, match="finite"):
        ErrorFeedback(largest).wanted(largest)

"""Only what is shared travels, and only what the plan allows comes back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.codec.dense import encode_dense
from tinyfleet.codec.selected import encode_selected
from tinyfleet.errors import InvalidInput
from tinyfleet.exchange import Exchange
from tinyfleet.model import builtin_model
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.strategies import Download, Phase, TrainingPlan, Upload
from tinyfleet.strategies.base import MAX_DELTA_NORM

# dense_1 is entries 0 to 63, dense_2 64 to 1119, dense_3 1120 to 1152
MODEL = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
TOTAL = 1153


def exchange_with(*local, fraction=1.0, precision="float32", down="float32", changes=False):
    upload, download = Upload(fraction, precision), Download(down, changes)
    return Exchange(MODEL, TrainingPlan((Phase(1, 0.1),), local, upload, download))


def numbered():
    return np.arange(1, TOTAL + 1, dtype=np.float32)


@pytest.mark.parametrize(
    ("local", "shared"),
    [
        ((), range(TOTAL)),
        (("dense_3",), range(1120)),
        (("dense_1",), range(64, TOTAL)),
        (("dense_2",), [*range(64), *range(1120, TOTAL)]),
        (("dense_3", "dense_1"), range(64, 1120)),
    ],
)
def test_the_shared_entries_are_the_others_in_order(local, shared):
    exchange = exchange_with(*local)
    want = numbered()[list(shared)]
    assert (exchange.count, exchange.starts.whole_bytes) == (len(want), 4 * len(want))
    assert exchange.is_whole is (not local)
    assert np.array_equal(exchange.shared(numbered()), want)
    assert exchange.shared_bytes(numbered().tobytes()) == want.tobytes()
    assert exchange.shared_bytes(b"") == b""
    whole = exchange.whole(want, np.zeros(TOTAL, np.float32))
    assert np.array_equal(whole[list(shared)], want)
    assert whole.sum() == want.sum()


@pytest.mark.parametrize("local", [("dense_9",), ("dense_1", "dense_2", "dense_3")])
def test_a_plan_that_shares_nothing_or_names_no_layer_is_refused(local):
    with pytest.raises(InvalidInput, match=r"unknown layer 'dense_9'|one at least is shared"):
        exchange_with(*local)


@pytest.mark.parametrize("down", ["float32", "float16", "int8"])
@pytest.mark.parametrize("local", [(), ("dense_2",)])
def test_a_device_starts_from_the_rounded_shared_layers_and_its_own_others(down, local):
    exchange = exchange_with(*local, down=down)
    model, initial = numbered() * np.float32(0.37), np.full(TOTAL, 0.123, np.float32)
    start = exchange.start(model)
    started = exchange.started(start, initial)
    assert np.array_equal(exchange.shared(started), exchange.starts.parameters(start))
    own = np.ones(TOTAL, bool)
    own[exchange.shared(np.arange(TOTAL, dtype=np.float32)).astype(int)] = False
    assert (started[own] == initial[own]).all()
    assert own.sum() == TOTAL - exchange.count
    assert exchange.start_is_plain is (down == "float32")
    assert exchange.start_is_model is (down == "float32" and not local)


def test_each_shared_layer_has_an_exponent_of_its_own():
    assert exchange_with("dense_2", down="int8").starts.whole_bytes == 64 + 33 + 2


@pytest.mark.parametrize(
    ("options", "fitting", "others"),
    [
        ({}, (4480,), (0, 4479, 4481, 8)),
        ({"changes": True}, (4480, 8, 9), (0, 7, 4481)),
        ({"down": "int8"}, (1122,), (8, 1121, 4480)),
        ({"down": "int8", "changes": True}, (1122, 10), (9, 1123)),
    ],
)
def test_a_start_has_a_size_that_a_device_can_have_been_sent(options, fitting, others):
    exchange = exchange_with("dense_3", **options)
    for size in fitting:
        exchange.check_start_size(size)
    for size in others:
        with pytest.raises(InvalidInput, match=f"a start of this run has .* bytes, not {size}"):
            exchange.check_start_size(size)


def test_a_dense_change_is_the_dense_encoding():
    assert bytes(exchange_with().encode(numbered(), 1, 2, 3)) == encode_dense(numbered())
    shared = exchange_with("dense_3").encode(numbered(), 1, 2, 3)
    assert bytes(shared) == encode_dense(numbered()[:1120])


@given(
    fraction=st.floats(0.001, 1),
    precision=st.sampled_from(["float32", "float16", "int8"]),
    local=st.sampled_from([(), ("dense_3",), ("dense_2",), ("dense_1", "dense_3")]),
    seed=st.integers(0, 99),
)
def test_what_comes_back_is_what_changed_most_of_the_shared(fraction, precision, local, seed):
    exchange = exchange_with(*local, fraction=fraction, precision=precision)
    delta = np.random.default_rng(seed).standard_normal(TOTAL).astype(np.float32)
    data = exchange.encode(delta, seed, 5, 0)
    exchange.check_size(len(data))
    decoded = exchange.decode(data)
    assert not decoded.flags.writeable
    shared = exchange.shared(decoded)
    assert (
        np.count_nonzero(decoded)
        == np.count_nonzero(shared)
        <= math.ceil(fraction * exchange.count)
    )
    kept = exchange.shared(delta)[shared != 0]
    step = np.abs(delta).max() / 127 if precision == "int8" else np.abs(delta).max() * 2**-11
    assert np.allclose(shared[shared != 0], kept, rtol=0, atol=1.01 * step)


def test_the_rounding_depends_on_seed_round_and_slot_alone():
    exchange = exchange_with(precision="int8")
    delta = np.random.default_rng(1).standard_normal(TOTAL).astype(np.float32)
    assert exchange.encode(delta, 1, 2, 3) == exchange.encode(delta.copy(), 1, 2, 3)
    others = {exchange.encode(delta, *key) for key in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4))}
    assert len(others) == 4


def fed(exchange, changes, feedback=None):
    """What the server got of each change, and what is left out in the end."""
    feedback = feedback or exchange.no_feedback()
    received = []
    for number, change in enumerate(changes):
        data, feedback = exchange.encode_fed(change, feedback, 1, number, 3)
        received.append(exchange.decode(data))
    return received, feedback


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("local", [(), ("dense_3",)])
def test_what_was_left_out_of_the_shared_entries_is_sent_later(local, precision):
    exchange = exchange_with(*local, fraction=0.1, precision=precision)
    changes = np.random.default_rng(1).standard_normal((30, TOTAL)).astype(np.float32)
    received, feedback = fed(exchange, changes)
    wanted = exchange.shared(changes.astype(np.float64).sum(axis=0))
    got = exchange.shared(np.sum(received, axis=0, dtype=np.float64))
    assert np.allclose(got + feedback.residual, wanted, rtol=0, atol=1e-3)
    assert np.linalg.norm(got - wanted) < 0.9 * np.linalg.norm(wanted)  # and most has arrived


def test_the_first_update_with_feedback_is_the_one_without():
    exchange = exchange_with(fraction=0.1, precision="int8")
    change = np.random.default_rng(1).standard_normal(TOTAL).astype(np.float32)
    data, feedback = exchange.encode_fed(change, exchange.no_feedback(), 1, 2, 3)
    assert data == exchange.encode(change, 1, 2, 3)
    assert (feedback.residual == change - exchange.decode(data)).all()


def test_what_grew_longer_than_any_change_is_forgotten():
    """The largest of a change is sent each time; the others add up to what no server would take."""
    exchange = exchange_with(fraction=1e-9)
    change = np.full(TOTAL, 2e4, np.float32)  # a norm of 6.8e5
    norms = []
    feedback = exchange.no_feedback()
    for number in range(6):
        data, feedback = exchange.encode_fed(change, feedback, 1, number, 0)
        norms.append(float(np.linalg.norm(feedback.residual)))
        assert np.linalg.norm(exchange.decode(data)) <= 64 * MAX_DELTA_NORM
    assert norms[0] == pytest.approx(2e4 * math.sqrt(TOTAL - 1), rel=1e-5)
    assert norms[1::2] == [0.0] * 3


def selected(count, entries, precision="float32"):
    change = np.zeros(count, np.float32)
    change[:entries] = 1.0
    noise = RandomStream(1, Purpose.UPLOAD, 0, 0)
    return encode_selected(change, 1.0, precision, noise)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "at least 8 bytes, got 0"),
        (selected(1120, 113), "at most 112 entries, not 113"),
        (selected(1120, 600), "at most 596 bytes, not"),
        (encode_dense(np.ones(1120, np.float32)), "at most 596 bytes, not 4480"),
        (selected(1120, 100) + b"\0", "."),
        (bytes(596), "."),
    ],
)
def test_what_no_device_of_the_plan_sends_is_refused_in_one_line(data, message):
    exchange = exchange_with("dense_3", fraction=0.1)
    with pytest.raises(InvalidInput, match=message) as caught:
        exchange.decode(data)
    assert "\n" not in str(caught.value)


def test_a_dense_change_of_all_layers_is_not_one_of_the_shared():
    with pytest.raises(InvalidInput, match="4480 bytes"):
        exchange_with("dense_3").decode(encode_dense(numbered()))

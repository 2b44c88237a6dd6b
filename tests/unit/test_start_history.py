"""Whatever version a device holds, what it is sent makes the latest start of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet import start_history
from tinyfleet.codec.start import StartFormat
from tinyfleet.errors import InvalidInput
from tinyfleet.start_history import StartHistory

FORM = StartFormat("int8", [30, 20])


def start_of(version, form=FORM):
    """Slowly moving parameters."""
    return form.rounded(np.sin(np.arange(form.count) + 0.001 * version).astype(np.float32))


def filled(*versions, **options):
    history = StartHistory(FORM, **options)
    for version in versions:
        history.add(version, start_of(version))
    return history


@given(
    versions=st.lists(st.integers(0, 500), min_size=1, max_size=40, unique=True).map(sorted),
    held=st.one_of(st.none(), st.integers(0, 500)),
    kept=st.integers(1, 50),
)
def test_a_device_gets_the_latest_start_whatever_it_holds(versions, held, kept):
    sent = filled(*versions, versions=kept).sent_to(held)
    if sent.base is None:
        start = FORM.read_whole(sent.data)
    else:
        assert sent.base == held
        assert held in versions[-kept:]
        start = FORM.read_changes(sent.data, start_of(held))
    assert FORM.write_whole(start) == FORM.write_whole(start_of(versions[-1]))


def test_a_version_that_is_too_old_or_unknown_gets_everything():
    history = filled(*range(10), versions=4)
    bases = [history.sent_to(held).base for held in (None, 5, 6, 8, 9, 10, 99)]
    assert bases == [None, None, 6, 8, 9, None, None]


def test_each_version_is_written_once():
    history = filled(1, 2, 3)
    assert history.sent_to(1) is history.sent_to(1)
    assert history.sent_to(7) is history.sent_to(None)
    old = history.sent_to(1)
    history.add(4, start_of(4))
    assert history.sent_to(1) != old


def test_memory_is_bounded_but_for_the_latest(monkeypatch):
    monkeypatch.setattr(start_history, "MAX_BYTES", 3 * FORM.whole_bytes)
    history = filled(*range(20))
    assert [history.sent_to(held).base for held in (16, 17, 19)] == [None, 17, 19]
    monkeypatch.setattr(start_history, "MAX_BYTES", 1)
    assert filled(1, 2).sent_to(2).base == 2


def test_a_history_goes_on_after_a_restart_as_if_nothing_had_been():
    history = filled(*range(10), versions=5)
    again = StartHistory(FORM, 5)
    again.restore(history.to_bytes(), 9)
    for one in (history, again):
        one.add(10, start_of(10))
    for held in (None, *range(12)):
        assert history.sent_to(held) == again.sent_to(held)


@pytest.mark.parametrize(
    "data", [b"x", bytes(FORM.whole_bytes + 1), bytes(3 * FORM.whole_bytes), b"\x80" * 52]
)
def test_what_is_no_history_is_refused(data):
    with pytest.raises(InvalidInput):
        StartHistory(FORM, 2).restore(data, 9)

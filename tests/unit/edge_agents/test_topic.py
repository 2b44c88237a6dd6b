"""From messages to samples: windows, normalisation, labels, what is counted, how it is doing."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from topic_messages import flat, imu, in_axes

from edge_agents.topic.health import health
from edge_agents.topic.readers import ARRAY, IMU
from edge_agents.topic.refusals import Reason
from edge_agents.topic.settings import StreamSettings
from edge_agents.topic.topic import Topic
from edge_agents.topic.windows import Windows
from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Samples
from tinyfleet.readings import Level

ROW = StreamSettings(type=ARRAY, fields=("data[0:2]",), labels=("data[2]",))


class Time:
    """Monotonic seconds that pass only where a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def samples_of(settings: StreamSettings, messages: list[Any]) -> Samples:
    """What a member gets of messages that come a tenth of a second apart."""
    topic = Topic(settings)
    stream = topic.for_a_member()
    for index, message in enumerate(messages):
        topic.hear(message, index / 10)
    return await stream.some(1000)


async def test_message_becomes_a_sample() -> None:
    samples = await samples_of(ROW, [flat(1, 2, 3), flat(4, 5, 6)])
    assert samples.inputs.tolist() == [[1, 2], [4, 5]]
    assert samples.targets.tolist() == [[3], [6]]


async def test_values_are_normalised_in_float64_and_targets_stay() -> None:
    settings = replace(ROW, mean=(1.0, 0.1), scale=(3.0, 0.5))
    samples = await samples_of(settings, [flat(2, 1, 7)])
    assert samples.inputs.tolist() == [[np.float32((2 - 1) / 3), np.float32((1 - 0.1) / 0.5)]]
    assert samples.targets.tolist() == [[7]]
    once = replace(ROW, mean=(1.0,), scale=(2.0,))
    assert (await samples_of(once, [flat(2, 3, 7)])).inputs.tolist() == [[0.5, 1.0]]


@given(
    count=st.integers(0, 40), window=st.integers(1, 9), stride=st.integers(1, 9), cut=st.integers(0)
)
def test_windows_are_slices_of_rows_that_follow_each_other(
    count: int, window: int, stride: int, cut: int
) -> None:
    windows, rows = Windows(window, stride), np.arange(2 * count, dtype=np.float32).reshape(-1, 2)
    cut, made = cut % (count + 1), []
    for index, row in enumerate(rows):
        if index == cut:
            windows.clear()
        if (one := windows.add(row)) is not None:
            made.append(one.tolist())
    expected = [
        part[start : start + window].ravel().tolist()
        for part in (rows[:cut], rows[cut:])
        for start in range(0, len(part) - window + 1, stride)
    ]
    assert made == expected


async def test_window_takes_the_label_of_its_last_message() -> None:
    settings = replace(ROW, fields=("data[0]",), window=3, stride=2)
    samples = await samples_of(settings, [flat(i, 0, 10 * i) for i in range(6)])
    assert samples.inputs.tolist() == [[0, 1, 2], [2, 3, 4]]
    assert samples.targets.tolist() == [[20], [40]]


@pytest.mark.parametrize("bad", [flat(1), flat(1, math.nan, 3), flat(1, math.inf, 3)])
async def test_refused_message_interrupts_the_window(bad: Any) -> None:
    settings = replace(ROW, fields=("data[1]",), window=2)
    good = [flat(0, i, i) for i in range(4)]
    samples = await samples_of(settings, [good[0], bad, *good[1:]])
    assert samples.inputs.tolist() == [[1, 2], [2, 3]]


@pytest.mark.parametrize("later", [2.1, -0.1])
def test_silence_or_a_clock_that_jumps_back_interrupts_the_window(later: float) -> None:
    topic = Topic(replace(ROW, window=2))
    assert topic.hear(flat(1, 2, 3), 10.0) is None
    assert topic.hear(flat(1, 2, 3), 10.0 + later) is None
    assert topic.hear(flat(1, 2, 3), 10.0 + later + 2.0) is not None


def test_number_of_a_class_becomes_a_target_of_its_own() -> None:
    topic = Topic(replace(ROW, classes=3))
    stream = topic.for_a_member()
    for label in (2, 0, 3, -1, 0.5):
        topic.hear(flat(1, 2, label), 0.0)
    assert [sample.targets.tolist() for sample in stream._waiting] == [[0, 0, 1], [1, 0, 0]]
    assert topic.reading().refused == {Reason.CLASS: 3}


LABELLED = StreamSettings(
    type=IMU, fields=("linear_acceleration.x",), labels=("y[0:2]",), label_topic=True
)


def test_label_is_the_newest_of_its_topic_and_not_too_old() -> None:
    topic = Topic(LABELLED)
    stream = topic.for_a_member()
    topic.hear(imu((1, 0, 0)), 0.9)
    topic.hear_label(in_axes([("y", 2, 2)], [5, 6]), 1.0)
    topic.hear_label(in_axes([("y", 2, 2)], [7, 8]), 1.5)
    topic.hear_label(in_axes([("y", 1, 1)], [9]), 1.6)
    topic.hear_label(in_axes([("y", 2, 2)], [9, math.nan]), 1.6)
    for now in (1.5, 2.5, 2.6, 1.4):
        topic.hear(imu((now, 0, 0)), now)
    waiting = [(one.inputs.tolist(), one.targets.tolist()) for one in stream._waiting]
    assert waiting == [([1.5], [7, 8]), ([2.5], [7, 8])]
    assert topic.reading().refused == {
        Reason.NO_LABEL: 1,
        Reason.OLD_LABEL: 2,
        Reason.SIZE: 1,
        Reason.NOT_FINITE: 1,
    }


def test_window_without_a_label_is_given_out_for_prediction() -> None:
    topic = Topic(LABELLED)
    window = topic.hear(imu((1, 0, 0)), 0.0)
    assert window is not None
    assert window.tolist() == [1.0]
    assert topic.reading().samples == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(ROW, fields=()), "no fields"),
        (replace(ROW, labels=()), "no fields"),
        (replace(ROW, mean=(1.0, 2.0, 3.0)), "mean has 3 numbers for 2 fields"),
        (replace(ROW, scale=(1.0, 0.0)), "must not be 0"),
        (replace(ROW, labels=("data[0:2]",), classes=3), "one label, not 2"),
        (replace(ROW, fields=("data[0:60000]",), window=17), "at most 1000000"),
        (replace(ROW, queue=1_000_000, window=40), "choose a shorter queue"),
        (replace(ROW, timeout_s=1.0), "timeout_s must be at least stale_s"),
        (replace(LABELLED, labels=("orientation.x",)), "which values"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: StreamSettings, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Topic(settings)


def test_beyond_float32_is_not_finite() -> None:
    topic = Topic(replace(ROW, scale=(1e-30,)))
    topic.hear(flat(1e30, 1, 1), 0.0)
    assert topic.reading().refused == {Reason.NOT_FINITE: 1}


def test_reasons_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    topic = Topic(ROW)
    for _ in range(5):
        topic.hear(flat(1), 0.0)
        topic.hear(flat(1, math.nan, 2), 0.0)
    assert len(caplog.records) == 2
    assert topic.reading().refused == {Reason.SIZE: 5, Reason.NOT_FINITE: 5}


def test_every_member_gets_every_sample_while_it_is_there() -> None:
    topic = Topic(ROW)
    first, second = topic.for_a_member(), topic.for_a_member()
    topic.hear(flat(1, 2, 3), 0.0)
    del second
    topic.hear(flat(1, 2, 3), 0.0)
    assert len(first._waiting) == 2
    assert len(topic._streams) == 1


def test_reading_tells_silence_refusals_and_drops() -> None:
    time = Time()
    topic = Topic(replace(ROW, queue=1), time)
    stream, settings = topic.for_a_member(), topic._settings

    def level() -> tuple[Level, str]:
        reading = health(topic.reading(), settings)
        return reading.level, reading.message

    time.now += 2.5
    assert level() == (Level.WARN, "no message")
    time.now += 10.0
    assert level() == (Level.ERROR, "no message")
    topic.hear(flat(1, 2, 3), 0.0)
    assert level() == (Level.OK, "samples come")
    topic.hear(flat(1, 2, 3), 0.0)
    assert level()[0] is Level.OK  # nobody trains: nothing is lost
    with stream.in_use():
        topic.hear(flat(1, 2, 3), 0.0)
    assert level() == (
        Level.WARN,
        "samples come faster than they are learned, the oldest are dropped",
    )
    time.now += 1.0
    topic.hear(flat(1), 0.0)
    assert level() == (Level.WARN, "messages or labels are refused: the log says why")
    time.now += 5.5
    assert level() == (Level.WARN, "no message of use")
    topic.hear(flat(1, 2, 3), 0.0)
    assert level() == (Level.OK, "samples come")
    topic.hear_of_loss(3)
    assert level() == (Level.WARN, "messages are lost on their way here")
    values = health(topic.reading(), settings).values
    assert values == {
        "age_s": 0.0,
        "received": 5,
        "accepted": 4,
        "samples": 4,
        "taken": 0,
        "dropped": 1,
        "unused": 2,
        "lost": 3,
        "refused": 1,
        "refused_size": 1,
    }


def test_loss_interrupts_the_window() -> None:
    topic = Topic(replace(ROW, window=2))
    topic.hear(flat(1, 2, 3), 0.0)
    topic.hear_of_loss(1)
    assert topic.hear(flat(1, 2, 3), 0.0) is None
    assert topic.hear(flat(1, 2, 3), 0.0) is not None


def test_reading_before_any_member_and_message() -> None:
    reading = Topic(ROW).reading()
    assert (reading.refused, reading.refused_s, reading.dropped_s) == ({}, math.inf, math.inf)

"""The queue of a topic: bounded, and nobody who waits on it can be kept from stopping."""

import asyncio
import threading

import numpy as np
import pytest

from edge_agents.topic.stream import Sample, StreamSource
from edge_agents.trainers.protocol import NotNow
from tinyfleet.errors import InvalidInput
from tinyfleet.run import SampleShape


def sample(number: float) -> Sample:
    return Sample(np.array([number], np.float32), np.array([-number], np.float32))


def stream(queue: int = 8, timeout_s: float = 30.0) -> StreamSource:
    return StreamSource((1, 1), queue, timeout_s)


async def test_samples_come_in_order_as_many_as_there_are() -> None:
    source = stream()
    for number in range(5):
        source.put(sample(number))
    assert (await source.some(2)).inputs[:, 0].tolist() == [0, 1]
    rest = await source.some(9)
    assert rest.inputs[:, 0].tolist() == [2, 3, 4]
    assert rest.targets[:, 0].tolist() == [0 - 2, -3, -4]
    assert source.counts.taken == 5


async def test_oldest_goes_and_is_counted_by_whether_somebody_trains() -> None:
    source = stream(queue=2)
    for number in range(4):
        source.put(sample(number))
    with source.in_use():
        source.put(sample(4))
    assert (source.counts.unused, source.counts.dropped) == (2, 1)
    assert (await source.some(9)).inputs[:, 0].tolist() == [3, 4]


async def test_who_waits_is_woken_from_another_thread() -> None:
    source = stream()
    waiting = asyncio.create_task(source.some(4))
    await asyncio.sleep(0)
    putting = threading.Thread(target=source.put, args=[sample(7)])
    putting.start()
    assert (await waiting).inputs.tolist() == [[7]]
    putting.join()


async def test_more_samples_than_can_wait_are_gathered() -> None:
    source = stream(queue=2)
    waiting = asyncio.create_task(source.all(5))
    for number in range(5):
        source.put(sample(number))
        await asyncio.sleep(0.001)
    assert (await waiting).inputs[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert source.counts.dropped == source.counts.unused == 0


async def test_stream_that_stops_ends_the_wait() -> None:
    source = stream(timeout_s=0.01)
    source.put(sample(1))
    with pytest.raises(NotNow, match=r"the topic gave no sample for 0\.01 s"):
        await source.all(2)


async def test_closing_wakes_who_waits_and_leaves_what_is_there() -> None:
    source = stream()
    waiting = asyncio.create_task(source.some(1))
    await asyncio.sleep(0)
    source.close()
    with pytest.raises(NotNow, match="the agent stops"):
        await waiting
    full = stream()
    full.put(sample(1))
    full.close()
    full.put(sample(2))
    assert (await full.some(9)).inputs.tolist() == [[1]]
    with pytest.raises(NotNow):
        await full.some(1)


async def test_stream_that_is_opened_again_begins_anew() -> None:
    source = stream()
    source.put(sample(1))
    source.close()
    source.open()
    source.put(sample(2))
    assert (await source.some(9)).inputs.tolist() == [[2]]


async def test_cancelled_wait_takes_nothing() -> None:
    source = stream()
    waiting = asyncio.create_task(source.some(1))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    source.put(sample(1))
    assert (await source.some(1)).inputs.tolist() == [[1]]


def test_putting_after_the_loop_is_closed_does_no_harm() -> None:
    source = stream()

    async def give_up() -> None:
        task = asyncio.create_task(source.some(1))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(give_up())
    source.put(sample(1))
    assert len(source._waiting) == 1


def test_samples_of_another_shape_than_the_model_are_refused() -> None:
    source = StreamSource((6, 1), 8, 1.0)
    with pytest.raises(InvalidInput, match="6 inputs and 1 targets a sample, the run takes 1 and"):
        source.check(SampleShape((1, 1, 1), 1, "mean_squared_error"))
    source.check(SampleShape((1, 1, 6), 1, "mean_squared_error"))


def test_samples_are_awaited_not_drawn() -> None:
    with pytest.raises(InvalidInput, match="come when they come"):
        stream().draw(0, 0, 1)

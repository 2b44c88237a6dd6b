"""A line that flips bits, loses bytes, doubles them and goes dead: every transfer completes, whole.

Each of 1,000 transfers at a bit error rate of 1e-4 is compared with what was sent: had one bad
frame been taken for a good one, a parameter would differ.
"""

import math

import numpy as np
import pytest

from mcu_bridge.device import Device, Patience
from mcu_bridge.errors import NoAnswer
from mcu_bridge.lines import open_line
from mcu_bridge.noise import Noise, NoisyLine
from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.spec import LOSSES
from tinyfleet.strategies.plan import Phase

SPEC = builtin_model("mlp_32", (1, 1, 1), 1, LOSSES[0])
TRANSFERS, SESSIONS = 1000, 10
PAIRS = TRANSFERS // SESSIONS // 2  # there and back
CUT_AFTER_BYTES, CUT_S = 300_000, 0.3
SOON = Patience(first_s=0.03, least_s=0.01, answer_s=20.0, progress_s=20.0)  # fast, if bad


def noise(seed: int, cut_for_s: float = CUT_S) -> Noise:
    """In each session another noise; a BER of 1e-4 spoils one frame of 269 bytes in five."""
    return Noise(
        flip=1e-4,
        drop=1e-4,
        duplicate=1e-4,
        cut_after=CUT_AFTER_BYTES,
        cut_for_s=cut_for_s,
        seed=seed,
    )


async def connect(noise: Noise, patience: Patience = SOON) -> Device:
    return await Device.connect(NoisyLine(await open_line("emulated://host"), noise), patience)


async def transfer_pairs(device: Device, count: int, seed: int) -> None:
    """Parameters there and back, each time others."""
    for pair in range(count):
        parameters = initial_parameters(SPEC, seed * 1000 + pair)
        await device.write_parameters(parameters)
        back = await device.read_parameters()
        assert back.tobytes() == parameters.tobytes()


@pytest.mark.timeout(300)
@pytest.mark.slow
async def test_a_thousand_transfers_complete_and_none_is_corrupted() -> None:
    bad_here = bad_there = repeated = 0
    for session in range(SESSIONS):
        async with await connect(noise(session)) as device:
            await device.configure(SPEC)
            await transfer_pairs(device, PAIRS, session)
            bad_there += (await device.counters()).bad_frames
            seen = device.link.received
            bad_here += seen.corrupt + seen.malformed + seen.overlong
            repeated += device.link.counters.repeated
    # So the noise was there, both ways: some 100,000 frames' worth of bits were at stake.
    assert min(bad_here, bad_there) > TRANSFERS
    assert repeated > TRANSFERS


async def test_training_over_a_bad_line_has_this_machines_bits() -> None:
    phase, here = Phase(2000, 0.02), initial_parameters(SPEC, 1)
    inputs = np.random.default_rng(1).uniform(-3, 3, (2000, 1)).astype(np.float32)
    samples = Samples(inputs, np.sin(inputs))
    async with await connect(noise(11)) as device:
        await device.configure(SPEC)
        await device.write_parameters(here)
        trained = await device.train(phase, samples)
        there = await device.read_parameters()
        assert (await device.counters()).bad_frames > 0
    assert trained == NativeLearner(SPEC).train(here, samples, phase)
    assert there.tobytes() == here.tobytes()


async def test_a_line_that_stays_dead_is_given_up_and_a_new_one_starts_clean() -> None:
    impatient = Patience(first_s=0.03, answer_s=0.5, progress_s=0.5)
    async with await connect(noise(12, cut_for_s=math.inf), impatient) as device:
        await device.configure(SPEC)
        with pytest.raises(NoAnswer):
            await transfer_pairs(device, PAIRS, 12)
    async with await connect(noise(13)) as device:
        await device.configure(SPEC)
        await transfer_pairs(device, 2, 13)

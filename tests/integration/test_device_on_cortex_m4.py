"""What mcu_bridge.device promises, with the firmware on an emulated Cortex-M4 with 256 KB RAM."""

import asyncio
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest
from device_cases import (
    IMPATIENT,
    SLOT,
    assignment,
    configure,
    disturbed,
    encoded,
    images,
    survive_resets,
    uploading,
    writes_of_an_assignment,
)
from device_lines import KeptLine
from learner_cases import CASES, CROSS_ENTROPY, case, differing, trained_here

from mcu_bridge.device import Device
from mcu_bridge.errors import LineLost, ModelDoesNotFit, NoAnswer
from mcu_bridge.lines.emulated import EmulatedBoard, open_emulated
from mcu_bridge.selftest import run_selftest
from mcu_bridge.signal_generator import SignalGenerator
from tinyfleet.learner.native import NativeLearner
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.spec import ModelSpec
from tinyfleet.strategies.plan import Phase

pytestmark = [
    pytest.mark.needs_package("gcc-arm-none-eabi", command="arm-none-eabi-gcc"),
    pytest.mark.needs_package("qemu-system-arm", command="qemu-system-arm"),
]
LARGEST = [builtin_model(name, (28, 28, 1), 5, CROSS_ENTROPY) for name in ("cnn_m", "cnn_l")]


@pytest.fixture
async def board() -> AsyncIterator[EmulatedBoard]:
    found = await open_emulated("mps2-an386")
    yield found
    await found.close()


@pytest.fixture
async def device(board: EmulatedBoard) -> AsyncIterator[Device]:
    async with await Device.connect(board) as found:
        yield found


async def test_a_board_says_what_it_is(device: Device) -> None:
    identity = device.identity
    assert (identity.board, identity.has_sensor) == ("mps2-an386", True)
    assert 2**18 - 12 * 1024 < identity.memory_bytes < 2**18
    assert identity.fault is None


@pytest.mark.parametrize(
    "name", ["mlp_32 in batches", "images in batches", "proximal", "pooled", "subnormals"]
)
async def test_training_has_this_machines_bits(device: Device, name: str) -> None:
    given = CASES[name]
    expected, here = trained_here(given)
    await configure(device, given)
    assert await device.train(given.phase, given.samples) == expected
    assert differing(await device.read_parameters(), here) == 0
    assert device.busy_seconds > 0.0


@pytest.mark.parametrize("spec", LARGEST, ids=lambda spec: spec.name)
async def test_the_largest_models_train_in_256_kb(device: Device, spec: ModelSpec) -> None:
    """112 and 187 KiB of parameters; images as bytes. A second such vector has no room."""
    given = images(Phase(6, 0.01), spec=spec)
    expected, here = trained_here(given)
    assert expected.finite
    await configure(device, given)
    assert await device.train(given.phase, given.samples) == expected
    assert differing(await device.read_parameters(), here) == 0
    counters = await device.counters()
    assert 0 < counters.stack_used_bytes < counters.stack_bytes
    with pytest.raises(ModelDoesNotFit):
        await device.configure(spec, keep_start=True)


async def test_training_that_diverges_says_so(device: Device) -> None:
    wild = case(CASES["mlp_32"].spec, Phase(200, 10.0))
    expected, _ = trained_here(wild)
    await configure(device, wild)
    trained = await device.train(wild.phase, wild.samples)
    assert (trained.finite, trained.updates) == (expected.finite, expected.updates)
    assert not trained.finite


async def test_training_and_evaluating_on_the_sensor_is_on_its_samples(device: Device) -> None:
    spec, phase = CASES["images"].spec, Phase(40, 0.01, passes=2)
    samples = SignalGenerator(7).samples(phase.samples, spec.inputs, spec.outputs)
    here = initial_parameters(spec, 5)
    await device.configure(spec, stored_samples=phase.samples)
    await device.write_parameters(here)
    assert await device.train_on_sensor(phase, 7) == NativeLearner(spec).train(here, samples, phase)
    assert differing(await device.read_parameters(), here) == 0
    found = await device.evaluate_on_sensor(40, 7)
    assert found == await device.evaluate(samples)
    losses = NativeLearner(spec).losses(here, samples)
    assert found.loss == sum(map(float, losses)) / len(losses)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("local", [(), ("dense_3",)])
async def test_an_update_is_the_one_that_its_host_would_send(
    device: Device, precision: str, local: tuple[str, ...]
) -> None:
    given = case(CASES["mlp_32"].spec, Phase(60, 0.01, trainable=("dense_1", "dense_3")))
    await configure(device, given, keep_start=True)
    change = trained_here(given)[1] - given.parameters
    for fraction in (0.003, 0.05, 0.25, 0.9):
        await device.write_parameters(given.parameters)
        assert (await device.train(given.phase, given.samples)).finite
        exchange = uploading(given.spec, fraction, precision, local)
        assert await encoded(device, exchange) == exchange.encode(change, *SLOT)


async def test_an_update_of_a_change_of_subnormals_has_the_hosts_bytes(device: Device) -> None:
    """The processor and the software for doubles must both know numbers that small."""
    given = CASES["subnormals"]
    await configure(device, given, keep_start=True)
    await device.train(given.phase, given.samples)
    change = trained_here(given)[1] - given.parameters
    exchange = uploading(given.spec, 1.0, "int8")
    assert await encoded(device, exchange) == exchange.encode(change, *SLOT)


async def test_a_reset_at_any_moment_ends_in_a_clean_retry(board: EmulatedBoard) -> None:
    resets = await survive_resets(board, times=5)
    assert resets.came >= 4
    assert resets.noticed >= resets.came - 1


async def test_a_board_that_hangs_is_given_up_in_time(board: EmulatedBoard) -> None:
    writes, expected = await writes_of_an_assignment(board)
    start = time.monotonic()
    with pytest.raises(NoAnswer, match="reset it"):
        await disturbed(board, writes // 4, board.stop, IMPATIENT)
    assert time.monotonic() - start < 10 * IMPATIENT.progress_s
    await board.cont()
    async with await Device.connect(KeptLine(board)) as device:
        assert await assignment(device) == expected


async def test_a_power_cut_while_it_trains_is_a_lost_line(board: EmulatedBoard) -> None:
    phase = Phase(100_000, 0.001)
    spec = CASES["images"].spec
    device = await Device.connect(KeptLine(board))
    await device.configure(spec)
    await device.write_parameters(np.zeros(spec.parameter_count, np.float32))
    training = asyncio.create_task(device.train_on_sensor(phase, 1))
    await asyncio.sleep(0.3)
    assert not training.done()
    await board.power_cut()
    with pytest.raises(LineLost):
        await training


async def test_a_selftest_passes(device: Device) -> None:
    report = await run_selftest(device, transfers=2)
    assert report.passed
    assert report.counters.bad_frames == 0
    assert report.counters.ring_overrun_bytes == 0

"""What mcu_bridge.device promises, with the firmware as a process of this machine."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

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
from device_lines import EventfulLine, KeptLine
from learner_cases import CASES, CROSS_ENTROPY, Case, case, differing, trained_here

from mcu_bridge.device import Device, messages
from mcu_bridge.errors import (
    DeviceRefused,
    DeviceRestarted,
    LineLost,
    ModelDoesNotFit,
    NoAnswer,
    Status,
)
from mcu_bridge.lines.emulated import EmulatedBoard, open_emulated
from mcu_bridge.noise import Noise, NoisyLine
from mcu_bridge.selftest import run_selftest
from mcu_bridge.signal_generator import SignalGenerator
from tinyfleet.errors import Diverged, InvalidInput
from tinyfleet.learner import layer_table
from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.protocol import Samples, run_plan
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.strategies.plan import Phase, TrainingPlan

SINE = CASES["mlp_32"].spec


@pytest.fixture
async def board() -> AsyncIterator[EmulatedBoard]:
    found = await open_emulated("host")
    yield found
    await found.close()


@pytest.fixture
async def device(board: EmulatedBoard) -> AsyncIterator[Device]:
    async with await Device.connect(board) as found:
        yield found


ALL = {
    **CASES,
    "images of bytes": images(Phase(40, 0.02)),
    "images of bytes, stored, in batches": images(Phase(31, 0.02, batch_size=4, passes=3)),
    "one sample": case(SINE, Phase(1, 0.02)),
    "one batch of all": case(SINE, Phase(50, 0.05, batch_size=50)),
}


async def test_a_board_says_what_it_is(device: Device) -> None:
    identity = device.identity
    assert identity.board == "host"
    assert identity.memory_bytes > 200_000
    assert identity.boot_id != 0
    assert (identity.reset_cause, identity.fault, identity.has_sensor) == ("power", None, True)


@pytest.mark.parametrize("case", ALL.values(), ids=ALL)
async def test_training_has_this_machines_bits(device: Device, case: Case) -> None:
    expected, here = trained_here(case)
    assert expected.finite
    await configure(device, case)
    assert await device.train(case.phase, case.samples) == expected
    assert differing(await device.read_parameters(), here) == 0
    assert differing(here, case.parameters) > 0
    assert device.busy_seconds > 0.0


async def test_phases_go_on_where_the_one_before_ended(device: Device) -> None:
    """A head first, then all layers: what partial local reconstruction does."""
    first, second = Phase(20, 0.05, passes=3, trainable=("dense_3",)), Phase(30, 0.02, batch_size=7)
    samples = case(SINE, Phase(50, 0.02)).samples
    here = initial_parameters(SINE, 3)
    await device.configure(SINE, gradient=True, stored_samples=20)
    await device.write_parameters(here)
    done = [
        await device.train(first, samples[:20]),
        await device.train(second, samples[20:]),
    ]
    plan_done = run_plan(NativeLearner(SINE), here, samples, TrainingPlan((first, second)))
    assert differing(await device.read_parameters(), here) == 0
    assert sum(each.updates for each in done) == plan_done.updates


@pytest.mark.parametrize("batch_size", [1, 10])
async def test_training_that_diverges_says_so(device: Device, batch_size: int) -> None:
    wild = case(SINE, Phase(200, 10.0, batch_size=batch_size))
    expected, _ = trained_here(wild)
    assert not expected.finite
    await configure(device, wild)
    trained = await device.train(wild.phase, wild.samples)
    assert (trained.finite, trained.updates) == (False, expected.updates)
    assert np.isnan(trained.loss)
    with pytest.raises(Diverged):
        await device.read_parameters()
    calm = CASES["mlp_32"]
    await configure(device, calm)  # the board is as good as new
    assert await device.train(calm.phase, calm.samples) == trained_here(calm)[0]


@pytest.mark.parametrize("name", ["mlp_32", "images"])
async def test_training_on_the_sensor_is_training_on_its_samples(device: Device, name: str) -> None:
    spec, phase = CASES[name].spec, Phase(100, 0.01, batch_size=8, passes=2)
    samples = SignalGenerator(7).samples(phase.samples, spec.inputs, spec.outputs)
    here = initial_parameters(spec, 5)
    stored = 100 if name == "mlp_32" else 0
    phase = phase if stored else Phase(100, 0.01)
    await device.configure(spec, gradient=bool(stored), stored_samples=stored)
    await device.write_parameters(here)
    seen: list[int] = []
    there = await device.train_on_sensor(phase, 7, progress=seen.append)
    assert there == NativeLearner(spec).train(here, samples, phase)
    assert differing(await device.read_parameters(), here) == 0
    assert seen == sorted(seen)
    assert seen[-1] == phase.samples * phase.passes


@pytest.mark.parametrize("name", ["mlp_32", "images", "pooled"])
async def test_an_evaluation_has_this_machines_loss_and_changes_nothing(
    device: Device, name: str
) -> None:
    given = CASES[name]
    learner = NativeLearner(given.spec)
    await configure(device, given)
    found = await device.evaluate(given.samples)
    losses = learner.losses(given.parameters, given.samples)
    assert found.loss == sum(map(float, losses)) / len(losses)
    right = learner.predict(given.parameters, given.samples.inputs).argmax(axis=1)
    assert found.accuracy == np.mean(right == given.samples.targets.argmax(axis=1))
    assert differing(await device.read_parameters(), given.parameters) == 0


async def test_an_evaluation_on_the_sensor_is_one_on_its_samples(device: Device) -> None:
    given = CASES["images"]
    await configure(device, given)
    samples = SignalGenerator(3).samples(50, given.spec.inputs, given.spec.outputs)
    assert await device.evaluate_on_sensor(50, 3) == await device.evaluate(samples)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("fraction", [0.001, 0.03, 0.25, 0.999])
async def test_an_update_is_the_one_that_its_host_would_send(
    device: Device, fraction: float, precision: str
) -> None:
    """With one trainable layer of 33 parameters, larger fractions find nothing but zeros."""
    head_only = case(SINE, Phase(60, 0.02, trainable=("dense_3",)))
    await configure(device, head_only, keep_start=True)
    assert (await device.train(head_only.phase, head_only.samples)).finite
    change = trained_here(head_only)[1] - head_only.parameters
    exchange = uploading(SINE, fraction, precision)
    found = await device.encode(exchange, exchange.noise(*SLOT))
    assert found.data == exchange.encode(change, *SLOT)
    assert found.norm == pytest.approx(float(np.linalg.norm(change)), rel=1e-5)
    assert found.seconds > 0.0
    assert differing(await device.read_parameters(), trained_here(head_only)[1]) == 0


@pytest.mark.parametrize("local", [("dense_1",), ("dense_2",), ("dense_1", "dense_3")])
async def test_an_update_has_nothing_of_local_layers(
    device: Device, local: tuple[str, ...]
) -> None:
    given = CASES["mlp_32"]
    await configure(device, given, keep_start=True)
    await device.train(given.phase, given.samples)
    change = trained_here(given)[1] - given.parameters
    exchange = uploading(given.spec, 0.25, "int8", local)
    assert await encoded(device, exchange) == exchange.encode(change, *SLOT)


async def test_an_update_takes_equal_magnitudes_by_index(device: Device) -> None:
    """Zero inputs and targets of one magnitude give the output biases changes of one size."""
    spec = CASES["pooled"].spec
    still = Samples(np.zeros((1, spec.inputs), np.float32), np.full((1, 3), 1 / 3, np.float32))
    tied = Case(spec, np.zeros(spec.parameter_count, np.float32), still, Phase(1, 0.5))
    await configure(device, tied, keep_start=True)
    change = trained_here(tied)[1]
    for count in (1, 2, 3, 50):
        await device.write_parameters(tied.parameters)
        await device.train(tied.phase, tied.samples)
        exchange = uploading(spec, count / spec.parameter_count)
        assert await encoded(device, exchange) == exchange.encode(change, *SLOT)


async def test_an_update_needs_the_start_and_comes_once(device: Device) -> None:
    given = CASES["mlp_32"]
    exchange = uploading(given.spec, 0.1, "int8")
    await configure(device, given)
    with pytest.raises(InvalidInput, match="keep_start"):
        await encoded(device, exchange)
    await configure(device, given, keep_start=True)
    await device.train(given.phase, given.samples)
    await encoded(device, exchange)
    with pytest.raises(DeviceRefused) as caught:
        await encoded(device, exchange)
    assert caught.value.status == Status.WRONG_STATE


async def test_an_update_of_another_model_or_a_dense_one_is_not_asked_for(device: Device) -> None:
    given = CASES["mlp_32"]
    await configure(device, given, keep_start=True)
    with pytest.raises(InvalidInput, match="another model"):
        await encoded(device, uploading(CASES["pooled"].spec, 0.1))
    with pytest.raises(InvalidInput, match="dense"):
        await encoded(device, uploading(given.spec, 1.0))
    await device.train(given.phase, given.samples)
    assert await encoded(device, uploading(given.spec, 0.1))


async def test_a_model_that_does_not_fit_is_refused_by_name_and_number(device: Device) -> None:
    large = builtin_model("cnn_m", (28, 28, 1), 5, CROSS_ENTROPY)
    with pytest.raises(ModelDoesNotFit, match=r"'cnn_m' needs .* too few") as caught:
        await device.configure(large, keep_start=True)
    assert caught.value.needed > caught.value.available == device.identity.memory_bytes
    await configure(device, CASES["mlp_32"])  # the board goes on with what fits


async def test_the_board_needs_what_it_says(device: Device) -> None:
    """Stored samples up to the last byte fit; one more does not, and takes one sample's bytes."""
    few = await device.configure(SINE, stored_samples=1)
    sample_bytes = 4 * (SINE.inputs + SINE.outputs)
    most = 1 + (few.available_bytes - few.needed_bytes) // sample_bytes
    assert (await device.configure(SINE, stored_samples=most)).needed_bytes <= few.available_bytes
    with pytest.raises(ModelDoesNotFit) as caught:
        await device.configure(SINE, stored_samples=most + 1)
    assert caught.value.needed - few.needed_bytes == most * sample_bytes


async def test_a_layer_that_the_firmware_lacks_is_told(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(layer_table.LAYER_CODES, "tanh", 77)
    with pytest.raises(DeviceRefused, match="cannot run a layer") as caught:
        await device.configure(CASES["pooled"].spec)
    assert caught.value.status == Status.BAD_LAYER
    monkeypatch.undo()
    await configure(device, CASES["pooled"])


async def test_the_same_model_is_configured_once(device: Device) -> None:
    given = CASES["mlp_32"]
    await configure(device, given)
    await device.train(given.phase, given.samples)
    frames = (await device.counters()).frames
    await device.configure(given.spec, stored_samples=given.phase.samples)
    assert (await device.counters()).frames == frames + 1  # that of the first counters
    assert differing(await device.read_parameters(), trained_here(given)[1]) == 0


async def test_what_the_board_cannot_do_is_refused_here(device: Device) -> None:
    given = case(SINE, Phase(20, 0.02))
    with pytest.raises(InvalidInput, match="configure it first"):
        await device.train(given.phase, given.samples)
    await configure(device, given)
    refused = {
        "gradient=True": Phase(20, 0.02, batch_size=2),
        "stored_samples": Phase(20, 0.02, passes=2),
        "keep_start=True": Phase(20, 0.02, proximal=0.1),
        "takes 19 samples": Phase(19, 0.02),
    }
    for words, phase in refused.items():
        with pytest.raises(InvalidInput, match=words):
            await device.train(phase, given.samples)
    with pytest.raises(InvalidInput, match="finite"):
        await device.write_parameters(np.full_like(given.parameters, np.nan))
    with pytest.raises(InvalidInput):
        await device.evaluate(given.samples[:0])
    assert (await device.train(given.phase, given.samples)).finite


async def test_parameters_must_be_written_before_they_are_read_or_trained(device: Device) -> None:
    given = CASES["mlp_32"]
    await device.configure(given.spec, stored_samples=given.phase.samples)
    for call in (device.read_parameters(), device.train(given.phase, given.samples)):
        with pytest.raises(DeviceRefused) as caught:
            await call
        assert caught.value.status == Status.WRONG_STATE


async def test_a_cancelled_write_goes_on_where_it_was(board: EmulatedBoard) -> None:
    large = builtin_model("cnn_m", (28, 28, 1), 5, CROSS_ENTROPY)
    parameters = initial_parameters(large, 1)
    line = EventfulLine(board)
    device = await Device.connect(line)
    await device.configure(large)
    halfway = large.parameter_bytes // 2
    reached = asyncio.Event()
    write = device.write_parameters(
        parameters, progress=lambda taken: reached.set() if taken >= halfway else None
    )
    task = asyncio.create_task(write)
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    before = line.bytes_written
    await device.write_parameters(parameters)
    assert line.bytes_written - before < 0.6 * large.parameter_bytes
    assert differing(await device.read_parameters(), parameters) == 0


async def test_other_parameters_after_a_cancelled_write_are_those(board: EmulatedBoard) -> None:
    large = builtin_model("cnn_m", (28, 28, 1), 5, CROSS_ENTROPY)
    device = await Device.connect(KeptLine(board))
    await device.configure(large)
    task = asyncio.create_task(device.write_parameters(initial_parameters(large, 1)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await device.write_parameters(initial_parameters(large, 2))
    assert differing(await device.read_parameters(), initial_parameters(large, 2)) == 0


@pytest.mark.parametrize("on_sensor", [False, True])
async def test_a_cancelled_training_leaves_nothing_behind(
    board: EmulatedBoard, on_sensor: bool
) -> None:
    expected = (await writes_of_an_assignment(board))[1]
    spec = CASES["images"].spec
    async with await Device.connect(KeptLine(board)) as device:
        await device.configure(spec, keep_start=True)
        await device.write_parameters(initial_parameters(spec, 1))
        phase, begun = Phase(20_000, 0.001), asyncio.Event()
        if on_sensor:
            work = device.train_on_sensor(phase, 1, progress=lambda _: begun.set())
        else:
            zeros = np.zeros((phase.samples, spec.inputs), np.float32)
            targets = np.eye(spec.outputs, dtype=np.float32)[np.zeros(phase.samples, int)]
            work = device.train(phase, Samples(zeros, targets), progress=lambda _: begun.set())
        task = asyncio.create_task(work)
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await assignment(device) == expected


# ---- A board that is reset, hangs, or loses its power


async def test_a_reset_at_any_moment_ends_in_a_clean_retry(board: EmulatedBoard) -> None:
    resets = await survive_resets(board, times=20)
    assert resets.came >= 12
    assert resets.noticed >= resets.came - 4


async def test_a_board_that_was_reset_has_to_be_connected_anew(
    board: EmulatedBoard,
) -> None:
    device = await Device.connect(KeptLine(board))
    await device.reset()
    with pytest.raises(DeviceRestarted):
        await device.counters()
    again = await Device.connect(KeptLine(board))
    assert again.identity.boot_id != device.identity.boot_id
    assert again.identity.reset_cause == "software"


async def test_two_connections_to_one_boot_see_the_same_boot(board: EmulatedBoard) -> None:
    first = await Device.connect(KeptLine(board))
    second = await Device.connect(KeptLine(board))
    assert first.identity == second.identity


async def test_a_board_that_hangs_is_given_up_in_time(board: EmulatedBoard) -> None:
    writes, expected = await writes_of_an_assignment(board)
    for write in (2, writes // 4, writes // 2):
        start = time.monotonic()
        with pytest.raises(NoAnswer, match="reset it"):
            await disturbed(board, write, board.stop, IMPATIENT)
        assert time.monotonic() - start < 10 * IMPATIENT.progress_s
        await board.cont()
        async with await Device.connect(KeptLine(board)) as device:
            assert await assignment(device) == expected


async def test_a_board_that_hangs_for_a_moment_loses_nothing(board: EmulatedBoard) -> None:
    _, expected = await writes_of_an_assignment(board)

    async def hang_a_moment() -> None:
        await board.stop()
        asyncio.get_running_loop().call_later(0.3, board.process.send_signal, signal.SIGCONT)

    line = EventfulLine(board, 12, hang_a_moment)
    async with await Device.connect(line) as device:
        assert await assignment(device) == expected
    assert line.writes > 12


@pytest.mark.parametrize("write", [2, 9, 17])
async def test_a_board_that_loses_power_is_lost(board: EmulatedBoard, write: int) -> None:
    with pytest.raises(LineLost):
        await disturbed(board, write, board.power_cut)


async def test_a_device_that_was_lost_says_so_again(board: EmulatedBoard) -> None:
    device = await Device.connect(KeptLine(board), IMPATIENT)
    await board.power_cut()
    for _ in range(2):
        with pytest.raises(LineLost):
            await device.counters()


async def test_a_selftest_passes_on_a_good_board(device: Device) -> None:
    parts: list[str] = []
    report = await run_selftest(device, transfers=3, listener=lambda step: parts.append(step.part))
    assert report.passed
    assert report.transfers.payload_bytes == 2 * 3 * 4 * 1153
    assert report.counters.bad_frames == 0
    assert all(check.ticks_per_sample > 0 for check in report.trainings)
    assert {"transfers", "training"} == set(parts)


async def test_a_selftest_passes_over_a_bad_line_and_tells_of_it(board: EmulatedBoard) -> None:
    line = NoisyLine(board, Noise(flip=2e-5, drop=1e-4, duplicate=1e-4, baud=1_000_000, seed=1))
    async with await Device.connect(line) as device:
        report = await run_selftest(device, transfers=5)
    assert report.passed
    assert report.repeated > 0
    assert report.counters.bad_frames > 0
    assert report.received.corrupt > 0
    assert 0.0 < report.transfers.line_share(1_000_000) < 0.94


async def test_a_selftest_notices_bits_that_are_not_this_machines(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the board trained at a rate that differs in the last bit."""
    pack = messages.RUN.pack

    def other_rate(mask: int, n: int, batch: int, passes: int, rate: float, *rest: int) -> bytes:
        return pack(mask, n, batch, passes, rate * (1 + 2**-20), *rest)

    monkeypatch.setattr(messages, "RUN", SimpleNamespace(pack=other_rate))
    report = await run_selftest(device, transfers=1)
    assert not report.passed
    assert not any(check.same_bits for check in report.trainings)

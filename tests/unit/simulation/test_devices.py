"""Devices that take turns change the bytes that go down, and nothing else."""

import numpy as np
import pytest

from tinyfleet.errors import InvalidInput
from tinyfleet.exchange import exchange_of
from tinyfleet.learner import make_learner
from tinyfleet.run import make_run
from tinyfleet.simulation import ServedDevices, simulate
from tinyfleet.tasks import make_task

SINE = make_task("sine", {})
WHOLE = {"float32": 4 * 1120, "float16": 2 * 1120, "int8": 1120 + 2}


def run_of(rounds=12, slots=1, precision="int8", changes=True, **options):
    chosen = {"samples": 8, "local_samples": 2, "agents_per_round": slots, "local_layers": 1}
    chosen |= {"down_precision": precision, "changes_only": changes}
    return make_run(SINE, "tiny_meta_fed", rounds, 3, "mlp_32", chosen | options)


def simulated(run, devices=None, **options):
    return simulate(run, SINE, make_learner(run.model), devices=devices, **options)


@pytest.mark.parametrize("precision", list(WHOLE))
def test_a_new_device_is_sent_everything(precision):
    for changes in (True, False):
        run = run_of(slots=3, precision=precision, changes=changes)
        assert simulated(run).bytes_down == 12 * 3 * WHOLE[precision]
    assert simulated(run, 2).bytes_down == 12 * 3 * WHOLE[precision]  # they keep nothing


@pytest.mark.parametrize("precision", list(WHOLE))
def test_who_serves_changes_the_bytes_that_go_down_alone(precision):
    run = run_of(slots=2, precision=precision, fraction=0.05)
    results = [simulated(run, devices) for devices in (1, 2, 3, 7, 1000, None)]
    for name in ("bytes_up", "samples", "version", "diverged"):
        assert len({getattr(result, name) for result in results}) == 1
    assert len({result.parameters.tobytes() for result in results}) == 1
    down = [result.bytes_down for result in results]
    assert down == sorted(down)
    assert down[0] < down[2] < down[-1] == down[-2]


def test_precision_and_changes_are_what_a_device_trains_from():
    sent = {
        (precision, changes): simulated(run_of(precision=precision, changes=changes))
        for precision in WHOLE
        for changes in (False, True)
    }
    ends = {key: result.parameters.tobytes() for key, result in sent.items()}
    assert len(set(ends.values())) == 3
    assert all(ends[one, True] == ends[one, False] for one in WHOLE)


def test_bytes_are_those_of_devices_that_read_what_they_are_sent():
    """Seven devices and three slots, played with nothing but the format."""
    run, reports = run_of(slots=3, rounds=20, fraction=0.1), []
    simulated(run, 7, on_round=reports.append)
    starts, held, model = exchange_of(run).starts, {}, run.initial_parameters()
    for report in reports:
        now, down = exchange_of(run).start(model), 0
        for slot in range(3):
            device = (report.round * 3 + slot) % 7
            changes = starts.write_changes(held[device], now) if device in held else None
            down += starts.whole_bytes if changes is None else len(changes)
            held[device] = now
        assert report.bytes_down == down
        model = report.parameters


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_devices_that_are_restored_go_on_as_if_nothing_had_been(stop):
    run, reports = run_of(slots=2, fraction=0.1), []
    exchange = exchange_of(run)
    devices, kept = ServedDevices(exchange, 2, 5), {}

    def on_round(report):
        reports.append(report)
        kept[report.version] = devices.to_bytes()

    whole = simulated(run, devices, on_round=on_round)
    again = ServedDevices(exchange, 2, 5)
    again.restore(kept[stop], stop - 1)
    start = reports[stop - 1].parameters
    rest = simulated(run, again, parameters=start, version=stop)
    assert np.array_equal(rest.parameters, whole.parameters)
    assert rest.bytes_down == sum(report.bytes_down for report in reports[stop:])


@pytest.mark.parametrize("devices", [0, -1, 1_000_001])
def test_devices_that_cannot_be_are_refused(devices):
    with pytest.raises(InvalidInput, match="devices must be 1 to 1000000"):
        simulated(run_of(), devices)


def test_devices_that_keep_nothing_take_nothing():
    devices = ServedDevices(exchange_of(run_of(changes=False)), 1, 3)
    assert devices.to_bytes() == b""
    with pytest.raises(InvalidInput, match="keep nothing"):
        devices.restore(b"x", 3)

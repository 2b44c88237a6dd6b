"""Estimates are arithmetic on checked models, and each number says where it is from."""

import math
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from tinyfleet.energy import (
    Deployment,
    Link,
    Processor,
    Workload,
    builtin_models,
    estimate,
    load_models,
    plan_workload,
    training_macs,
)
from tinyfleet.energy.models import models_from_document
from tinyfleet.errors import InvalidInput
from tinyfleet.model import builtin_model
from tinyfleet.model.cost import multiply_accumulates
from tinyfleet.strategies.plan import Phase, TrainingPlan

ROOT = Path(__file__).resolve().parents[3]
BUILTIN = files("tinyfleet.energy").joinpath("models.toml").read_text("utf-8")
MLP = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
CNN = builtin_model("cnn_s", (28, 28, 1), 5, "softmax_cross_entropy")


def document():
    return tomllib.loads(BUILTIN)


def test_joules_are_seconds_times_watts_and_bytes_times_their_price():
    processor = Processor("p", clock_hz=1000.0, cycles_per_mac=2.0, cycles_per_sample=10.0, watts=3)
    link = Link("l", 50.0, wire_bytes_per_byte=2.0, watts_sending=5.0, watts_receiving=7.0)
    found = estimate(Deployment("d", processor, link), Workload(10, 450), 100, 25)
    assert found.training_s == (10 * 10 + 450 * 2) / 1000
    assert found.training_j == 3.0 * found.training_s
    assert found.link_s == 100 * 2 / 50 + 25 * 2 / 50
    assert found.link_j == 5.0 * 4.0 + 7.0 * 1.0
    assert found.total_j == found.training_j + found.link_j
    assert found.to_document()["device_s"] == found.training_s + found.link_s


def test_training_all_layers_is_three_forward_passes():
    for spec in (MLP, CNN):
        assert training_macs(spec) == 3 * multiply_accumulates(spec)


def test_frozen_layers_cost_no_gradient():
    # 1-32-32-1: forward 32 + 1024 + 32; the head alone adds its own two gradients.
    assert training_macs(MLP, ("dense_3",)) == 1088 + 2 * 32
    # With the first layer alone learning, gradients still pass through those above it.
    assert training_macs(MLP, ("dense_1",)) == 2 * 1088 + 32


def test_a_plan_counts_every_pass_of_every_phase():
    plan = TrainingPlan((Phase(10, 0.1, passes=3), Phase(5, 0.1, trainable=("dense_3",))))
    work = plan_workload(MLP, plan)
    assert work.samples == 35
    assert work.macs == 30 * training_macs(MLP) + 5 * training_macs(MLP, ("dense_3",))


@pytest.mark.parametrize(
    ("model", "milliseconds"),
    [("mlp_32", 0.236), ("mlp_64", 0.681), ("cnn_s", 19.662), ("cnn_m", 84.758)],
)
def test_the_cortex_m4_model_is_within_8_percent_of_the_counted_cycles(model, milliseconds):
    """The figures of mcu_bridge/README.md, instructions under QEMU times the manual's cycles."""
    image = model.startswith("cnn")
    shape, outputs = ((28, 28, 1), 5) if image else ((1, 1, 1), 1)
    loss = "softmax_cross_entropy" if image else "mean_squared_error"
    spec = builtin_model(model, shape, outputs, loss)
    processor = builtin_models().find("cortex-m4+ble").processor
    estimated = 1e3 * processor.seconds(1, training_macs(spec))
    assert estimated == pytest.approx(milliseconds, rel=0.08)


def test_every_number_says_where_it_is_from():
    models = builtin_models()
    assert [d.name for d in models.deployments] == ["cortex-m4+ble", "cortex-m4+uart", "pi4+wifi"]
    assert len(models.sources) == 2 * 4 + 3 * 4
    for number in models.sources:
        assert math.isfinite(number.value)
        assert len(number.source) > 10, number.where


def test_the_docs_list_every_model_with_its_number_and_kind():
    page = (ROOT / "docs/energy.md").read_text("utf-8")
    for deployment in builtin_models().deployments:
        assert f"`{deployment.name}`" in page
    for number in builtin_models().sources:
        row = next(line for line in page.splitlines() if f"`{number.where}`" in line)
        assert f"{number.value:g} {number.unit}" in row
        assert number.kind in row


def test_a_file_replaces_the_models(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(BUILTIN.replace("value = 0.010\n", "value = 0.020\n"))
    own, usual = load_models(path).deployments[0], builtin_models().deployments[0]
    assert own.processor.watts == 2 * usual.processor.watts
    assert load_models(None) is builtin_models()


def break_number(table, **changes):
    table["processors"]["pi4"]["watts"] |= changes


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.pop("links"), "needs the key 'links'"),
        (lambda d: d.update(link={}), "unknown key of an energy file 'link': did you mean 'links'"),
        (lambda d: d.update(links=[]), "links must be 1 to 32 tables"),
        (lambda d: d.update(deployments=[]), "deployments must be a list"),
        (lambda d: d["deployments"].append(d["deployments"][0]), "different names"),
        (lambda d: d["deployments"][0].update(link="wify"), "did you mean 'wifi'"),
        (lambda d: d["processors"]["pi4"].update(wats={}), "did you mean 'watts'"),
        (lambda d: d["processors"]["pi4"].update(watts=2.5), "must be a table"),
        (lambda d: break_number(d, value=0), "must be above 0"),
        (lambda d: break_number(d, value=math.nan), "must be above 0"),
        (lambda d: break_number(d, value=math.inf), "must be above 0"),
        (lambda d: break_number(d, value=10**400), "must be above 0"),
        (lambda d: break_number(d, value=True), "must be a number"),
        (lambda d: break_number(d, kind="guess"), "must be one of measured, cited, assumed"),
        (lambda d: break_number(d, source="x\n"), "printable"),
        (lambda d: d["links"]["ble"]["wire_bytes_per_byte"].update(value=0.5), "at least 1"),
    ],
)
def test_a_model_that_cannot_be_is_refused(spoil, message):
    spoilt = document()
    spoil(spoilt)
    with pytest.raises(InvalidInput, match=message) as caught:
        models_from_document(spoilt)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff", b"a = [", b"#" * 300_000, b"x = " + b"[" * 5000])
def test_a_file_that_is_no_toml_is_refused(tmp_path, data):
    path = tmp_path / "bad.toml"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"bad\.toml") as caught:
        load_models(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidInput, match="cannot read"):
        load_models(tmp_path / "none")

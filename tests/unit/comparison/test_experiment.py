"""An experiment file is checked before anything runs, and refused in one line with the remedy."""

import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.comparison.experiment import experiment_from_document, load_experiment
from tinyfleet.errors import InvalidInput

ROOT = Path(__file__).resolve().parents[3]
GOOD = """
task = "sine"
rounds = 100
test_every = 20
seeds = [1, 2]
target = 0.5
[test]
tasks = 300
[[strategies]]
strategy = "tiny_reptile"
options = { samples = 16 }
[[strategies]]
strategy = "local"
label = "from scratch"
"""


def good(**changes):
    return tomllib.loads(GOOD) | changes


def one(**changes):
    return {"strategies": [{"strategy": "tiny_reptile"} | changes]}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("*.toml")), ids=lambda p: p.stem
)
def test_the_experiments_of_the_project_are_valid(path):
    experiment = load_experiment(path)
    assert len(experiment.seeds) >= 3
    assert experiment.deployment == "cortex-m4+ble"


def test_devices_are_those_of_the_experiment_unless_a_strategy_has_its_own():
    assert [c.devices for c in experiment_from_document(good(), "x").contenders] == [None, None]
    document = good(devices=4)
    document["strategies"][0]["devices"] = 1
    assert [c.devices for c in experiment_from_document(document, "x").contenders] == [1, 4]


def test_quick_takes_a_tenth_of_the_rounds_and_few_problems():
    quick = experiment_from_document(good(), "x").quick()
    assert [c.rounds for c in quick.contenders] == [10, 0]
    assert (quick.contenders[0].test_every, quick.test["tasks"]) == (2, 100)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (good(round=1), "unknown key of an experiment 'round': did you mean 'rounds'"),
        ({"task": "sine"}, "needs the key 'rounds'"),
        (good(rounds=0), "rounds must be 1"),
        (good(devices=0), "devices must be 1 to 1000000"),
        (good(devices="two"), "devices must be a whole number"),
        (good(**one(devices=0)), "devices must be 1"),
        (good(rounds=True), "rounds must be a whole number"),
        (good(rounds=10**30), "rounds must be 1"),
        (good(seeds=[]), "list of 1 to 100"),
        (good(seeds=[1, 1]), "must differ"),
        (good(seeds=[-1]), "seeds must be 0"),
        (good(seeds=list(range(101))), "list of 1 to 100"),
        (good(target="half"), "target must be a number"),
        (good(target=math.nan), "target must be above 0"),
        (good(target=10**400), "target must be above 0"),
        (good(target=0), "target must be above 0"),
        (good(shots=[0]), "shots must be 1"),
        (good(shots=5), "shots must be a list"),
        (good(rounds=10_000_000, test_every=1), "more than 1000 tests"),
        (good(test={"task": 5}), "did you mean 'tasks'"),
        (good(test={"tasks": "5"}), "test.tasks must be a whole number"),
        (good(test={"rate": "fast"}), "rate must be a number"),
        (good(test={"rate": 10**400}), "rate must be above 0"),
        (good(test={"rate": math.nan}), "rate must be above 0"),
        (good(title="a\nb"), "printable"),
        (good(task_options={"ways": [5]}), "must be a number, a truth value or a text"),
        (good(strategies=[]), "list of 1 to 32"),
        (good(strategies=["tiny_reptile"]), "a strategy must be a table"),
        (good(**one(strategy="tinyreptile")), "did you mean 'tiny_reptile'"),
        (good(**one(label="x" * 33)), "label must be a text of 1 to 32"),
        (good(**one(option={})), "did you mean 'options'"),
        (good(**one(strategy="local", rounds=5)), "'local' has no rounds"),
        (good(**one(strategy="local", options={"rate": 1})), "unknown key of options of local"),
        (good(**one(adapt={"shots": 1})), "unknown key of adapt 'shots'"),
        (good(**one(adapt={"rate": 0})), "rate must be above 0"),
        (good(**one(adapt={"last_layers": 1.5})), "adapt.last_layers must be a whole number"),
        (good(**one(strategy="transfer", options={"outer_rate": 1})), "options of transfer"),
        (good(strategies=2 * one()["strategies"]), "label them differently"),
    ],
)
def test_a_hostile_experiment_is_refused_in_one_line(document, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        experiment_from_document(document, "x")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("data", [b"\xff", b"task = [", b"#" * 70_000, b"x = " + b"[" * 5000])
def test_a_file_that_is_no_experiment_is_refused(tmp_path, data):
    path = tmp_path / "bad.toml"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"bad\.toml") as caught:
        load_experiment(path)
    assert "\n" not in str(caught.value)


words = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


@given(
    key=st.sampled_from(sorted([*good(), "title", "model", "shots", "deployment"])), value=values
)
def test_no_value_of_a_key_ends_in_anything_but_a_refusal(key, value):
    refusals = []
    try:
        experiment_from_document(good(**{key: value}), "x")
    except InvalidInput as error:
        refusals.append(str(error))
    assert "\n" not in "".join(refusals)

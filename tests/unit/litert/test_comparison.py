"""A comparison of whole networks with heads behind an extractor."""

import json

import numpy as np
import pytest
from tflite_files import dense_file

from tinyfleet.cli.program import run
from tinyfleet.comparison.experiment import experiment_from_document
from tinyfleet.errors import InvalidInput

EXPERIMENT = """
title = "Heads"
task = "table"
task_options = { ways = 3 }
model = "mlp_32"
rounds = 6
seeds = [1, 2]
shots = [1, 2]

[test]
tasks = 10
shots = 2
queries = 2

[[strategies]]
label = "whole"
strategy = "tiny_reptile"

[[strategies]]
label = "head"
strategy = "tiny_reptile"
extractor = "body"

[[strategies]]
label = "two layers"
strategy = "tiny_meta_fed"
extractor = "body"
model = "mlp_32"

[[strategies]]
label = "no fleet"
strategy = "local"
extractor = "body"

[[strategies]]
label = "one layer"
strategy = "tiny_reptile"
model = "linear"
"""


@pytest.fixture
def words(tmp_path):
    """`tinyfleet compare` with all it needs, but for the extractor."""
    stream = np.random.default_rng(seed=1)
    labels = np.repeat(np.arange(15), 6)
    inputs = stream.uniform(-2, 2, (15, 4))[labels]
    np.savez(tmp_path / "a.npz", inputs=inputs, labels=labels)
    (tmp_path / "heads.toml").write_text(EXPERIMENT)
    (tmp_path / "body.tflite").write_bytes(dense_file(inputs=4, outputs=16))
    out = ["--out", str(tmp_path / "out"), "--data", str(tmp_path / "a.npz"), "--jobs", "1"]
    return ["compare", str(tmp_path / "heads.toml"), *out, "--json"]


@pytest.mark.slow
def test_each_learns_what_it_is_told_to(words, tmp_path, capsys):
    body = ["--extractor", f"body={tmp_path / 'body.tflite'}"]
    assert run([*words, *body]) == 0
    table = json.loads(capsys.readouterr().out)
    rows = {row["label"]: row for row in table["rows"]}
    assert rows["whole"]["learns"] == ""
    assert rows["head"]["learns"].startswith("linear (51 parameters) behind the frozen extractor")
    assert rows["two layers"]["learns"].startswith("mlp_32 (1,699 parameters) behind")
    assert rows["one layer"]["learns"] == "linear (15 parameters)"
    assert rows["head"]["bytes_up"] == 6 * 51 * 4
    text = (tmp_path / "out" / "table.md").read_text()
    assert "head learns linear (51 parameters) behind the frozen extractor 'body'." in text
    assert run([*words, *body]) == 0  # all is done already, and is of the same experiment
    assert json.loads(capsys.readouterr().out) == table


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ([], "add --extractor body=FILE.tflite"),
        (["body"], "'body' is not NAME=FILE.tflite"),
        (["body={}/none.tflite"], "cannot read"),
        (["body={}/a.npz"], "not a .tflite"),
        (["body={0}/body.tflite", "more={0}/body.tflite"], "no strategy has extractor 'more'"),
    ],
)
def test_what_is_given_is_what_is_asked_for(words, tmp_path, capsys, given, line):
    extra = [word for text in given for word in ("--extractor", text.format(tmp_path))]
    assert run([*words, *extra]) == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("entry", [{"extractor": ""}, {"extractor": 1}, {"model": ""}])
def test_a_name_is_a_text(entry):
    strategy = {"strategy": "tiny_reptile", **entry}
    document = {"task": "sine", "rounds": 1, "seeds": [1], "strategies": [strategy]}
    with pytest.raises(InvalidInput, match="must be a text"):
        experiment_from_document(document, "x")

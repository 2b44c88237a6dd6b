"""What a fleet learned is in the file afterwards: it begins with it, and trains on."""

import json

import numpy as np
import pytest
from trainable_files import CLASSIFIER, SINE, edited

from tinyfleet.checkpoint import load_checkpoint
from tinyfleet.cli.program import run
from tinyfleet.errors import InvalidInput
from tinyfleet.litert.file import load_tflite
from tinyfleet.litert.learned import with_weights
from tinyfleet.litert.learner import describe_trainable, open_trainable
from tinyfleet.model.spec import parameters_sha256
from tinyfleet.model.trainable import SignatureNames

NAMES = SignatureNames()


@pytest.mark.parametrize("file", [SINE, CLASSIFIER])
def test_a_file_begins_with_what_was_written_into_it_and_trains_the_same(file):
    before = open_trainable(file, NAMES)
    learned = np.linspace(-1, 1, before.layout.parameter_count, dtype=np.float32)
    after = open_trainable(with_weights(file, NAMES, learned), NAMES)
    assert after.layout == before.layout
    assert after.weights().tobytes() == learned.tobytes()
    before.write(learned)
    x = np.full(before.layout.inputs, 0.5, np.float32)
    y = np.full(before.layout.targets, 0.25, np.float32)
    assert before.infer(x).tobytes() == after.infer(x).tobytes()
    for signatures in (before, after):
        signatures.train(x, y, np.float32(0.1))
    assert before.weights().tobytes() == after.weights().tobytes()


def test_a_file_that_begins_in_another_way_is_left_alone():
    def computed(model) -> None:
        """The initial graph doubles nothing: it assigns one variable twice."""
        used = {one.subgraphIndex for one in model.signatureDefs}
        (first,) = (one for index, one in enumerate(model.subgraphs) if index not in used)
        assign = next(one for one in first.operators if len(one.inputs) == 2)
        first.operators.append(assign)

    with pytest.raises(InvalidInput, match="use its set_weights instead"):
        with_weights(edited(computed), NAMES, np.zeros(321, np.float32))


def test_checkpoint_fill_makes_a_file_that_a_further_run_begins_with(capsys, tmp_path):
    sine, learned = tmp_path / "sine.tflite", tmp_path / "learned.tflite"
    sine.write_bytes(SINE.content)
    quick = ["--rounds", "20", "--set", "samples=16", "--test-tasks", "20", "--json"]
    assert run(["simulate", "--trainable", str(sine), "--out", str(tmp_path), *quick]) == 0
    capsys.readouterr()
    ended = load_checkpoint(tmp_path / "checkpoint.tinyfleet").parameters
    words = ["checkpoint", "fill", str(tmp_path / "checkpoint.tinyfleet"), "-o", str(learned)]
    assert run([*words, "--trainable", str(sine), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == load_tflite(learned).sha256
    described = describe_trainable(load_tflite(learned), NAMES)
    assert described.initial.tobytes() == ended.tobytes()
    assert described.graph.initial_sha256 == parameters_sha256(ended)
    assert run(["simulate", "--trainable", str(learned), *quick]) == 0
    capsys.readouterr()
    assert run([*words, "--trainable", str(learned)]) == 2
    assert "the run's is" in capsys.readouterr().err
    assert run(words) == 2
    assert "--trainable FILE.tflite" in capsys.readouterr().err

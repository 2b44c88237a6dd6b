"""`tinyfleet predict`: what is read, asked and shown; the agent is one that the test plays."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tinyfleet.cli import predict, program
from tinyfleet.predictions import MAX_SAMPLES, Prediction
from tinyfleet.v1 import model_pb2, prediction_pb2

ADDRESS = "127.0.0.1:7320"


class PlayedModel:
    """A classifier of three classes: its logits are a sample's two values, and 0."""

    asked = ()

    def __init__(self, *how):
        PlayedModel.how = how
        PlayedModel.asked = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def describe(self):
        answer = prediction_pb2.GetModelResponse(agent="pi-1", task="keywords", outputs=3)
        answer.input_height = answer.input_width = 1
        answer.input_channels = 2
        answer.loss = model_pb2.LOSS_SOFTMAX_CROSS_ENTROPY
        answer.training_loss = 0.5
        answer.version.CopyFrom(self.version(1))
        return answer

    def predict(self, rows):
        self.asked.append(len(rows))
        outputs = np.concatenate([rows, np.zeros((len(rows), 1), np.float32)], axis=1)
        return Prediction(outputs, self.version(len(self.asked)))

    @staticmethod
    def version(number):
        return prediction_pb2.ModelVersion(
            run_id="run", round=number + 4, number=number, parameters_sha256="ab", model="mlp_32"
        )


@pytest.fixture(autouse=True)
def played(monkeypatch):
    monkeypatch.setattr(predict, "LiveModel", PlayedModel)


@pytest.fixture
def asking(tmp_path, capsys):
    def ask(*words, **arrays):
        path = tmp_path / "new.npz"
        np.savez(path, **arrays)
        code = program.run(["predict", ADDRESS, "--inputs", str(path), *words])
        return code, capsys.readouterr()

    return ask


def test_a_classifier_says_the_class_and_how_sure_it_is(asking):
    code, said = asking(inputs=[[math.log(2), math.log(5)], [0, -9]])
    assert code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["sample", "class", "probability", "round"]
    assert lines[1].split() == ["0", "1", "0.625", "5"]
    assert lines[2].split()[:2] == ["1", "0"]
    assert lines[3] == "mlp_32 of pi-1, run run"


def test_json_has_outputs_classes_and_the_models_that_gave_them(asking):
    code, said = asking("--json", inputs=np.zeros((MAX_SAMPLES + 1, 2)))
    document = json.loads(said.out)
    assert code == 0
    assert PlayedModel.asked == [MAX_SAMPLES, 1]
    assert [model["number"] for model in document["models"]] == [1, 2]
    assert document["rounds"] == [5] * MAX_SAMPLES + [6]
    assert len(document["outputs"]) == len(document["classes"]) == MAX_SAMPLES + 1
    assert document["probabilities"][0] == pytest.approx(1 / 3)


def test_large_logits_are_probabilities_all_the_same(asking):
    _, said = asking("--json", inputs=[[1e30, -1e30]])
    assert json.loads(said.out)["probabilities"] == [1.0]


def test_samples_of_several_axes_are_rows(asking):
    code, _ = asking(inputs=np.zeros((3, 2, 1), np.uint8))
    assert (code, PlayedModel.asked) == (0, [3])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"values": np.zeros((2, 2))}, "it has no array 'inputs'"),
        ({"inputs": np.zeros((2, 3))}, "has 3 values a sample, the model takes 1x1x2"),
        ({"inputs": np.zeros((0, 2))}, "inputs must be real numbers, got float64 (0, 2)"),
        ({"inputs": np.array(["a"])}, "inputs must be real numbers"),
        ({"inputs": np.array([{}], object)}, "a pickle can run any program"),
        ({"inputs": np.float64(1)}, "inputs must be real numbers, got float64 ()"),
    ],
)
def test_a_file_of_no_use_is_refused_in_one_line(asking, arrays, message):
    code, said = asking(**arrays)
    assert code == 2
    assert message in said.err
    assert said.err.count("\n") == 1
    assert PlayedModel.asked == []


def test_a_file_that_is_none_is_refused(tmp_path, capsys):
    path = tmp_path / "text"
    path.write_text("hello")
    assert program.run(["predict", ADDRESS, "--inputs", str(path)]) == 2
    assert "give an .npz with the array inputs" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["nowhere"], [ADDRESS, "--out", "x.npz"]])
def test_a_command_that_says_too_little_is_refused(words, capsys):
    assert program.run(["predict", *words]) == 2


def test_the_model_is_described(capsys):
    assert program.run(["predict", ADDRESS, "--agent", "pi-1", "--tls", "folder"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "mlp_32 of pi-1: 1x1x2 inputs, 3 outputs",
        "run run on keywords, round 5, model 1",
        "trained -, loss 0.5",
        "sha256 ab",
    ]
    assert (str(PlayedModel.how[1]), PlayedModel.how[2]) == ("folder", "pi-1")
    assert program.run(["predict", ADDRESS, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["loss"] == "softmax_cross_entropy"
    assert document["version"]["round"] == 5

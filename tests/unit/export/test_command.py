"""`tinyfleet export` and `tinyfleet infer` as a script sees them."""

import json

import numpy as np
import pytest
from networks import MSE, chosen, draw_parameters

from tinyfleet.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tinyfleet.cli.program import run
from tinyfleet.export import front
from tinyfleet.export.tflite import float_tflite
from tinyfleet.learner import Samples, make_learner
from tinyfleet.litert.file import load_tflite
from tinyfleet.litert.graph import Graph
from tinyfleet.model import parameters_sha256
from tinyfleet.model.layers import Dense, Tanh
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import make_run
from tinyfleet.strategies.plan import Phase
from tinyfleet.tasks import make_task, outline_task

pytestmark = pytest.mark.needs_package("ai-edge-litert", module="ai_edge_litert")


@pytest.fixture(autouse=True)
def _no_data_of_this_machine(monkeypatch):
    monkeypatch.delenv("TINYFLEET_DATA", raising=False)


def kept(path, task, model):
    """A checkpoint as it is before any round."""
    wanted = make_run(task, "tiny_reptile", 10, 1, model)
    save_checkpoint(path, Checkpoint(wanted, "a-run", 0, wanted.initial_parameters()))
    return path


@pytest.fixture
def sine(tmp_path):
    return kept(tmp_path / "sine.tinyfleet", make_task("sine", {}), "mlp_32")


@pytest.fixture
def omniglot(tmp_path):
    return kept(tmp_path / "omniglot.tinyfleet", outline_task("omniglot", {}), "cnn_s")


@pytest.fixture
def support(tmp_path, seed):
    """Five classes that a small network tells apart: bars of ink at different heights."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), 8)
    inputs = random.uniform(0.0, 0.1, (40, 28, 28)).astype(np.float32)
    for image, label in zip(inputs, labels, strict=True):
        image[5 * label : 5 * label + 4] += 0.9
    path = tmp_path / "support.npz"
    np.savez(path, inputs=inputs, labels=labels)
    return path


def document(capsys, *words):
    assert run([*map(str, words), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    return json.loads(captured.out)


def refused(capsys, code, *words):
    assert run([*map(str, words)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_an_exported_file_is_the_checkpoints_model(capsys, sine, tmp_path):
    out = tmp_path / "sine.tflite"
    said = document(capsys, "export", sine, "--out", out)
    assert (said["format"], said["samples"], said["adapted_samples"]) == ("tflite", 500, 0)
    assert said["bytes"] == out.stat().st_size
    assert said["largest_difference"] < 1e-5
    known = load_checkpoint(sine)
    assert said["parameters_sha256"] == parameters_sha256(known.parameters)
    inputs = np.linspace(-5, 5, 20, dtype=np.float32).reshape(-1, 1)
    expected = make_learner(known.run.model).predict(known.parameters, inputs)
    np.testing.assert_allclose(Graph(load_tflite(out))(inputs), expected, rtol=1e-5, atol=1e-5)


def shuffled(support):
    """A support set in the order in which it is learned."""
    order = RandomStream(0, Purpose.SUPPORT_ORDER).permutation(len(support))
    return Samples(support.inputs[order], support.targets[order])


def test_a_support_set_is_learned_first_in_a_shuffled_order(capsys, omniglot, support, tmp_path):
    out = tmp_path / "mine.tflite"
    words = ["--support", support, "--rate", "0.05", "--passes", "3"]
    said = document(capsys, "export", omniglot, *words, "--out", out)
    known = load_checkpoint(omniglot)
    learner, adapted = make_learner(known.run.model), known.parameters.copy()
    with np.load(support) as arrays:
        inputs = arrays["inputs"].reshape(40, -1)
        targets = np.eye(5, dtype=np.float32)[arrays["labels"]]
    learner.train(adapted, shuffled(Samples(inputs, targets)), Phase(40, 0.05, passes=3))
    assert said["parameters_sha256"] == parameters_sha256(adapted)
    assert said["adapted_samples"] == 40
    right = learner.predict(adapted, inputs).argmax(axis=1) == targets.argmax(axis=1)
    assert said["support_accuracy"] == pytest.approx(right.mean())


def test_what_disagrees_is_refused_and_not_written(capsys, sine, tmp_path, monkeypatch):
    def other(spec, parameters, probabilities):
        return real(spec, parameters + np.float32(0.01), probabilities)

    real = front.float_tflite
    monkeypatch.setattr(front, "float_tflite", other)
    out = tmp_path / "sine.tflite"
    assert "differs from the learner" in refused(capsys, 4, "export", sine, "--out", out)
    assert not out.exists()


def test_int8_is_judged_by_what_it_loses_on_the_tasks_problems(capsys, sine, tmp_path):
    out = tmp_path / "sine.tflite"
    words = ["--format", "tflite-int8", "--max-error", "50"]
    said = document(capsys, "export", sine, *words, "--out", out)
    assert 0 < said["error_percent"] < 50
    assert Graph(load_tflite(out)).input.dtype is np.int8


def test_int8_that_loses_too_much_is_refused_and_not_written(capsys, sine, tmp_path):
    out = tmp_path / "sine.tflite"
    words = ["--format", "tflite-int8", "--max-error", "0.001"]
    assert "over --max-error" in refused(capsys, 4, "export", sine, *words, "--out", out)
    assert not out.exists()


def test_int8_of_an_adapted_classifier_keeps_its_accuracy(capsys, omniglot, support, tmp_path):
    out = tmp_path / "mine.tflite"
    words = ["--format", "tflite-int8", "--support", support, "--rate", "0.05", "--passes", "30"]
    said = document(capsys, "export", omniglot, *words, "--float-io", "--out", out)
    assert abs(said["accuracy_drop_points"]) <= 1.5
    with np.load(support) as arrays:
        inputs, labels = arrays["inputs"].reshape(40, -1), arrays["labels"]
    assert np.mean(Graph(load_tflite(out))(inputs).argmax(axis=1) == labels) > 0.9


def test_int8_without_samples_says_what_to_give(capsys, omniglot, tmp_path):
    words = ["--format", "tflite-int8", "--out", tmp_path / "x"]
    assert "--calibration" in refused(capsys, 2, "export", omniglot, *words)


def test_a_c_header_has_no_difference_at_all(capsys, sine, tmp_path):
    out = tmp_path / "sine.h"
    words = ["--format", "c-header", "--name", "wave"]
    assert document(capsys, "export", sine, *words, "--out", out)["largest_difference"] == 0
    assert "static void wave_predict(const float *input, float *output)" in out.read_text()


def test_an_npz_is_read_back_with_numpy_alone(capsys, sine, tmp_path):
    out = tmp_path / "sine.npz"
    document(capsys, "export", sine, "--format", "npz", "--out", out)
    with np.load(out, allow_pickle=False) as arrays:
        expected = load_checkpoint(sine).parameters
        np.testing.assert_array_equal(arrays["parameters"], expected)


def test_people_are_told_what_was_compared_and_what_is_next(capsys, sine, tmp_path):
    out = tmp_path / "sine.tflite"
    assert run(["export", str(sine), "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{out}: mlp_32, tflite, ")
    assert "largest difference from the learner" in said[1]
    assert said[-1].startswith(f"next: tinyfleet infer {out}")


def test_a_few_shot_initialization_is_named_as_such(capsys, omniglot, support, tmp_path):
    words = ["export", str(omniglot), "--out", str(tmp_path / "x")]
    assert run(words) == 0
    assert "--support" in capsys.readouterr().err
    assert run([*words, "--support", str(support)]) == 0
    assert "--support" not in capsys.readouterr().err


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


IMAGES = np.zeros((4, 28, 28), np.float32)
BAD_SUPPORTS = {
    "no inputs": ({"labels": [0]}, "no array 'inputs'"),
    "no labels": ({"inputs": IMAGES}, "no array 'targets'"),
    "other values": ({"inputs": IMAGES[:, 1:], "labels": [0] * 4}, "samples of 784 values"),
    "too few labels": ({"inputs": IMAGES, "labels": [0] * 3}, "4 whole numbers"),
    "label out of range": ({"inputs": IMAGES, "labels": [0, 1, 2, 5]}, "labels must be 0 to 4"),
    "negative label": ({"inputs": IMAGES, "labels": [0, 1, 2, -1]}, "labels must be 0 to 4"),
    "texts": ({"inputs": IMAGES.astype(str), "labels": [0] * 4}, "inputs must be numbers"),
    "not finite": ({"inputs": IMAGES * np.nan, "labels": [0] * 4}, "finite"),
    "beyond float32": ({"inputs": IMAGES.astype(float) + 1e300, "labels": [0] * 4}, "finite"),
    "no samples": ({"inputs": IMAGES[:0], "labels": []}, "samples of 784 values"),
    "targets of another size": ({"inputs": IMAGES, "targets": np.eye(4)}, "4 rows of 5"),
}


@pytest.mark.parametrize(("arrays", "words"), BAD_SUPPORTS.values(), ids=BAD_SUPPORTS)
def test_a_support_that_does_not_fit_is_one_line(capsys, omniglot, tmp_path, arrays, words):
    path = write_npz(tmp_path / "bad.npz", **{k: np.asarray(v) for k, v in arrays.items()})
    line = refused(capsys, 2, "export", omniglot, "--support", path, "--out", tmp_path / "x")
    assert words in line
    assert str(path) in line
    assert not (tmp_path / "x").exists()


def test_a_support_that_is_no_npz_or_not_there_is_one_line(capsys, omniglot, tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not really")
    for name in ("bad.npz", "none.npz"):
        words = ["--support", tmp_path / name, "--out", tmp_path / "x"]
        assert name in refused(capsys, 2, "export", omniglot, *words)


def test_adapting_that_diverges_writes_nothing(capsys, omniglot, tmp_path):
    path = write_npz(tmp_path / "huge.npz", inputs=IMAGES + np.float32(1e30), labels=[0, 1, 2, 3])
    words = ["--support", path, "--out", tmp_path / "x"]
    assert "lower --rate" in refused(capsys, 4, "export", omniglot, *words)
    assert not (tmp_path / "x").exists()


def test_a_place_that_cannot_be_written_is_one_line(capsys, sine, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "x.tflite"
    assert "cannot write" in refused(capsys, 2, "export", sine, "--out", out)


def test_infer_says_what_the_learner_says(capsys, sine, tmp_path):
    out, outputs = tmp_path / "sine.tflite", tmp_path / "outputs.npz"
    document(capsys, "export", sine, "--out", out)
    values = np.linspace(-2, 2, 30, dtype=np.float32)
    known = load_checkpoint(sine)
    expected = make_learner(known.run.model).predict(known.parameters, values.reshape(-1, 1))
    table = tmp_path / "x.csv"
    table.write_text("".join(f"{value}\n" for value in values))
    for inputs in (write_npz(tmp_path / "x.npz", inputs=values), table):
        said = document(capsys, "infer", out, "--inputs", inputs, "--out", outputs)
        assert said["input"] == {"shape": [1], "type": "float32"}
        np.testing.assert_allclose(said["outputs"], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(np.load(outputs)["outputs"].astype(float), said["outputs"])


def test_infer_shows_people_the_first_samples(capsys, sine, tmp_path):
    out = tmp_path / "sine.tflite"
    document(capsys, "export", sine, "--out", out)
    path = write_npz(tmp_path / "x.npz", inputs=np.zeros(12, np.float32))
    assert run(["infer", str(out), "--inputs", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert "12 samples in all" in lines[-1]


def test_infer_refuses_other_samples_and_other_files_in_one_line(capsys, sine, tmp_path):
    out = tmp_path / "sine.tflite"
    document(capsys, "export", sine, "--out", out)
    wrong = write_npz(tmp_path / "wrong.npz", inputs=np.zeros((3, 2), np.float32))
    right = write_npz(tmp_path / "right.npz", inputs=np.zeros(3, np.float32))
    assert "samples of 1 values" in refused(capsys, 2, "infer", out, "--inputs", wrong)
    (tmp_path / "bad.csv").write_text("1,x\n")
    assert "bad.csv" in refused(capsys, 2, "infer", out, "--inputs", tmp_path / "bad.csv")
    (tmp_path / "cut.tflite").write_bytes(out.read_bytes()[:500])
    cut = refused(capsys, 2, "infer", tmp_path / "cut.tflite", "--inputs", right)
    assert ".tflite" in cut
    (tmp_path / "other").write_bytes(b"something else")
    assert "TFL3" in refused(capsys, 2, "infer", tmp_path / "other", "--inputs", right)


@pytest.mark.parametrize(
    "flags",
    [
        ["--rate", "0.1"],
        ["--passes", "2"],
        ["--last-layers", "1"],
        ["--float-io"],
        ["--name", "wave"],
        ["--format", "npz", "--probabilities"],
    ],
    ids=" ".join,
)
def test_a_flag_without_effect_is_refused(capsys, sine, tmp_path, flags):
    line = refused(capsys, 2, "export", sine, *flags, "--out", tmp_path / "x")
    assert any(flag in line for flag in flags)
    assert not (tmp_path / "x").exists()


@pytest.fixture
def frozen(tmp_path, seed):
    """An extractor of twelve features for a sine wave's one value."""
    spec = chosen("frozen", (1, 1, 1), MSE, Dense(12), Tanh())
    path = tmp_path / "frozen.tflite"
    path.write_bytes(float_tflite(spec, draw_parameters(spec, seed)).content)
    return path


@pytest.fixture
def head(tmp_path, frozen):
    """What a run of a few rounds behind it learned."""
    words = ["--task", "sine", "--rounds", "30", "--extractor", frozen, "--out", tmp_path / "out"]
    assert run(["simulate", *map(str, words), "--test-tasks", "2"]) == 0
    return tmp_path / "out" / "checkpoint.tinyfleet"


@pytest.mark.parametrize("form", ["tflite", "tflite-int8"])
def test_a_model_behind_an_extractor_becomes_one_file(capsys, head, frozen, tmp_path, form):
    out, x = tmp_path / "both.tflite", np.linspace(-4, 4, 30, dtype=np.float32).reshape(-1, 1)
    mine = write_npz(tmp_path / "mine.npz", inputs=x, targets=np.sin(x))
    capsys.readouterr()
    words = ["--extractor", frozen, "--format", form, "--support", mine, "--max-error", "50"]
    said = document(capsys, "export", head, *words, "--out", out)
    known = load_checkpoint(head)
    adapted, learner = known.parameters.copy(), make_learner(known.run.model)
    features = Graph(load_tflite(frozen))(x)
    settings = make_task("sine", {}).recommended_evaluation
    phase = Phase(30, settings["rate"], passes=settings["passes"])
    learner.train(adapted, shuffled(Samples(features, np.sin(x))), phase)
    assert said["parameters_sha256"] == parameters_sha256(adapted)
    expected = learner.predict(adapted, features)
    allowed = 1e-5 if form == "tflite" else 0.2 * expected.std()
    np.testing.assert_allclose(Graph(load_tflite(out))(x), expected, rtol=1e-5, atol=allowed)


def test_the_extractor_must_be_given_and_be_the_right_one(capsys, head, frozen, sine, tmp_path):
    capsys.readouterr()
    out = ["--out", tmp_path / "x.tflite"]
    assert "--extractor" in refused(capsys, 2, "export", head, *out)
    assert "leave --extractor out" in refused(
        capsys, 2, "export", sine, "--extractor", frozen, *out
    )
    other = tmp_path / "other.tflite"
    document(capsys, "export", sine, "--out", other)
    assert "is not the extractor" in refused(capsys, 2, "export", head, "--extractor", other, *out)
    flags = ["--extractor", frozen, "--format", "tflite-int8", "--float-io"]
    assert "--float-io" in refused(capsys, 2, "export", head, *flags, *out)
    assert not (tmp_path / "x.tflite").exists()

"""Models as TOML and JSON: what is written is read back, what is wrong is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.model import builtin_model, load_model, model_from_document, model_to_document
from tinyfleet.model.layers import Conv2D, Dense, DepthwiseConv2D, Flatten, MaxPool2D, ReLU, Tanh
from tinyfleet.model.spec import LOSSES, ModelSpec

EXAMPLE = """
name = "my_model"
input_shape = [28, 28, 1]
loss = "softmax_cross_entropy"
layers = [
    { kind = "conv2d", filters = 8, stride = 2, padding = 1 },
    { kind = "relu" },
    { kind = "flatten" },
    { kind = "dense", units = 5 },
]
"""


def write(folder, text, name="model.toml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_toml_file_is_a_model(tmp_path):
    model = load_model(write(tmp_path, EXAMPLE))
    assert model.layers == (Conv2D(8, 3, 2, 1), ReLU(), Flatten(), Dense(5))
    assert model.input_shape == (28, 28, 1)


def test_a_vector_can_be_written_as_one_side(tmp_path):
    text = 'name = "m"\ninput_shape = [3]\nloss = "mean_squared_error"\n'
    model = load_model(write(tmp_path, text + 'layers = [{ kind = "dense", units = 1 }]'))
    assert model.input_shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name", "title", "unknown key of a model 'title'"),
        ('loss = "softmax_cross_entropy"', "", "needs the key 'loss'"),
        ("[28, 28, 1]", "[28, 28]", "input_shape must be"),
        ("[28, 28, 1]", "[28, 28, 1.5]", "input_shape must be"),
        ("[28, 28, 1]", "[true, 28, 1]", "input_shape must be"),
        ('"my_model"', "3", "must be strings"),
        ('"conv2d"', '"conv"', "unknown layer kind"),
        ("filters", "filter", "did you mean 'filters'"),
        ("units = 5", "units = -5", "units must be"),
        ('kind = "relu"', "knd = 1", "a table with a 'kind'"),
        ("layers = [", "layers = ", "not valid TOML"),
        ("layers = [", "layers = 3 #", "not valid TOML"),
    ],
)
def test_mistakes_are_named_with_the_file(tmp_path, old, new, message):
    assert old in EXAMPLE
    with pytest.raises(InvalidInput, match=message) as caught:
        load_model(write(tmp_path, EXAMPLE.replace(old, new, 1)))
    assert "model.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    for path, message in [
        (tmp_path / "none.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (write(tmp_path, b"\xff\xfe"), "not valid TOML"),
        (write(tmp_path, b"#" * 70_000, "large.toml"), "at most 65536 bytes"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            load_model(path)


@pytest.mark.parametrize("layers", [3, {}, [3], [{"kind": 3}], [{}] * 65])
def test_layers_that_are_no_list_of_tables_are_refused(layers):
    document = {"name": "m", "input_shape": [1], "loss": LOSSES[0], "layers": layers}
    with pytest.raises(InvalidInput):
        model_from_document(document)


@given(
    st.lists(
        st.one_of(
            st.builds(Conv2D, st.integers(1, 5), st.just(3), st.integers(1, 2), st.integers(0, 2)),
            st.builds(DepthwiseConv2D, st.just(3), st.integers(1, 2), st.just(1)),
            st.builds(MaxPool2D, st.just(2), st.integers(1, 2)),
            st.just(ReLU()),
            st.just(Tanh()),
        ),
        max_size=4,
    ),
    st.integers(1, 9),
    st.sampled_from(LOSSES),
)
def test_every_model_survives_json(body, outputs, loss):
    model = ModelSpec("m", (64, 60, 2), (*body, Flatten(), Dense(outputs)), loss)
    assert model_from_document(json.loads(json.dumps(model_to_document(model)))) == model


def test_builtin_models_survive_json():
    model = builtin_model("cnn_m", (28, 28, 1), 5, "softmax_cross_entropy")
    assert model_from_document(json.loads(json.dumps(model_to_document(model)))) == model

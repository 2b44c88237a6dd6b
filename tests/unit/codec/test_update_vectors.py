"""The selected encoding does what the golden vectors say; the vectors keep their schema."""

import copy
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from streams import GivenNoise
from vector_schema import problems

from tinyfleet.codec.selected import decode_update, encode_selected, largest_bytes
from tinyfleet.errors import InvalidInput

FOLDER = Path(__file__).parents[2] / "vectors"
DOCUMENT = json.loads((FOLDER / "update.json").read_text("utf-8"))
SCHEMA = json.loads((FOLDER / DOCUMENT["schema"]).read_text("utf-8"))
ENCODINGS = {vector["id"]: vector for vector in DOCUMENT["encodings"]}
VALID = {v["id"]: v for v in DOCUMENT["decodings"] if v["flags"] == ["valid"]}
INVALID = {v["id"]: v for v in DOCUMENT["decodings"] if v["flags"] == ["invalid"]}


def whole(sparse):
    change = np.zeros(sparse["count"], np.float32)
    for index, value in sparse["entries"].items():
        change[int(index)] = float.fromhex(value)
    return change


@pytest.mark.parametrize("vector", ENCODINGS.values(), ids=ENCODINGS)
def test_a_change_is_encoded_as_it_is_there(vector):
    given = vector["input"]
    noise = GivenNoise([float.fromhex(draw) for draw in given["noise"]])
    change, fraction = whole(given["change"]), float.fromhex(given["fraction"])
    data = encode_selected(change, fraction, given["precision"], noise)
    assert data.hex() == vector["expected"]["update"]
    assert noise.left == 0
    assert len(data) <= largest_bytes(len(change), fraction, given["precision"])


@pytest.mark.parametrize("vector", VALID.values(), ids=VALID)
def test_valid_bytes_are_decoded_to_the_bit(vector):
    given = vector["input"]
    change = decode_update(bytes.fromhex(given["update"]), given["count"])
    assert change.tobytes() == whole(vector["expected"]["change"]).tobytes()


@pytest.mark.parametrize("vector", INVALID.values(), ids=INVALID)
def test_invalid_bytes_are_refused_with_one_line(vector):
    given = vector["input"]
    with pytest.raises(InvalidInput) as refusal:
        decode_update(bytes.fromhex(given["update"]), given["count"])
    assert "\n" not in str(refusal.value)


def test_the_file_keeps_its_schema():
    assert not list(problems(DOCUMENT, SCHEMA, SCHEMA))
    assert len(ENCODINGS) == len(DOCUMENT["encodings"])
    assert len(VALID) + len(INVALID) == len(DOCUMENT["decodings"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document["encodings"][0].pop("comment"),
        lambda document: document["encodings"][0]["input"].update(precision="int4"),
        lambda document: document["encodings"][0]["input"].update(noise=["0.5"]),
        lambda document: document["decodings"][0]["input"].update(update="0"),
        lambda document: document["decodings"][-1]["expected"].update(refused=False),
        lambda document: document["decodings"][-1].update(flags=["valid"]),
        lambda document: document.update(extra=1),
    ],
)
def test_a_spoilt_file_breaks_the_schema(spoil):
    document = copy.deepcopy(DOCUMENT)
    spoil(document)
    assert list(problems(document, SCHEMA, SCHEMA))


def test_there_are_no_fewer_invalid_vectors_than_valid_ones():
    assert len(INVALID) >= len(ENCODINGS) + len(VALID)


def test_no_two_vectors_ask_the_same():
    asked = [json.dumps(v["input"]) for v in DOCUMENT["encodings"] + DOCUMENT["decodings"]]
    assert len(set(asked)) == len(asked)


def test_the_generator_writes_the_file_that_is_there(tmp_path, monkeypatch):
    where = importlib.util.spec_from_file_location("make_update", FOLDER / "make_update_vectors.py")
    make = importlib.util.module_from_spec(where)
    where.loader.exec_module(make)
    monkeypatch.setattr(make, "OUTPUT", tmp_path / "update.json")
    make.main()
    assert json.loads((tmp_path / "update.json").read_text("utf-8")) == DOCUMENT

"""Starts are what the golden vectors say; the vectors keep their schema."""

import copy
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from vector_schema import problems

from tinyfleet.codec.start import StartFormat
from tinyfleet.errors import InvalidInput

FOLDER = Path(__file__).parents[2] / "vectors"
DOCUMENT = json.loads((FOLDER / "start.json").read_text("utf-8"))
SCHEMA = json.loads((FOLDER / DOCUMENT["schema"]).read_text("utf-8"))
ENCODINGS = {vector["id"]: vector for vector in DOCUMENT["encodings"]}
VALID = {v["id"]: v for v in DOCUMENT["decodings"] if v["flags"] == ["valid"]}
INVALID = {v["id"]: v for v in DOCUMENT["decodings"] if v["flags"] == ["invalid"]}


def numbers(hexes):
    return np.array([float.fromhex(number) for number in hexes], np.float32)


def read(given):
    form = StartFormat(given["precision"], given["sizes"])
    data = bytes.fromhex(given["data"])
    if given["held"] is None:
        return form.parameters(form.read_whole(data))
    held = form.read_whole(bytes.fromhex(given["held"]))
    return form.parameters(form.read_changes(data, held))


@pytest.mark.parametrize("vector", ENCODINGS.values(), ids=ENCODINGS)
def test_parameters_are_rounded_and_written_as_it_is_there(vector):
    given, expected = vector["input"], vector["expected"]
    form = StartFormat(given["precision"], given["sizes"])
    held, start = (form.rounded(numbers(given[name])) for name in ("held", "parameters"))
    assert form.write_whole(start).hex() == expected["whole"]
    assert form.parameters(start).tobytes() == numbers(expected["start"]).tobytes()
    changes = form.write_changes(held, start)
    assert (None if changes is None else changes.hex()) == expected["changes"]
    if changes is not None:
        again = form.read_changes(changes, held)
        assert form.write_whole(again).hex() == expected["whole"]


@pytest.mark.parametrize("vector", VALID.values(), ids=VALID)
def test_valid_bytes_are_read_to_the_bit(vector):
    assert read(vector["input"]).tobytes() == numbers(vector["expected"]["start"]).tobytes()


@pytest.mark.parametrize("vector", INVALID.values(), ids=INVALID)
def test_invalid_bytes_are_refused_with_one_line(vector):
    with pytest.raises(InvalidInput) as refusal:
        read(vector["input"])
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
        lambda document: document["encodings"][0]["expected"].update(changes=1),
        lambda document: document["decodings"][0]["input"].update(data="0"),
        lambda document: document["decodings"][-1]["expected"].update(refused=False),
        lambda document: document["decodings"][-1].update(flags=["valid"]),
        lambda document: document.update(extra=1),
    ],
)
def test_a_spoilt_file_breaks_the_schema(spoil):
    document = copy.deepcopy(DOCUMENT)
    spoil(document)
    assert list(problems(document, SCHEMA, SCHEMA))


def test_there_are_more_invalid_vectors_than_valid_ones():
    assert len(INVALID) > len(VALID)


def test_no_two_vectors_ask_the_same():
    asked = [json.dumps(v["input"]) for v in DOCUMENT["encodings"] + DOCUMENT["decodings"]]
    assert len(set(asked)) == len(asked)


def test_the_generator_writes_the_file_that_is_there(tmp_path, monkeypatch):
    where = importlib.util.spec_from_file_location("make_start", FOLDER / "make_start_vectors.py")
    make = importlib.util.module_from_spec(where)
    where.loader.exec_module(make)
    monkeypatch.setattr(make, "OUTPUT", tmp_path / "start.json")
    make.main()
    assert (tmp_path / "start.json").read_bytes() == (FOLDER / "start.json").read_bytes()

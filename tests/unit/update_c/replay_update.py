"""Replays the golden vectors of the selected encoding.

    python replay_update.py LIBRARY

plays all of them against one build with given noise, for sanitizers that must be there before
Python starts.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from update_in_c import encode, given_words, load

FOLDER = Path(__file__).parents[2] / "vectors"
ENCODINGS = {
    vector["id"]: vector
    for vector in json.loads((FOLDER / "update.json").read_text("utf-8"))["encodings"]
}


def change_of(sparse):
    change = np.zeros(sparse["count"], np.float32)
    for index, value in sparse["entries"].items():
        change[int(index)] = float.fromhex(value)
    return change


def replay(c, vector, step=0):
    given = vector["input"]
    change = change_of(given["change"])
    fraction = float.fromhex(given["fraction"])
    entries = min(math.ceil(fraction * len(change)), len(change))
    draws = np.array([float.fromhex(draw) for draw in given["noise"]], np.float64)
    words = given_words(draws)
    data = encode(c, change, entries, given["precision"], words, step)
    assert data.hex() == vector["expected"]["update"]
    assert tuple(words)[2:] == (0, 0), "all draws were taken, and no more"


def main(library):
    c = load(library)
    for vector in ENCODINGS.values():
        for step in (0, 1, 3):
            replay(c, vector, step)
    return len(ENCODINGS)


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1])}\n")

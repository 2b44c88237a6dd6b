"""`memory --target`: what fits a board, how many bytes are missing, and the number behind it."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from tinyfleet.cli.program import run
from tinyfleet.learner.memory import memory_needed
from tinyfleet.learner.targets import (
    MEMORY_BYTES,
    TARGETS,
    board_memory_needed,
    most_stored_samples,
)
from tinyfleet.model import builtin_model

FIRMWARE = Path(__file__).resolve().parents[3] / "mcu_bridge/firmware"
OMNIGLOT = ((28, 28, 1), 5, "softmax_cross_entropy")


def document(capsys, code, *words):
    assert run(["memory", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_model_that_fits_is_done(capsys):
    answer = document(capsys, 0, "cnn_m", "--target", "cortex-m4")
    online = answer["uses"][0]
    assert online["use"] == "online"
    assert online["needed_bytes"] == answer["online_bytes"]
    assert online["free_bytes"] == MEMORY_BYTES - answer["online_bytes"]
    assert answer["asked"]["fits"] is True


def test_what_does_not_fit_fails_and_says_how_many_bytes_are_missing(capsys):
    assert run(["memory", "cnn_m", "--target", "cortex-m4", "--keep-start"]) == 4
    captured = capsys.readouterr()
    spec = builtin_model("cnn_m", *OMNIGLOT)
    missing = board_memory_needed(spec, keep_start=True) - MEMORY_BYTES
    assert f"{missing:,} bytes missing" in captured.out
    assert f"{missing:,} are missing; choose a smaller model or ask for less" in captured.err
    assert captured.err.count("\n") == 1
    assert all(len(line) <= 80 for line in captured.out.splitlines())


def test_what_was_asked_for_counts_together(capsys):
    words = ("cnn_s", "--target", "nrf52840", "--gradient", "--stored-samples", "60")
    answer = document(capsys, 4, *words)
    by_name = {use["use"]: use["needed_bytes"] for use in answer["uses"]}
    both = by_name["gradient"] + by_name["stored_samples"] - by_name["online"]
    assert by_name["asked"] == both
    assert answer["asked"] == {
        "keep_start": False,
        "gradient": True,
        "stored_samples": 60,
        "fits": both <= MEMORY_BYTES,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "cortex-m3"], "unknown target 'cortex-m3': did you mean 'cortex-m4'?"),
        (["--gradient"], "go with --target NAME"),
        (["--target", "host", "--stored-samples", "-1"], "--stored-samples"),
    ],
)
def test_mistakes_are_named(capsys, words, message):
    assert run(["memory", "cnn_s", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mlp_32", "cnn_s", "cnn_m", "cnn_l"])
def test_no_more_samples_are_promised_than_fit(name):
    shape = OMNIGLOT if name.startswith("cnn") else ((1, 1, 1), 1, "mean_squared_error")
    spec = builtin_model(name, *shape)
    most = most_stored_samples(spec, MEMORY_BYTES)
    assert board_memory_needed(spec, stored_samples=most) <= MEMORY_BYTES
    assert board_memory_needed(spec, stored_samples=most + 1) > MEMORY_BYTES
    assert most_stored_samples(spec, memory_needed(spec).online_bytes - 1) == 0


def test_every_target_has_the_memory_of_one_source():
    assert {target.memory_bytes for target in TARGETS.values()} == {MEMORY_BYTES}


def test_the_memory_is_what_every_board_s_budget_leaves():
    budget = tomllib.loads((FIRMWARE / "budget.toml").read_text("utf-8"))
    left = {name: TARGETS["nrf52840"].ram_bytes - board["ram"] for name, board in budget.items()}
    assert left == dict.fromkeys(budget, MEMORY_BYTES)
    assert {"mps2_an386", "nrf52840", "nano33ble"} <= set(left)


def test_the_firmware_as_a_process_has_a_board_s_memory():
    source = (FIRMWARE / "port/host/process.c").read_text("utf-8")
    ram, kept = re.search(r"#define FREE_BYTES \((\d+)u - (\d+)u\)", source).groups()
    assert int(ram) - int(kept) == MEMORY_BYTES


def test_a_bootloader_s_flash_is_not_the_firmware_s():
    makefile = (FIRMWARE / "Makefile").read_text("utf-8")
    (start,) = re.findall(r"^nano33ble_FLASH_START := (\w+)$", makefile, re.MULTILINE)
    plain, behind = TARGETS["nrf52840"], TARGETS["nano33ble"]
    assert behind.flash_bytes == plain.flash_bytes - int(start, 16)

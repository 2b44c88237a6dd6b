"""`tinyfleet device` and `up --mcus` with the real firmware, as a process of this machine."""

import json
import os
import subprocess
import sys

import pytest

from mcu_bridge import images
from mcu_bridge.cli.program_image import program_image
from mcu_bridge.cli.programmers import find_bossac
from tinyfleet.cli.program import run
from tinyfleet.errors import InvalidInput
from tinyfleet.learner.targets import MEMORY_BYTES

HOST = "emulated://host"
builds_host = [
    pytest.mark.slow,
    pytest.mark.needs_package("make"),
    pytest.mark.needs_package("gcc", command="cc"),
]
builds_for_boards = [
    pytest.mark.slow,
    pytest.mark.needs_package("make"),
    pytest.mark.needs_package("gcc-arm-none-eabi", command="arm-none-eabi-gcc"),
]


def marked(marks):
    def decorate(test):
        for mark in marks:
            test = mark(test)
        return test

    return decorate


def document(capsys, *words, code=0):
    assert run([*words, "--json"]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def refused(capsys, code, *words):
    assert run(list(words)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.splitlines()[-1]
    assert line.startswith("tinyfleet: ")
    return line


@marked(builds_host)
def test_info_says_who_a_board_is(capsys):
    answer = document(capsys, "device", "info", HOST)
    assert answer["identity"]["board"] == "host"
    assert answer["identity"]["memory_bytes"] == MEMORY_BYTES
    assert answer["identity"]["fault"] is None
    assert answer["counters"]["frames"] >= 2
    assert run(["device", "info", HOST]) == 0
    out = capsys.readouterr().out
    assert "256,000 bytes for model and training" in out
    assert all(len(line) <= 80 for line in out.splitlines())


@marked(builds_host)
def test_selftest_passes_on_a_good_line_and_on_a_bad_one(capsys):
    good = document(capsys, "device", "selftest", HOST, "--transfers", "3")
    assert good["passed"]
    assert good["transfers"]["count"] == 3
    assert good["repeated"] == 0
    assert [check["same_bits"] for check in good["trainings"]] == [True, True]
    noise = ("--noise", "ber=3e-5,seed=2", "--transfers", "10")
    bad = document(capsys, "device", "selftest", HOST, *noise)
    assert bad["passed"]
    assert bad["counters"]["corrupt"] + bad["received"]["corrupt"] > 0


@marked(builds_host)
def test_monitor_shows_frames_and_counters_as_json_lines(capsys):
    words = ["device", "monitor", HOST, "--seconds", "0.3", "--every", "0.1", "--json"]
    assert run(words) == 0
    seen = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [one["kind"] for one in seen if "kind" in one]
    assert kinds[:2] == ["IDENTIFY", "IDENTIFY answer"]
    assert {"COUNTERS", "COUNTERS answer"} <= set(kinds)
    assert [one["identity"]["board"] for one in seen if "identity" in one] == ["host"]
    assert sum("counters" in one for one in seen) >= 2
    assert [one["at_s"] for one in seen] == sorted(one["at_s"] for one in seen)


@marked(builds_host)
def test_flash_of_an_emulated_board_builds_and_says_that_it_loads_at_its_start(capsys):
    assert run(["device", "flash", HOST]) == 0
    captured = capsys.readouterr()
    assert "tinyfleet_device" in captured.out
    assert "load this image when they start" in captured.err
    assert document(capsys, "device", "flash", HOST)["flashed"] is False


@marked(builds_host)
def test_a_fleet_of_boards_ends_in_the_simulator_s_parameters():
    run_flags = ["--model", "mlp_32", "--rounds", "12", "--set", "samples=8", "--test-tasks", "5"]

    def sha256(*words):
        command = [sys.executable, "-m", "tinyfleet.cli", *words, *run_flags, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["parameters_sha256"]

    boards = ("up", "--agents", "1", "--mcus", "2", "--board", HOST)
    assert sha256(*boards) == sha256("simulate")


@marked(builds_for_boards)
@pytest.mark.parametrize(
    ("board", "start"), [("mps2-an386", 0), ("nrf52840", 0), ("nano33ble", 0x10000)]
)
def test_the_firmware_leaves_at_least_the_promised_memory(board, start):
    image = program_image(images.firmware_image(board))
    names = subprocess.run(
        ["arm-none-eabi-nm", str(image.elf)], capture_output=True, text=True, check=True
    ).stdout
    at = {line.split()[2]: int(line.split()[0], 16) for line in names.splitlines()}
    assert at["port_free_end"] - at["port_free_start"] >= MEMORY_BYTES
    assert image.ram_bytes <= 256 * 1024 - MEMORY_BYTES
    assert image.start == start
    assert image.binary.stat().st_size == image.flash_bytes <= 40 * 1024


@marked(builds_for_boards)
def test_build_only_names_the_files_and_sizes(capsys):
    answer = document(capsys, "device", "flash", "--build-only")
    assert answer["board"] == "nano33ble"
    assert [answer[kind].rpartition(".")[2] for kind in ("elf", "binary", "hex")] == [
        "elf",
        "bin",
        "hex",
    ]
    assert "flashed" not in answer


@marked(builds_for_boards)
def test_without_openocd_flash_says_what_to_install(capsys, monkeypatch, tmp_path):
    images.firmware_image("nrf52840")
    monkeypatch.setattr("mcu_bridge.cli.programmers.OPENOCD", "no-such-openocd")
    assert run(["device", "flash", "--board", "nrf52840"]) == 2
    assert "no-such-openocd is missing: sudo apt-get install" in capsys.readouterr().err


@pytest.fixture
def programmers(monkeypatch, tmp_path):
    """Programs named bossac and openocd on PATH, which keep their arguments and end with 0 or
    with what STATUS says; the folder that they write into."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("bossac", "openocd"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/{name}.arguments"\nexit ${{STATUS:-0}}\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(home))
    return tmp_path


def arguments(folder, name):
    return (folder / f"{name}.arguments").read_text().splitlines()


@marked(builds_for_boards)
def test_a_nano_33_ble_is_written_over_usb_behind_its_bootloader(capsys, programmers):
    port = programmers / "ttyACM0"
    port.touch()
    answer = document(capsys, "device", "flash", f"serial://{port}")
    assert answer["flashed"] is True
    assert answer["flash_start"] == 0x10000
    binary = answer["binary"]
    assert binary.endswith("nano33ble/tinyfleet.bin")
    assert arguments(programmers, "bossac") == [
        f"--port={port}",
        *("-U", "-i", "-e", "-w", binary, "-R"),
    ]


@marked(builds_for_boards)
def test_a_bare_chip_is_written_through_a_probe(capsys, programmers):
    answer = document(capsys, "device", "flash", "--board", "nrf52840", "--probe", "stlink")
    assert answer["flash_start"] == 0
    assert arguments(programmers, "openocd") == [
        *("-f", "interface/stlink.cfg", "-c", "transport select hla_swd"),
        *("-f", "target/nrf52.cfg", "-c", f"program {{{answer['hex']}}} verify reset exit"),
    ]


@marked(builds_for_boards)
def test_the_command_is_printed_before_it_runs_and_its_failure_is_explained(
    capsys, programmers, monkeypatch
):
    monkeypatch.setenv("STATUS", "7")
    port = programmers / "ttyACM0"
    port.touch()
    assert run(["device", "flash", f"serial://{port}"]) == 4
    *_, running, failed = capsys.readouterr().err.splitlines()
    assert running.startswith(f"running: {programmers}/bossac --port={port} -U -i -e -w ")
    assert "bossac ended with status 7" in failed
    assert "press the reset button twice" in failed


def test_arduino_s_own_bossac_comes_first(programmers):
    assert find_bossac() == str(programmers / "bossac")
    for version in ("1.7.0-arduino3", "1.9.1-arduino2"):
        own = programmers / "home/.arduino15/packages/arduino/tools/bossac" / version
        own.mkdir(parents=True)
        (own / "bossac").touch()
    assert find_bossac() == str(own / "bossac")


def test_without_bossac_flash_says_what_to_install(programmers, monkeypatch):
    monkeypatch.setattr("mcu_bridge.cli.programmers.BOSSAC", "no-such-bossac")
    with pytest.raises(InvalidInput, match="no-such-bossac is missing: arduino-cli core install"):
        find_bossac()


def test_list_names_the_boards_that_can_be_emulated(capsys):
    boards = {board["url"]: board for board in document(capsys, "device", "list")["boards"]}
    assert {HOST, "emulated://mps2-an386"} <= set(boards)
    assert all(board["state"] for board in boards.values())


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (2, ["device", "info", "emulated://host2"], "did you mean 'host'?"),
        (2, ["device", "info", "usb://x"], "is not the URL of a board"),
        (3, ["device", "info", "pty:///dev/no-such-board"], "is not there"),
        (2, ["device", "selftest", HOST, "--noise", "bre=1"], "unknown noise 'bre'"),
        (2, ["device", "selftest", HOST, "--noise", "ber=2"], "flip is a probability"),
        (2, ["device", "monitor", HOST, "--seconds", "-1"], "--seconds"),
        (2, ["device", "flash", "--board", "nrf"], "unknown board 'nrf'"),
        (2, ["device", "flash", HOST, "--board", "nrf52840"], "is no nrf52840"),
        (2, ["device", "flash", "--probe", "x"], "--probe"),
        (2, ["device", "flash", "--probe", "jlink"], "nano33ble takes no --probe"),
        (2, ["device", "flash"], "press the reset button twice"),
        (2, ["device", "flash", "tcp://127.0.0.1:9"], "press the reset button twice"),
        (2, ["device", "flash", "serial:///dev/no-such-board"], "no-such-board is not there"),
        (2, ["up", "--agents", "0"], "give --agents or --mcus"),
        (2, ["up", "--mcus", "2", "--board", "tcp://127.0.0.1:9"], "is one board"),
        (2, ["up", "--mcus", "1", "--board", "emulated://m4"], "unknown emulated board"),
        (3, ["up", "--mcus", "1", "--board", "pty:///dev/no-such-board"], "is not there"),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(capsys, code, words, message):
    assert message in refused(capsys, code, *words)

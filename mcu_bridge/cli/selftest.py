"""`tinyfleet device selftest`: does the line carry every byte, does the board give our bits?"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Any

import click

from mcu_bridge.cli.connection import identity_document, run, url_argument
from mcu_bridge.device.client import Device
from mcu_bridge.lines.opening import open_line
from mcu_bridge.noise import Noise, NoisyLine, parse_noise
from mcu_bridge.selftest import SelfTestReport, SelfTestStep, run_selftest
from tinyfleet.cli.console import examples, json_option, note, print_json, print_table, si_bytes
from tinyfleet.errors import Refused

SHORT = {"ber": "flip", "delay": "delay_s"}  # as people say it, and as Noise calls it
NOISE_HELP = (
    "Disturb the line: ber (share of bits that flip), drop, duplicate (of bytes), delay (seconds), "
    "baud (pace), cut_after (bytes), cut_for_s, seed."
)
_PLAIN_INTERVAL_S = 10.0


@click.command(
    "selftest",
    short_help="Test a board's line and its training.",
    epilog=examples(
        "tinyfleet device selftest emulated://mps2-an386",
        "tinyfleet device selftest emulated://host --noise ber=1e-4,drop=0.001,seed=1",
    ),
)
@url_argument
@click.option("--noise", "noise_text", metavar="NAME=VALUE,...", help=NOISE_HELP)
@click.option(
    "--transfers", type=int, default=20, metavar="N", help="Parameters there and back, so often."
)
@json_option
def selftest(url: str, noise_text: str | None, transfers: int, as_json: bool) -> None:
    """Test the board at URL: parameters there and back, then training against this machine's bits.

    The board's model is gone afterwards. Ends with 4 when a byte or a bit differed; frames sent
    again are no failure, they are what repairs a bad line.
    """
    noise = None if noise_text is None else noise_of(noise_text)
    began = time.monotonic()
    with _Progress(quiet=as_json) as progress:
        report = run(_test(url, noise, transfers, progress))
    seconds = time.monotonic() - began
    if as_json:
        print_json(_document(url, report, seconds))
    else:
        _print(report, noise, seconds)
    if not report.passed:
        raise Refused(f"the self-test of {url} failed: see what differed above; flash the board")


def noise_of(text: str) -> Noise:
    """`ber=1e-4,drop=0.001` as Noise; raises InvalidInput with the name or the value to mend."""
    pairs = [pair.strip().partition("=") for pair in text.split(",")]
    return parse_noise(",".join(f"{SHORT.get(name, name)}={value}" for name, _, value in pairs))


async def _test(
    url: str, noise: Noise | None, transfers: int, progress: _Progress
) -> SelfTestReport:
    line = await open_line(url)
    where = line if noise is None else NoisyLine(line, noise)
    async with await Device.connect(where) as device:
        return await run_selftest(device, transfers=transfers, listener=progress.heard)


class _Progress:
    """How far the test is, on stderr: a bar on a terminal, else a line now and then."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar = None if quiet or not sys.stderr.isatty() else _bar()
        self._said = time.monotonic()
        self._task: Any = None
        self._part = ""

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def heard(self, step: SelfTestStep) -> None:
        if self._bar is not None:
            if step.part != self._part:
                self._part = step.part
                self._task = self._bar.add_task(step.part, total=step.total)
            self._bar.update(self._task, completed=step.done)
        elif not self._quiet and time.monotonic() - self._said >= _PLAIN_INTERVAL_S:
            self._said = time.monotonic()
            note(f"{step.part} {step.done:,} of {step.total:,}")


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    text = TextColumn("{task.description}")
    columns = (text, MofNCompleteColumn(), BarColumn(None), Remaining())
    return Progress(*columns, console=Console(stderr=True), expand=True)


def _print(report: SelfTestReport, noise: Noise | None, seconds: float) -> None:
    identity = report.identity
    print(f"{identity.board}, {identity.firmware}: tested for {seconds:.1f} s")
    print_table(("test", "result"), _rows(report, noise))
    print("passed" if report.passed else "FAILED")


def _rows(report: SelfTestReport, noise: Noise | None) -> list[list[str]]:
    moved, counters, received = report.transfers, report.counters, report.received
    bad_here = received.overlong + received.malformed + received.corrupt + received.wrong_version
    rate = f"{si_bytes(moved.bytes_per_second)}/s"
    baud = None if noise is None else noise.baud
    if baud:
        rate += f", {moved.line_share(baud):.0%} of {baud:,} baud"
    rows = [
        ["parameters there and back", f"{moved.count:,} times, {moved.wrong:,} wrong"],
        ["bytes of parameters", f"{si_bytes(moved.payload_bytes)}, {rate}"],
    ]
    for check in report.trainings:
        verdict = "the same bits" if check.same_bits else "OTHER BITS"
        ticks = f"{check.ticks_per_sample:,.0f} ticks a sample"
        rows.append([f"training {check.model}", f"{check.samples} samples, {verdict}, {ticks}"])
    rows += [
        ["frames dropped as bad", f"{counters.bad_frames:,} by the board, {bad_here:,} here"],
        ["repaired by", f"{report.repeated:,} repeats, {counters.blocks_again:,} blocks again"],
        ["bytes lost in the board's ring", f"{counters.ring_overrun_bytes:,}"],
    ]
    return rows


def _document(url: str, report: SelfTestReport, seconds: float) -> dict[str, Any]:
    return {
        "url": url,
        "passed": report.passed,
        "wall_s": round(seconds, 3),
        **asdict(report),
        "identity": identity_document(report.identity),
    }

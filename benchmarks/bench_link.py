"""How much of a line's rate parameters get, there and back, over the whole device protocol.

    python benchmarks/bench_link.py [--json] [--repeats 5]

The line is paced (10 bits a byte, both directions alike) on this side of the board: to 115,200 baud
for the firmware emulated by QEMU, to 1 Mbaud for the same firmware as a process of this machine.
The share is what `cnn_s`'s parameters took of the line: bytes of parameters times 10 bits over
time times baud. A frame of 269 bytes carries 252, so no more than 93.7 % is possible. All bytes
are compared before a number is printed. Fails when a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass

from machine import describe_machine

from mcu_bridge.device import Device
from mcu_bridge.lines import open_line
from mcu_bridge.noise import Noise, NoisyLine
from mcu_bridge.selftest import BITS_A_BYTE
from tinyfleet.errors import TinyFleetError
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.spec import LOSSES

LINES = {"emulated://mps2-an386": 115_200, "emulated://host": 1_000_000}
BAR = 0.85


@dataclass(frozen=True)
class Shares:
    """Median and worst share of the line rate, to the board and back."""

    url: str
    baud: int
    there: float
    back: float
    worst: float
    repeated: int


async def measure(url: str, baud: int, repeats: int) -> Shares:
    spec = builtin_model("cnn_s", (28, 28, 1), 5, LOSSES[1])
    line = NoisyLine(await open_line(url), Noise(baud=baud))
    there, back = [], []
    async with await Device.connect(line) as device:
        await device.configure(spec)
        for repeat in range(repeats):
            parameters = initial_parameters(spec, repeat)
            start = time.perf_counter()
            await device.write_parameters(parameters)
            middle = time.perf_counter()
            returned = await device.read_parameters()
            end = time.perf_counter()
            assert returned.tobytes() == parameters.tobytes(), "a byte came back wrong"
            there.append(middle - start)
            back.append(end - middle)
        repeated = device.link.counters.repeated
    least_s = spec.parameter_bytes * BITS_A_BYTE / baud
    there_share, back_share = (least_s / statistics.median(times) for times in (there, back))
    worst = least_s / max(there + back)
    return Shares(url, baud, there_share, back_share, worst, repeated)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5, choices=range(1, 101), metavar="N")
    options = parser.parse_args()
    try:
        found = [asyncio.run(measure(url, baud, options.repeats)) for url, baud in LINES.items()]
    except TinyFleetError as error:  # such as a tool chain that is not installed
        sys.exit(str(error))
    if options.json:
        print(json.dumps({"machine": describe_machine(), "lines": [asdict(one) for one in found]}))
    else:
        show(found, options.repeats)
    missed = [one.url for one in found if min(one.there, one.back) < BAR]
    if missed:
        sys.exit(f"missed the bar of {BAR:.0%}: {', '.join(missed)}")


def show(found: list[Shares], repeats: int) -> None:
    print(f"{describe_machine()}; {repeats} repeats")
    print("line                        baud  there   back  worst")
    for one in found:
        shares = "".join(f"{share:7.1%}" for share in (one.there, one.back, one.worst))
        print(f"{one.url:23}{one.baud:9,}{shares}")
    print(f"bar: the medians at least {BAR:.0%}")


if __name__ == "__main__":
    main()

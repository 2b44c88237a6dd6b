"""A noisy line does what it is told to, where the seed says, and nothing else."""

import asyncio
import math

import pytest

from mcu_bridge.errors import LineLost
from mcu_bridge.noise import Noise, NoisyLine, parse_noise
from tinyfleet.errors import InvalidInput

CONTENT = bytes(range(256)) * 400


class Echo:
    """A line that answers with what it got."""

    name = "fake://echo"

    def __init__(self):
        self.got = b""
        self.closed = False
        self._queue = asyncio.Queue()

    async def read(self):
        if (data := await self._queue.get()) is None:
            raise LineLost("fake://echo: gone")
        return data

    async def write(self, data):
        self.got += data
        self._queue.put_nowait(data)

    async def close(self):
        self.closed = True
        self._queue.put_nowait(None)


async def through(noise, content=CONTENT, chunk=1000, expected=None):
    """What of the content reaches the other end, and what comes back."""
    echo = Echo()
    line = NoisyLine(echo, noise)
    back = b""
    for at in range(0, len(content), chunk):
        await line.write(content[at : at + chunk])
    try:
        async with asyncio.timeout(0.2):
            while expected is None or len(back) < expected:
                back += await line.read()
    except TimeoutError:
        pass
    await line.close()
    assert echo.closed
    return echo.got, back


def bits(one, other):
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))


async def test_without_noise_nothing_changes():
    assert await through(Noise(), expected=len(CONTENT)) == (CONTENT, CONTENT)


async def test_as_many_bits_flip_as_the_rate_says():
    there, back = await through(Noise(flip=1e-3, seed=1), expected=len(CONTENT))
    flips = 8 * len(CONTENT) * 1e-3
    assert abs(bits(CONTENT, there) - flips) < 5 * math.sqrt(flips)
    assert abs(bits(there, back) - flips) < 5 * math.sqrt(flips)


@pytest.mark.slow
async def test_damage_depends_on_seed_and_position_alone():
    noise = Noise(flip=1e-3, drop=1e-3, duplicate=1e-3, seed=2)
    assert await through(noise, chunk=1000) == await through(noise, chunk=37)
    other = Noise(flip=1e-3, drop=1e-3, duplicate=1e-3, seed=3)
    assert (await through(noise))[0] != (await through(other))[0]


async def test_bytes_vanish_and_the_rest_keeps_its_order():
    there, _ = await through(Noise(drop=0.01, seed=4))
    lost = len(CONTENT) - len(there)
    assert abs(lost - 1024) < 5 * 32
    rest = iter(CONTENT)
    assert all(byte in rest for byte in there)


async def test_bytes_come_twice():
    there, _ = await through(Noise(duplicate=0.01, seed=5))
    assert abs(len(there) - len(CONTENT) - 1024) < 5 * 32
    rest = iter(there)
    assert all(byte in rest for byte in CONTENT)


async def test_a_delay_comes_once_for_each_direction():
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await through(Noise(delay_s=0.05), content=b"x", expected=1)
    assert loop.time() - begin >= 0.1


async def test_bytes_take_the_time_that_the_speed_says():
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await through(Noise(baud=1_000_000), content=CONTENT[:10_000], expected=10_000)
    assert 0.1 <= loop.time() - begin < 0.2


async def test_a_cut_line_is_dead_for_ever_after_its_bytes():
    there, back = await through(Noise(cut_after=1500))
    assert CONTENT.startswith(there)
    assert CONTENT.startswith(back)
    assert len(there) + len(back) == 1500


async def test_a_cut_line_comes_back_after_its_time():
    echo = Echo()
    line = NoisyLine(echo, Noise(cut_after=4, cut_for_s=0.05))
    await line.write(b"1234")
    await line.write(b"lost")
    await asyncio.sleep(0.1)
    await line.write(b"again")
    async with asyncio.timeout(1):
        while not echo.got.endswith(b"again"):
            await line.read()
    assert echo.got == b"1234again"
    await line.close()


async def test_a_lost_line_is_lost_through_the_noise():
    echo = Echo()
    line = NoisyLine(echo, Noise(baud=115_200))
    await echo.close()
    with pytest.raises(LineLost, match="gone"):
        await line.read()
    with pytest.raises(LineLost, match="gone"):
        await line.write(b"x")
    await line.close()


async def test_a_writer_waits_for_a_slow_line():
    line = NoisyLine(Echo(), Noise(baud=9600))
    async with asyncio.timeout(1):
        await line.write(bytes(5000))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await line.write(b"x")
    await line.close()


def test_noise_is_read_from_text():
    noise = parse_noise("flip=1e-5, drop=1e-4,baud=115200,seed=7")
    assert noise == Noise(flip=1e-5, drop=1e-4, baud=115_200, seed=7)
    assert parse_noise("") == Noise()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop=1", "did you mean 'flip'"),
        ("flip=often", "is not flip=NUMBER"),
        ("flip", "is not flip=NUMBER"),
        ("flip=0.6", "probability from 0 to 0.5"),
        ("drop=nan", "probability from 0 to 0.5"),
        ("baud=1.5", "is not baud=NUMBER"),
        ("baud=1", "baud is from 300"),
        ("delay_s=inf", "0 to 60 seconds"),
        ("cut_after=-1", "not negative"),
        ("cut_for_s=nan", "not negative"),
    ],
)
def test_impossible_noise_is_refused_in_one_line(text, message):
    with pytest.raises(InvalidInput, match=message):
        parse_noise(text)

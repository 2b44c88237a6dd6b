"""A file is on disk when it is acknowledged, whole when it is fetched, and within its limits."""

import asyncio

import pytest

from services.aggregator.adapters.memory import MemoryJournal
from services.aggregator.adapters.sql import open_journal
from services.aggregator.files import MAX_ARRIVING, Files, Quota
from services.aggregator.keeper import Keeper, SnapshotPolicy
from services.hosting.errors import Full, NotFound, NotReady, StorageFailed
from tinyfleet.errors import InvalidInput
from tinyfleet.model.extractor import Extractor
from tinyfleet.run import make_run
from tinyfleet.run_files import PART_BYTES, file_of, parts_of_file
from tinyfleet.tasks import make_task
from tinyfleet.telemetry import NoTelemetry

CONTENT = bytes(range(251)) * 2100  # three parts
FILE = file_of(CONTENT)


@pytest.fixture(params=["memory", "sqlite"])
def journal(request, tmp_path):
    made = MemoryJournal() if request.param == "memory" else open_journal(tmp_path)
    yield made
    made.close()


async def here(call, *arguments):
    return call(*arguments)


def files(journal, **quota):
    return Files(journal.files, here, Quota(**quota))


async def parts(content):
    for part in parts_of_file(content):
        yield part


async def fetched(store, sha256=FILE.sha256):
    return [(size, part) async for size, part in store.fetch(sha256)]


def test_a_file_is_there_in_its_parts_once_it_is_put(journal):
    assert journal.files.size(FILE.sha256) is None
    assert journal.files.usage() == (0, 0)
    journal.files.put(FILE, CONTENT)
    assert journal.files.size(FILE.sha256) == FILE.size
    assert journal.files.part(FILE.sha256, 2) == CONTENT[2 * PART_BYTES :]
    assert journal.files.usage() == (1, FILE.size)


def test_a_file_is_put_once_and_no_part_is_beyond_its_end(journal):
    journal.files.put(FILE, CONTENT)
    with pytest.raises(StorageFailed):
        journal.files.put(FILE, CONTENT)
    for sha256, number in ((FILE.sha256, 3), ("0" * 64, 0)):
        with pytest.raises(StorageFailed, match="is not stored"):
            journal.files.part(sha256, number)


def test_a_file_outlives_the_process(tmp_path):
    first = open_journal(tmp_path)
    first.files.put(FILE, CONTENT)
    first.close()
    again = open_journal(tmp_path)
    assert b"".join(again.files.part(FILE.sha256, number) for number in range(3)) == CONTENT
    again.close()


async def test_what_is_put_is_fetched(journal):
    store = files(journal)
    await store.put(FILE, parts(CONTENT))
    assert await store.is_there(FILE)
    found = await fetched(store)
    assert {size for size, _ in found} == {FILE.size}
    assert b"".join(part for _, part in found) == CONTENT


async def test_the_same_file_from_two_operators_is_stored_once(journal):
    store = files(journal)
    await asyncio.gather(store.put(FILE, parts(CONTENT)), store.put(FILE, parts(CONTENT)))
    assert journal.files.usage() == (1, FILE.size)


@pytest.mark.parametrize(
    ("content", "words"),
    [(CONTENT[:-1], "cut short"), (CONTENT[:-1] + b"x", "damaged"), (CONTENT + b"x", "more than")],
)
async def test_what_is_not_the_file_is_not_stored(journal, content, words):
    store = files(journal)
    with pytest.raises(InvalidInput, match=words):
        await store.put(FILE, parts(content))
    assert journal.files.usage() == (0, 0)
    await store.put(FILE, parts(CONTENT))  # and nothing of it is left in the way


async def test_an_unknown_file_is_not_found(journal):
    with pytest.raises(NotFound, match="whoever starts a run puts it"):
        await fetched(files(journal), "0" * 64)
    with pytest.raises(InvalidInput, match="lower-case hex"):
        await fetched(files(journal), "../secret")


async def test_the_limits_name_the_remedy(journal):
    with pytest.raises(Full, match="--stored-bytes"):
        await files(journal, bytes=FILE.size - 1).put(FILE, parts(CONTENT))
    with pytest.raises(Full, match="--stored-files"):
        await files(journal, files=0).put(FILE, parts(CONTENT))
    await files(journal, files=1, bytes=FILE.size).put(FILE, parts(CONTENT))


async def test_no_more_than_a_few_files_are_in_memory_at_once():
    store, gate = files(MemoryJournal()), asyncio.Event()

    async def slow(content):
        await gate.wait()
        yield content

    contents = [bytes([number]) for number in range(MAX_ARRIVING)]
    puts = [asyncio.create_task(store.put(file_of(one), slow(one))) for one in contents]
    await asyncio.sleep(0)
    with pytest.raises(Full, match="try again"):
        await store.put(FILE, parts(CONTENT))
    gate.set()
    await asyncio.gather(*puts)
    await store.put(FILE, parts(CONTENT))


async def test_a_run_is_opened_once_its_files_are_there(journal):
    extractor = Extractor(FILE.sha256, FILE.size, (1, 1, 1), 4)
    run = make_run(make_task("sine", {}), "tiny_reptile", 5, 1, extractor=extractor)
    keeper = Keeper(journal, SnapshotPolicy(10, 1 << 30), NoTelemetry())
    with pytest.raises(NotReady, match=r"needs the file .*which is not here.*tinyfleet run start"):
        await keeper.open_run("a", run)
    await keeper.files.put(FILE, parts(CONTENT))
    await keeper.open_run("a", run)
    await keeper.open_run("a", run)
    assert (await keeper.model("a", 0)).run == run
    await keeper.close()

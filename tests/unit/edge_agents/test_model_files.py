"""A file is fetched once, kept whole, checked whenever it is read, and never kept without end."""

import asyncio
import logging
import os

import pytest

from edge_agents import model_files
from edge_agents.model_files import ModelFiles, default_folder
from tinyfleet.errors import InvalidInput
from tinyfleet.run_files import file_of

CONTENT = b"what an extractor is made of"
FILE = file_of(CONTENT)


class Source:
    """Gives one content, and counts how often it is asked."""

    def __init__(self, content=CONTENT):
        self.content, self.asked = content, []

    async def __call__(self, file):
        self.asked.append(file)
        await asyncio.sleep(0)
        return self.content


async def test_a_file_is_fetched_once_and_outlives_the_process(tmp_path):
    source, folder = Source(), tmp_path / "a" / "b"
    assert await ModelFiles(folder).content(FILE, source) == CONTENT
    assert (folder / FILE.sha256).read_bytes() == CONTENT
    assert await ModelFiles(folder).content(FILE, source) == CONTENT
    assert source.asked == [FILE]


async def test_members_that_need_a_file_at_the_same_time_fetch_it_once(tmp_path):
    files, source = ModelFiles(tmp_path), Source()
    await asyncio.gather(*(files.content(FILE, source) for _ in range(4)))
    assert len(source.asked) == 1


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT + b"!", CONTENT[::-1]])
async def test_what_is_damaged_on_disk_is_fetched_again_and_said(tmp_path, caplog, damage):
    (tmp_path / FILE.sha256).write_bytes(damage)
    assert await ModelFiles(tmp_path).content(FILE, Source()) == CONTENT
    assert (tmp_path / FILE.sha256).read_bytes() == CONTENT
    assert "file of no use, fetched again" in caplog.text


async def test_a_fetch_that_fails_leaves_nothing_and_the_next_one_works(tmp_path):
    async def fails(file):
        raise InvalidInput("damaged on its way")

    files = ModelFiles(tmp_path)
    with pytest.raises(InvalidInput):
        await files.content(FILE, fails)
    assert list(tmp_path.iterdir()) == []
    assert await files.content(FILE, Source()) == CONTENT


async def test_a_folder_that_cannot_be_written_costs_a_fetch_and_is_said(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    files, source = ModelFiles(tmp_path / "file" / "models"), Source()
    with caplog.at_level(logging.WARNING):
        assert await files.content(FILE, source) == CONTENT
    assert "give another --models" in caplog.text


async def test_those_that_were_used_longest_ago_go(tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "MAX_KEPT_BYTES", 25)
    contents = [bytes([number]) * 10 for number in range(3)]
    for age, content in enumerate(contents[:2]):
        path = tmp_path / file_of(content).sha256
        path.write_bytes(content)
        os.utime(path, (100 + age, 100 + age))
    files = ModelFiles(tmp_path)
    await files.content(file_of(contents[0]), Source())  # used now
    await files.content(file_of(contents[2]), Source(contents[2]))
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {file_of(contents[0]).sha256, file_of(contents[2]).sha256}


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/users/pi"}, "/x/tinyfleet/models"),
        ({"HOME": "/users/pi"}, "/users/pi/.cache/tinyfleet/models"),
        ({}, "/tmp/.cache/tinyfleet/models"),
    ],
)
def test_files_are_kept_with_the_user_s_caches(environment, folder):
    assert str(default_folder(environment)) == folder

"""A backup's file is read back as it was written, or refused in one line, whatever is in it."""

import hashlib
import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyfleet.backup.archive import (
    MAX_HEADER_BYTES,
    Contents,
    Part,
    open_archive,
    sha256_of,
    write_archive,
)
from tinyfleet.backup.restoring import check_archive
from tinyfleet.errors import InvalidInput

FILES = {"coordinator": b"runs and agents", "aggregator": b"the journal" * 100}
GOLDEN = "8a745bbf9954e77a5a5d9a43af7fd15b1bc0c30166b8ebcec483e1aaa9b4ae8c"
DAMAGE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def contents_of(files):
    parts = [
        Part(name, True, "0001", len(data), hashlib.sha256(data).hexdigest())
        for name, data in files.items()
    ]
    return Contents("2026-11-30T22:15:00Z", "0.1.0", tuple(parts))


@pytest.fixture
def backup(tmp_path):
    paths = []
    for name, data in FILES.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    write_archive(tmp_path / "site.tfbackup", contents_of(FILES), paths)
    return tmp_path / "site.tfbackup"


def sealed(header, body=b""):
    """A file whose digest is right, whatever else is wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    whole = struct.pack("<8sII", b"TFBACKUP", 1, len(text)) + text + body
    return whole + hashlib.sha256(whole).digest()


def header_of(data):
    (size,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[16 : 16 + size]), data[16 + size : -32]


def test_what_was_written_is_read(backup):
    with open_archive(backup) as archive:
        assert archive.contents == contents_of(FILES)
        read = {part.name: b"".join(archive.read(part)) for part in archive.contents.parts}
        archive.check_end()
    assert read == FILES


def test_the_bytes_of_a_backup_stay_what_they_are(backup):
    assert sha256_of(backup) == GOLDEN


def test_nobody_else_may_read_a_backup(backup):
    assert backup.stat().st_mode & 0o777 == 0o600


def test_a_backup_never_takes_the_place_of_a_file(backup, tmp_path):
    before = backup.read_bytes()
    with pytest.raises(InvalidInput, match="is there already: choose another name"):
        write_archive(backup, contents_of(FILES), [tmp_path / name for name in FILES])
    assert backup.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, backup.name}


def test_a_backup_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(InvalidInput, match=r"cannot write backup .*: No such file"):
        write_archive(tmp_path / "out", contents_of(FILES), [tmp_path / "missing"] * 2)
    assert list(tmp_path.iterdir()) == []


@DAMAGE
@given(st.data())
def test_any_changed_byte_is_noticed(backup, data):
    good = backup.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    damaged = backup.with_name("damaged")
    damaged.write_bytes(bad)
    with pytest.raises(InvalidInput, match="damaged: "):
        check_archive(damaged)


@DAMAGE
@given(st.data())
def test_any_other_length_is_noticed(backup, data):
    good = backup.read_bytes()
    damaged = backup.with_name("damaged")
    damaged.write_bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    with pytest.raises(InvalidInput, match=r"cut short|not a TinyFleet backup"):
        check_archive(damaged)
    damaged.write_bytes(good + data.draw(st.binary(min_size=1, max_size=9)))
    with pytest.raises(InvalidInput, match="bytes after its end"):
        check_archive(damaged)


@DAMAGE
@given(st.binary(max_size=200))
def test_noise_is_refused(tmp_path, noise):
    (tmp_path / "noise").write_bytes(noise)
    with pytest.raises(InvalidInput):
        check_archive(tmp_path / "noise")
    (tmp_path / "noise").write_bytes(sealed(noise))
    with pytest.raises(InvalidInput):
        check_archive(tmp_path / "noise")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


@DAMAGE
@given(st.sampled_from(["created", "parts", "name", "bytes", "sha256"]), JSON)
def test_a_header_with_any_other_value_is_refused(backup, key, value):
    header, body = header_of(backup.read_bytes())
    where = header if key in header else header["parts"][0]
    same = where[key] == value
    where[key] = value
    odd = backup.with_name("odd")
    odd.write_bytes(sealed(header, body))
    if same:
        return
    with pytest.raises(InvalidInput):
        check_archive(odd)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "agent", "", "metrics/x"])
def test_a_database_of_another_name_is_refused(backup, name):
    header, body = header_of(backup.read_bytes())
    header["parts"][0]["name"] = name
    odd = backup.with_name("odd")
    odd.write_bytes(sealed(header, body))
    with pytest.raises(InvalidInput, match="those of the three services"):
        check_archive(odd)


def test_a_database_twice_is_refused(backup):
    header, body = header_of(backup.read_bytes())
    header["parts"][1]["name"] = header["parts"][0]["name"]
    odd = backup.with_name("odd")
    odd.write_bytes(sealed(header, body))
    with pytest.raises(InvalidInput, match="of different services"):
        check_archive(odd)


def test_a_header_without_end_is_not_read(tmp_path):
    file = tmp_path / "endless"
    file.write_bytes(struct.pack("<8sII", b"TFBACKUP", 1, MAX_HEADER_BYTES + 1))
    with pytest.raises(InvalidInput, match="its header has over 65536 bytes"):
        check_archive(file)


def test_a_backup_of_the_future_is_named(tmp_path):
    file = tmp_path / "newer"
    file.write_bytes(struct.pack("<8sII", b"TFBACKUP", 2, 2) + b"{}")
    with pytest.raises(InvalidInput, match="format version 2, this program reads 1"):
        check_archive(file)

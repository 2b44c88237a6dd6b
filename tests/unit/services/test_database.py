"""A database opens locked, durable and migrated, or says in one line why it does not."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from services.hosting import database
from services.hosting.database import head_revision, open_database, storage_errors
from services.hosting.errors import Occupied, StorageFailed
from tinyfleet.errors import InvalidInput

ROOT = Path(__file__).resolve().parents[3]
SERVICES = sorted(path.parents[1].name for path in ROOT.glob("services/*/migrations/versions"))

FIRST = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    op.create_table("things", sa.Column("id", sa.Integer, primary_key=True))
"""
SECOND = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade():
    op.add_column("things", sa.Column("name", sa.Text))
"""
BROKEN = SECOND + "    op.add_column('nothing', sa.Column('x', sa.Text))\n"


@pytest.fixture
def migrations(tmp_path):
    folder = tmp_path / "migrations with 100%"
    (folder / "versions").mkdir(parents=True)
    (folder / "versions" / "0001_first.py").write_text(FIRST)
    return folder


def opened(tmp_path, migrations, state="state"):
    return open_database(tmp_path / state, "demo", migrations)


def columns(engine):
    return [column["name"] for column in sa.inspect(engine).get_columns("things")]


def test_a_new_database_is_migrated(tmp_path, migrations):
    engine = opened(tmp_path, migrations, "a/b%20c/state")
    assert columns(engine) == ["id"]
    assert (tmp_path / "a/b%20c/state/demo.sqlite").exists()
    engine.dispose()


def test_an_old_database_is_migrated_and_keeps_its_rows(tmp_path, migrations):
    engine = opened(tmp_path, migrations)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO things VALUES (7)")
    engine.dispose()
    (migrations / "versions" / "0002_second.py").write_text(SECOND)
    engine = opened(tmp_path, migrations)
    assert columns(engine) == ["id", "name"]
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM things").scalar() == 7
    engine.dispose()


def test_a_migration_that_fails_changes_nothing(tmp_path, migrations):
    opened(tmp_path, migrations).dispose()
    (migrations / "versions" / "0002_second.py").write_text(BROKEN)
    with pytest.raises(StorageFailed, match=r"cannot open .*demo.sqlite: near"):
        opened(tmp_path, migrations)
    (migrations / "versions" / "0002_second.py").unlink()
    engine = opened(tmp_path, migrations)
    assert columns(engine) == ["id"]
    engine.dispose()


def test_an_up_to_date_database_opens_without_alembic(tmp_path, migrations, monkeypatch):
    opened(tmp_path, migrations).dispose()
    monkeypatch.setattr(database, "_upgrade", None)
    opened(tmp_path, migrations).dispose()


def test_a_database_of_a_newer_version_is_refused(tmp_path, migrations):
    (migrations / "versions" / "0002_second.py").write_text(SECOND)
    opened(tmp_path, migrations).dispose()
    (migrations / "versions" / "0002_second.py").unlink()
    with pytest.raises(InvalidInput, match=r"newer version .schema 0002, this one knows 0001"):
        opened(tmp_path, migrations)


def test_a_second_process_is_refused_and_told_which_holds_it(tmp_path, migrations):
    engine = opened(tmp_path, migrations)
    code = (
        "import sys; from pathlib import Path; from services.hosting.database import open_database;"
        "open_database(Path(sys.argv[1]), 'demo', Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "state"), str(migrations)]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"in use by process {os.getpid()}: stop it or choose another --state" in second.stderr
    engine.dispose()
    third = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr


def test_two_services_share_a_folder(tmp_path, migrations):
    first = open_database(tmp_path, "one", migrations)
    open_database(tmp_path, "two", migrations).dispose()
    with pytest.raises(Occupied):
        open_database(tmp_path, "one", migrations)
    first.dispose()


def test_a_failed_start_gives_the_folder_free(tmp_path, migrations):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "demo.sqlite").write_bytes(b"x" * 5000)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="restore it from a copy or move it away"):
            opened(tmp_path, migrations)
    (tmp_path / "state" / "demo.sqlite").unlink()
    opened(tmp_path, migrations).dispose()


def test_a_folder_that_is_a_file_is_refused(tmp_path, migrations):
    (tmp_path / "state").write_text("")
    with pytest.raises(InvalidInput, match=r"cannot use state folder .*choose another --state"):
        opened(tmp_path, migrations)


def test_a_commit_waits_for_the_disk(tmp_path, migrations):
    engine = opened(tmp_path, migrations)
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }
    engine.dispose()


def _insert_twice(engine):
    with storage_errors("cannot store"), engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO things VALUES (1)")
        connection.exec_driver_sql("CREATE TABLE more (x)")
        connection.exec_driver_sql("INSERT INTO things VALUES (1)")


def test_a_transaction_that_raises_leaves_nothing(tmp_path, migrations):
    engine = opened(tmp_path, migrations)
    with pytest.raises(StorageFailed, match="cannot store: UNIQUE"):
        _insert_twice(engine)
    assert "more" not in sa.inspect(engine).get_table_names()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM things").scalar() == 0
    engine.dispose()


def test_readers_do_not_wait_for_the_writer(tmp_path, migrations):
    engine = opened(tmp_path, migrations)
    with engine.begin() as writer:
        writer.exec_driver_sql("INSERT INTO things VALUES (1)")
        with engine.connect() as reader:
            assert reader.exec_driver_sql("SELECT count(*) FROM things").scalar() == 0
    engine.dispose()


def test_others_may_look_into_the_file(tmp_path, migrations):
    engine = opened(tmp_path, migrations)
    other = sqlite3.connect(tmp_path / "state" / "demo.sqlite")
    assert other.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    other.close()
    engine.dispose()


def test_the_aggregator_is_among_the_services():
    assert "aggregator" in SERVICES


@pytest.mark.parametrize("service", SERVICES)
def test_file_names_and_alembic_agree_on_the_newest_migration(service):
    folder = ROOT / "services" / service / "migrations"
    config = Config()
    config.set_main_option("script_location", str(ROOT / "services/hosting/migrations"))
    config.set_main_option("version_locations", str(folder / "versions"))
    config.set_main_option("path_separator", "newline")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [head_revision(folder)]
    numbers = sorted(path.name[:4] for path in folder.glob("versions/[0-9]*_*.py"))
    assert numbers == [f"{number + 1:04d}" for number in range(len(numbers))]

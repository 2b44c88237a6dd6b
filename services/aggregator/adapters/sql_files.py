"""The files that runs need, in the journal's database: in parts, so that none is read whole."""

from __future__ import annotations

import sqlalchemy as sa

from services.aggregator.ports import Usage
from services.hosting.database import storage_errors
from services.hosting.errors import StorageFailed
from tinyfleet.run_files import RunFile, parts_of_file

TABLES = sa.MetaData()

files = sa.Table(
    "files",
    TABLES,
    sa.Column("sha256", sa.Text, primary_key=True),  # of the content, in hex
    sa.Column("size", sa.Integer, nullable=False),  # bytes
)
file_parts = sa.Table(
    "file_parts",
    TABLES,
    sa.Column("sha256", sa.Text, sa.ForeignKey("files.sha256"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),  # from 0
    sa.Column("content", sa.LargeBinary, nullable=False),
)


class SqlFiles:
    """Files on an engine; writes through the journal's own connection."""

    def __init__(self, engine: sa.Engine, writer: sa.Connection) -> None:
        self._engine = engine
        self._writer = writer

    def put(self, file: RunFile, content: bytes) -> None:
        rows = [
            {"sha256": file.sha256, "number": number, "content": part}
            for number, part in enumerate(parts_of_file(content))
        ]
        with storage_errors(f"cannot store file {file}"), self._writer.begin():
            self._writer.execute(sa.insert(files).values(sha256=file.sha256, size=file.size))
            self._writer.execute(sa.insert(file_parts), rows)

    def size(self, sha256: str) -> int | None:
        query = sa.select(files.c.size).where(files.c.sha256 == sha256)
        with storage_errors("cannot look for a file"), self._engine.connect() as connection:
            return connection.execute(query).scalar()

    def part(self, sha256: str, number: int) -> bytes:
        query = sa.select(file_parts.c.content).where(
            file_parts.c.sha256 == sha256, file_parts.c.number == number
        )
        with storage_errors("cannot read a file"), self._engine.connect() as connection:
            part = connection.execute(query).scalar()
        if part is None:
            raise StorageFailed(f"part {number} of file {sha256[:12]}... is not stored")
        return bytes(part)

    def usage(self) -> Usage:
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(files.c.size), 0))
        with storage_errors("cannot count the files"), self._engine.connect() as connection:
            count, size = connection.execute(query.select_from(files)).one()
        return Usage(count, size)

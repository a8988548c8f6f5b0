"""The lake: the landed rows of the entities with the most rows as parquet files, beside their tables, for an engine that is no Postgres.

A batch writes its rows into one file before it commits; the file counts once its row of `audit.lake_files` does, which is in the batch's own
transaction. A row that changes belongs to the batch that changed it from then on, in the table as in the lake, so of several rows with one key
that of the newest batch holds. What changes landed rows in place (an erasure, a new key, retention) withdraws the entity's files in its own
transaction; `complete` writes what the lake lacks from the tables.
"""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import PurePosixPath
from typing import TypedDict

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from northstar.base.settings import Settings
from northstar.contract import Entity, entities
from northstar.warehouse import db
from northstar.warehouse.lake_store import DamagedFile, InputFailed, LakeStore, open_store
from northstar.warehouse.rows import Connection, fetch_all_as

# the entities of which there may be more rows than one machine counts in a night: those that models with the tag `wide` read
WIDE_ENTITIES = (
    "events", "messages", "api_requests", "uptime_checks", "error_events", "resource_samples", "query_stats", "web_vitals", "integration_calls",
)  # fmt: skip
# files of another layout, which their names tell, are written anew
LAYOUT = 2
# files below the one size are merged, once there are so many of an entity, into files of up to the other
SMALL_BYTES, LARGE_BYTES, MANY = 32 << 20, 256 << 20, 16
# the types of the files; a landed decimal has 12 digits after the point at most (northstar.extract.landing.casts)
FILE_TYPES = {
    "text": pa.string(), "int": pa.int64(), "decimal": pa.decimal128(38, 12), "bool": pa.bool_(), "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(), "json": pa.string(),
}  # fmt: skip

# SQL: columns that the driver has types of its own for. Of a JSON document the members as texts, as `->>` gives them: engines write the numbers
# and the blanks of a document that they have read in their own way, and take one or the other of two members with one name
AS_STORED = {
    "decimal": "{0}::text as {0}",
    "json": "case when json_typeof({0}) = 'object' then (select jsonb_object_agg(key, value)::text from json_each_text({0})) end as {0}",
}  # fmt: skip


class LakeFile(TypedDict):
    """A row of audit.lake_files: a batch, and the file that has its rows. path: in the lake's store; rows: of the batch; bytes: of the file."""

    entity: str
    batch_id: int
    path: str
    rows: int
    bytes: int


def file_schema(entity: Entity) -> pa.Schema:
    """The schema of an entity's files: its columns by the contract, and the number of the batch. `_extra`, which no model reads, is left out."""
    fields = [pa.field(c.name, FILE_TYPES[c.type]) for c in entity.stored_columns.values()]
    return pa.schema([*fields, pa.field("_batch_id", pa.int64())])


def write_batch(store: LakeStore, cursor: adbc.Cursor, entity: Entity, batch_id: int) -> None:
    """Write the rows of a batch, as they are in the table, to a file and name it in audit.lake_files, in the cursor's transaction.

    Raises NorthstarError when the file cannot be written; the caller rolls back.
    """
    columns = sql.SQL(", ").join(
        sql.SQL(AS_STORED.get(c.type, "{0}")).format(sql.Identifier(c.name)) for c in entity.stored_columns.values()
    )
    query = sql.SQL("select {}, _batch_id from staging.{} where _batch_id = {}").format(
        columns, sql.Identifier(entity.name), sql.Literal(batch_id)
    )
    cursor.execute(query.as_string(None))
    path = _new_path(entity.name, batch_id)
    rows = _write_file(store, path, file_schema(entity), cursor.fetch_record_batch())
    if not rows:
        store.remove(path)
        return
    entry = sql.SQL("insert into audit.lake_files (entity, batch_id, path, rows, bytes) values ({})").format(
        sql.SQL(", ").join(map(sql.Literal, (entity.name, batch_id, path, rows, store.size(path))))
    )
    cursor.execute(entry.as_string(None))


def _new_path(name: str, batch_id: int) -> str:
    """The path of a new file of an entity that begins with the rows of a batch."""
    return f"{name}/{batch_id:012}-{secrets.token_hex(4)}.{LAYOUT}.parquet"


def _write_file(store: LakeStore, path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write a file that survives a crash of the machine from the moment this returns; returns its rows."""
    rows = 0
    with (
        store.create(path) as file,
        pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for table in _read_input(schema, batches):
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _read_input(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The batches in the file's types; a failure to read them is told apart from one of the store that they are written to."""
    try:
        for batch in batches:
            yield pa.Table.from_batches([batch]).cast(schema)
    except Exception as exc:
        raise InputFailed(exc) from exc


def withdraw(connection: Connection, name: str) -> None:
    """Let an entity's files count no more, in the transaction that changes its landed rows in place."""
    connection.execute("delete from audit.lake_files where entity = %s", [name])


def discard(settings: Settings, store: LakeStore, path: str) -> None:
    """Take out a file that cannot be read; `complete` writes it again from its table."""
    with db.connect(settings, "loader") as connection:
        connection.execute("delete from audit.lake_files where path = %s", [path])
    store.remove(path)


def complete(settings: Settings, store: LakeStore) -> dict[str, list[LakeFile]]:
    """Write the batches that the lake lacks, from the tables, and remove files that do not count; returns {entity: its files}.

    It lacks those that landed before there was a lake, those that were withdrawn, and files that are gone or cut short. No batch may land
    meanwhile: call it in a run's turn.
    """
    files: dict[str, list[LakeFile]] = {}
    for name in WIDE_ENTITIES:
        sizes = store.sizes(name)
        with db.connect(settings, "loader") as connection:
            listed = _listed(connection, name)
            for file in listed:
                if not file["path"].endswith(f".{LAYOUT}.parquet") or sizes.get(file["path"]) != file["bytes"]:
                    connection.execute(
                        "delete from audit.lake_files where entity = %s and batch_id = %s", [name, file["batch_id"]]
                    )
            missing = [
                row["batch_id"]
                for row in connection.execute(
                    sql.SQL(
                        "select distinct _batch_id as batch_id from staging.{} as t where not exists "
                        "(select 1 from audit.lake_files as f where f.entity = %s and f.batch_id = t._batch_id) order by 1"
                    ).format(sql.Identifier(name)),
                    [name],
                )
            ]
        if missing:
            _write_missing(settings, store, entities()[name], missing)
        with db.connect(settings, "loader") as connection:
            files[name] = _listed(connection, name)
        store.remove_others(name, set(paths_of(files[name])))
    return files


def counting_paths(settings: Settings, name: str) -> list[str]:
    """The files of an entity that count."""
    with db.connect(settings, "transformer") as connection:
        return paths_of(_listed(connection, name))


def paths_of(files: list[LakeFile]) -> list[str]:
    """Each file once: a merged one has several batches."""
    return list(dict.fromkeys(file["path"] for file in files))


def _write_missing(settings: Settings, store: LakeStore, entity: Entity, batches: list[int]) -> None:
    with closing(adbc.connect(db.uri(settings, "loader"))) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("set timezone = 'UTC'")
        for batch_id in batches:
            write_batch(store, cursor, entity, batch_id)
            connection.commit()


def compact(settings: Settings) -> int:
    """Merge small files of an entity where there are many, in a turn; returns how many files there are fewer. `sweep` removes those that were merged.

    A merged file has all rows of its batches, those that a later batch replaced as well. A file that cannot be read is taken out of the lake.
    """
    store = open_store(settings)
    if store is None:
        return 0
    fewer = 0
    for name in WIDE_ENTITIES:
        with db.connect(settings, "loader") as connection:
            sizes = {file["path"]: file["bytes"] for file in _listed(connection, name)}
        small = [path for path, size in sizes.items() if size < SMALL_BYTES]
        for paths in _in_groups(small, sizes) if len(small) >= MANY else ():
            try:
                _merge(settings, store, entities()[name], paths)
            except DamagedFile as exc:
                discard(settings, store, exc.path)
            else:
                fewer += len(paths) - 1
    return fewer


def _in_groups(paths: list[str], sizes: dict[str, int]) -> Iterator[list[str]]:
    """The files in their order, in groups of two or more whose sizes add up to that of a large file at most."""
    group: list[str] = []
    for path in paths:
        if sum(sizes[one] for one in group) + sizes[path] > LARGE_BYTES:
            yield group
            group = []
        group.append(path)
    if len(group) > 1:
        yield group


def _merge(settings: Settings, store: LakeStore, entity: Entity, paths: list[str]) -> None:
    merged = _new_path(entity.name, int(PurePosixPath(paths[0]).name.partition("-")[0]))
    _write_file(store, merged, file_schema(entity), _read_files(store, paths))
    size = store.size(merged)
    with db.connect(settings, "loader") as connection:
        connection.execute(
            "update audit.lake_files set path = %s, bytes = %s where entity = %s and path = any(%s)",
            [merged, size, entity.name, paths],
        )


def _read_files(store: LakeStore, paths: list[str]) -> Iterator[pa.RecordBatch]:
    for path in paths:
        with store.read(path) as file:
            try:
                yield from pq.ParquetFile(file, page_checksum_verification=True).iter_batches()
            except (OSError, pa.ArrowException) as exc:
                # an object store's own errors say nothing about the file; Arrow's have no number
                if store.is_local or isinstance(exc, pa.ArrowException) or (type(exc) is OSError and exc.errno is None):
                    raise DamagedFile(path) from exc
                raise


def sweep(settings: Settings) -> int:
    """Remove the files that do not count, in a turn; returns how many. What was withdrawn may hold what was erased."""
    store = open_store(settings)
    if store is None:
        return 0
    removed = 0
    for name in WIDE_ENTITIES:
        with db.connect(settings, "loader") as connection:
            listed = _listed(connection, name)
        removed += store.remove_others(name, set(paths_of(listed)))
    return removed


def _listed(connection: Connection, name: str) -> list[LakeFile]:
    query = "select entity, batch_id, path, rows, bytes from audit.lake_files where entity = %s order by batch_id"
    return fetch_all_as(LakeFile, connection.execute(query, [name]))

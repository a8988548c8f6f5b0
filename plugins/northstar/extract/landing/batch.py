"""Land one batch of one entity in `staging`, in one transaction: new and replaced rows, quarantine, the state of files, the batch's own row,
and the name of the batch's file in the lake, if the home keeps one (northstar.warehouse.lake).

Arrow batches stream through ADBC (COPY BINARY) into a temporary table and are merged from there; into an empty table they
go directly and the key's index is built afterwards. If anything goes wrong, nothing of the batch is stored.
"""

import contextlib
import queue
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Self, TypedDict

import adbc_driver_postgresql.dbapi as adbc
import orjson
import pyarrow as pa
from psycopg import sql
from psycopg.rows import TupleRow

from northstar.base.errors import NorthstarError, TurnLost, WarehouseLost, WarehouseUnreachable
from northstar.base.settings import Settings
from northstar.base.third_parties import is_connection_lost
from northstar.contract import MAX_GROUP_CHARACTERS, Entity
from northstar.extract.landing.learned import note_unusual
from northstar.extract.landing.normalise import landed_schema, without_nulls
from northstar.extract.landing.profile import Place, Profile
from northstar.extract.landing.settled import Settled, read_settled
from northstar.extract.sources.declared import State
from northstar.extract.sources.files import Reading
from northstar.privacy.personal import redact
from northstar.warehouse import db, turn_lock
from northstar.warehouse.lake import WIDE_ENTITIES, write_batch
from northstar.warehouse.lake_store import LakeStore, open_store
from northstar.warehouse.landed_tables import key_index_name, landed_table_ddl, secondary_indexes
from northstar.warehouse.rows import Row

REJECTED = pa.schema([("path", pa.string()), ("line", pa.int64()), ("reasons", pa.string()), ("row", pa.string())])
SEPARATOR = "\x1f"
PREFETCHED_BATCHES = 4
LANDING_LOCK = 7041779
# the most unknown columns that are noted: a file whose keys are values has ever more of them
DRIFTED_COLUMNS = 1_000


@dataclass
class Landed:
    """What one batch did, in rows."""

    files: int = 0
    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    quarantined: int = 0
    refused: int = 0
    # rows of files whose key and cursor are those of another row of the batch, with other content
    contradicted: int = 0

    def __iadd__(self, other: "Landed") -> Self:
        for name in Landed.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


class Rejects:
    """Rejected rows on their way to quarantine, spooled to disk so that a file of nothing but bad rows needs no memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="northstar-rejected-")  # noqa: SIM115
        self._writer = pa.ipc.new_stream(self._file, REJECTED)
        self._rows: list[tuple[str, int | None, str, str]] = []
        self.count = 0

    def add(self, path: str, line: int | None, reasons: list[str], row: Row) -> None:
        text = without_nulls(orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS).decode())
        self._rows.append((path, line, SEPARATOR.join(r.replace("\x00", "") for r in reasons), text))
        self.count += 1
        if len(self._rows) >= 10_000:
            self._flush()

    def reader(self) -> pa.RecordBatchReader:
        self._flush()
        self._writer.close()
        self._file.seek(0)
        return pa.ipc.open_stream(self._file)

    def close(self) -> None:
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            columns = [
                pa.array(values, kind)
                for values, kind in zip(zip(*self._rows, strict=True), REJECTED.types, strict=True)
            ]
            self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=REJECTED))
            self._rows = []


class ReadFile(TypedDict):
    """A file that was read: what audit.landed_files says of it."""

    path: str
    fingerprint: str
    reading: str
    size: int
    read: int
    quarantined: int


@dataclass
class Delivery:
    """What a producer reports to the merge by the end of its stream."""

    rejects: Rejects
    read: int = 0
    # rows that were read and lie outside the requested range
    outside_range: int = 0
    refused: int = 0
    # how many of the refused rows name an erased subject
    erased: int = 0
    files: list[ReadFile] = field(default_factory=list)
    # columns that the contract does not know: {column: (where it came, in how many rows)}
    drift: dict[str, tuple[str, int]] = field(default_factory=dict)
    # the state from which a connector goes on once this batch is stored
    state: State | None = None
    # how it reads: a digest (northstar.extract.sources.declared)
    reading: str | None = None
    # the names under which rows of several files together are quarantined
    names: list[str] = field(default_factory=list)
    # what the rows hold; None where rows are read again, from which nothing is learned
    profile: Profile | None = None
    # the files by path, to look up the lines of example rows
    readings: dict[str, Reading] = field(default_factory=dict)

    def line_of(self, place: Place) -> int | None:
        """The line of a row in its file. None where rows have no lines, or where the file cannot be read again."""
        path, number = place
        own = self.readings.get(path)
        if own is None or number is None:
            return number
        with contextlib.suppress(NorthstarError, OSError):
            return own.lines_of({number}).get(number, number)
        return None

    def keep_reading(self, path: str, own: Reading) -> None:
        """Keep a file, without its content, for `line_of`, if it has example rows."""
        if self.profile is not None and path in self.profile.example_paths:
            self.readings[path] = replace(own, file=replace(own.file, content=None), rejected=[], ragged=0)

    def record_drift(self, entity: Entity, raw: pa.RecordBatch, path: str) -> None:
        """Note the columns of a raw batch that the contract does not know, with where they came and in how many rows."""
        for name in raw.schema.names:
            if (
                name not in entity.columns
                and name != "_line"
                and (name in self.drift or len(self.drift) < DRIFTED_COLUMNS)
            ):
                rows = raw.num_rows - raw.column(name).null_count
                # a file without a header has the values of its first row for names, so they are redacted; and a name has to fit into an index
                stored_name = redact(name)[:MAX_GROUP_CHARACTERS]
                earlier = self.drift.get(stored_name, (path, 0))
                self.drift[stored_name] = (path, earlier[1] + rows)


@dataclass(frozen=True)
class Keep:
    """Which of several rows with one key stays: the one with the smallest or the largest value of a column, in whatever order they come.

    column: "" for the newest by the entity's cursor, and of those the one that came last. Rows with the same value are told apart by their content.
    """

    is_oldest: bool = False
    column: str = ""


NEWEST_CURSOR = Keep()
# yields what is to land, and fills the Delivery that it is given
Produce = Callable[[Delivery], Iterator[pa.RecordBatch]]


def land_batch(
    settings: Settings,
    entity: Entity,
    source: str,
    run_id: int | None,
    produce: Produce,
    keep: Keep = NEWEST_CURSOR,
    reads_landed: bool = False,
    turn: int | None = None,
) -> Landed:
    """Land the batches that `produce` yields (landed schema); it fills the Delivery it is given.

    keep: which row stays where several have one key. reads_landed: `produce` reads the entity's
    landed rows, so the table must not be locked before it has ended. turn: the number of the turn in which this is done, where it is no
    run's (northstar.runs.turns.command_turn).

    Raises what `produce` raises, and NorthstarError when the warehouse refuses; then nothing was landed.
    """
    delivery = Delivery(Rejects())
    try:
        with contextlib.closing(_connect(settings)) as connection:
            settled = read_settled(settings)
            merge = _Merge(
                connection, entity, source, run_id, delivery, keep, reads_landed, settled, open_store(settings)
            )
            return merge.run(produce, run_id if turn is None else turn)
    except adbc.Error as exc:
        raise _to_northstar_error(exc, settings) from exc
    finally:
        delivery.rejects.close()


@cache
def _root_connection(uri: str) -> adbc.Connection:
    """A connection that stays open to be cloned: only the first one asks the server for all its types, which takes 60 ms."""
    return adbc.connect(uri, autocommit=True)


def _connect(settings: Settings) -> adbc.Connection:
    try:
        return db.retry_while_recovering(settings, lambda: _root_connection(db.uri(settings, "loader")).adbc_clone())
    except adbc.Error as exc:
        raise WarehouseUnreachable("loader", str(exc).splitlines()[-1]) from exc


class _Merge:
    def __init__(
        self,
        connection: adbc.Connection,
        entity: Entity,
        source: str,
        run_id: int | None,
        delivery: Delivery,
        keep: Keep,
        reads_landed: bool,
        settled: Settled,
        lake: LakeStore | None,
    ):
        self.settled = settled
        self.connection, self.entity, self.source, self.run_id, self.delivery = (
            connection,
            entity,
            source,
            run_id,
            delivery,
        )
        self.columns = [*entity.stored_columns, "_extra"]
        self.keep, self.reads_landed = keep, reads_landed
        # where the rows are written as parquet too
        self.lake = lake if entity.name in WIDE_ENTITIES else None
        # the order of several rows with one key, of which the first is kept
        self.order: sql.Composable
        if keep.column:
            direction = sql.SQL("asc" if keep.is_oldest else "desc")
            self.order = sql.SQL("{} {} nulls last, {}").format(
                sql.Identifier(keep.column), direction, self._content("")
            )
        else:
            self.order = sql.SQL("{} desc nulls last, ctid desc").format(sql.Identifier(entity.cursor))
        self.cursor = connection.cursor()
        self.table = sql.Identifier("staging", entity.name)
        self.batch_id = 0
        # a key whose rows contradict each other
        self.contradicted_key: str | None = None

    def run(self, produce: Produce, turn: int | None) -> Landed:
        producer = _Producer(produce, self.delivery)
        try:
            self.execute("set local timezone = 'UTC'")
            self._keep_turn(turn)
            # two sources of one entity land one after the other: each compares with what the other left
            self.execute("select pg_advisory_xact_lock({}, hashtext({}))", LANDING_LOCK, self.entity.name)
            self.execute("set local maintenance_work_mem = '1GB'")
            self.batch_id = self.value(
                "insert into audit.landing_batches (run_id, source, entity) values ({}, {}, {}) returning batch_id",
                self.run_id, self.source, self.entity.name,
            )  # fmt: skip
            is_empty = not self.reads_landed and self.value("select not exists (select 1 from {})", self.table)
            landed = self._fill_empty_table(producer) if is_empty else self._merge_into_table(producer)
            if self.entity.name == "subscriptions":
                self._flag_overlaps()
            self._quarantine()
            self._record_batch(landed)
            note_unusual(self, self.entity, self.batch_id, self.delivery.profile, self.settled, self.delivery.line_of)
            if self.lake and (landed.inserted or landed.updated):
                write_batch(self.lake, self.cursor, self.entity, self.batch_id)
            self.connection.commit()
        except BaseException as exc:
            producer.stop()
            with contextlib.suppress(adbc.Error):
                self.connection.rollback()
            if producer.error is not None:
                raise producer.error from exc
            raise
        return landed

    def _keep_turn(self, turn: int | None) -> None:
        if turn is None:
            return
        for statement in turn_lock.keep_statements(turn, by_hand=True):
            self.cursor.execute(statement)
        if self.cursor.fetchone()[0]:
            raise TurnLost(turn)

    def execute(self, text: str, *values: object) -> None:
        self.cursor.execute(self._compose(text, *values))

    # Any: the one value of a query, a number or a boolean
    def value(self, text: str, *values: object) -> Any:
        self.cursor.execute(self._compose(text, *values))
        return self.cursor.fetchone()[0]

    def rows(self, text: str, *values: object) -> list[TupleRow]:
        self.cursor.execute(self._compose(text, *values))
        return list(self.cursor.fetchall())

    def _compose(self, text: str, *values: object) -> str:
        parts = [v if isinstance(v, sql.Composable) else sql.Literal(v) for v in values]
        return sql.SQL(text).format(*parts).as_string(None)

    def names(self, columns: Iterable[str], prefix: str = "") -> sql.Composable:
        return sql.SQL(", ").join(sql.SQL(prefix + "{}").format(sql.Identifier(c)) for c in columns)

    def _fill_empty_table(self, producer: "_Producer") -> Landed:
        """Write straight into the table, and build the indexes after the rows."""
        # this removes what a failed first batch left behind, and the indexes are built only once
        self.execute("truncate {}", self.table)
        for index in (key_index_name(self.entity), *secondary_indexes(self.entity)):
            self.execute("drop index if exists staging.{}", sql.Identifier(index))
        self.execute("alter table {} alter column _batch_id set default {}", self.table, self.batch_id)
        self.execute("alter table {} alter column _loaded_at set default current_timestamp", self.table)
        # an ingest of no batches at all would not know its columns
        self.cursor.adbc_ingest(self.entity.name, producer.reader(self.entity), mode="append", db_schema_name="staging")
        self.execute("alter table {} alter column _batch_id drop default", self.table)
        self.execute("alter table {} alter column _loaded_at drop default", self.table)
        # ADBC cannot go back to a savepoint: the second try after repeated keys has to be one statement with the first
        self.execute(
            "do $do$ declare repeated bigint := 0; contradicted text := ''; begin begin {0}; exception when unique_violation then "
            "select {4} into contradicted; delete from {1} as t using (select ctid as place, row_number() over (partition by {2} "
            "order by {3}) as n from {1}) as d where t.ctid = d.place and d.n > 1; "
            "get diagnostics repeated = row_count; {0}; end; "
            "perform set_config('northstar.repeated', repeated::text, true); "
            "perform set_config('northstar.contradicted', contradicted, true); end $do$",
            _index_ddl(self.entity, key_index_name(self.entity)), self.table, self.names(self.entity.key), self.order,
            self._contradicted(self.table),
        )  # fmt: skip
        for index in secondary_indexes(self.entity):
            self.execute("{}", _index_ddl(self.entity, index))
        repeated = self.value("select current_setting('northstar.repeated')::bigint")
        rows = producer.rows - repeated
        self.execute("analyze {}", self.table)
        contradicted = self._read_contradicted(self.value("select current_setting('northstar.contradicted')"))
        return Landed(inserted=rows, unchanged=repeated, contradicted=contradicted)

    def _merge_into_table(self, producer: "_Producer") -> Landed:
        self.cursor.adbc_ingest("incoming", producer.reader(self.entity), mode="create", temporary=True)
        if not producer.rows:
            return Landed()
        cursor, key = sql.Identifier(self.entity.cursor), self.names(self.entity.key)
        typed = sql.SQL(", ").join(
            sql.SQL("{0}::json as {0}" if self._is_json(c) else "{0}").format(sql.Identifier(c)) for c in self.columns
        )
        self.execute(
            "create temp table newest on commit drop as select distinct on ({}) {} from incoming "
            "order by {}, {}",
            key, typed, key, self.order,
        )  # fmt: skip
        self.execute("analyze newest")
        contradicted = 0
        if self.value("select count(*) from newest") < producer.rows:
            contradicted = self._read_contradicted(
                self.value("select {}", self._contradicted(sql.Identifier("incoming")))
            )
        same_key = self._same_key()
        differs = sql.SQL("({}) is distinct from ({})").format(self._comparable("old"), self._comparable("new"))
        newer: sql.Composable = sql.SQL("(new.{0} >= old.{0} or old.{0} is null) and {1}").format(cursor, differs)
        if self.keep.column:
            newer = sql.SQL(
                "coalesce(new.{0} {1} old.{0}, old.{0} is null and new.{0} is not null) "
                "or (new.{0} is not distinct from old.{0} and {2} < {3})"
            ).format(
                sql.Identifier(self.keep.column), sql.SQL("<" if self.keep.is_oldest else ">"), self._content("new."), self._content("old.")
            )  # fmt: skip
        self.execute(
            "create temp table replaced on commit drop as select old.ctid as place, to_jsonb(old.*) as row, new.* "
            "from {} as old inner join newest as new on {} where {}",
            self.table, same_key, newer,
        )  # fmt: skip
        updated = self.value("select count(*) from replaced")
        if updated:
            self.execute(
                "insert into staging._replaced (entity, batch_id, row) select {}, {}, row from replaced",
                self.entity.name, self.batch_id,
            )  # fmt: skip
            assignments = sql.SQL(", ").join(
                sql.SQL("{0} = new.{0}").format(sql.Identifier(c)) for c in self.columns if c not in self.entity.key
            )
            self.execute(
                "update {} as old set {}, _batch_id = {}, _loaded_at = current_timestamp from replaced as new "
                "where old.ctid = new.place",
                self.table, assignments, self.batch_id,
            )  # fmt: skip
        inserted = self.value(
            "with added as (insert into {} ({}, _batch_id, _loaded_at) select {}, {}, current_timestamp from newest as new "
            "where not exists (select 1 from {} as old where {}) returning 1) select count(*) from added",
            self.table, self.names(self.columns), self.names(self.columns, "new."), self.batch_id, self.table, same_key,
        )  # fmt: skip
        unchanged = producer.rows - inserted - updated
        return Landed(inserted=inserted, updated=updated, unchanged=unchanged, contradicted=contradicted)

    def _same_key(self) -> sql.Composable:
        return sql.SQL(" and ").join(
            sql.SQL("old.{0} = new.{0}" if self._is_required(c) else "coalesce(old.{0}::text, '\x01') = coalesce(new.{0}::text, '\x01')")
            .format(sql.Identifier(c)) for c in self.entity.key
        )  # fmt: skip

    def _contradicted(self, table: sql.Composable) -> sql.Composable:
        """One text: how many rows of a table of new rows contradict another one (docs/decisions.md, D150), and the key of some.

        The rows that are read for it are those whose keys repeat.
        """
        key = sql.SQL(", ").join(
            sql.SQL("{} || new.{}").format(sql.Literal(f"{c} "), sql.Identifier(c)) for c in self.entity.key
        )
        return sql.SQL(
            "(select coalesce(sum(copies), 0) || {separator} || coalesce(min(named), '') from ("
            "select concat_ws(', ', {named}) as named, count(*) as copies from {table} as new "
            "inner join (select {key} from {table} group by {key} having count(*) > 1) as old on {same_key} "
            "group by {new_key}, new.{cursor} having min({content}) < max({content})) as groups)"
        ).format(
            separator=sql.Literal(SEPARATOR), named=key, table=table, key=self.names(self.entity.key), same_key=self._same_key(),
            new_key=self.names(self.entity.key, "new."), cursor=sql.Identifier(self.entity.cursor), content=self._content("new."),
        )  # fmt: skip

    def _read_contradicted(self, text: str) -> int:
        """The number in a text of `_contradicted`; its key is kept. Where a mapping says which row stays, or rows come from no file, there is no contradiction."""
        rows, _, key = text.partition(SEPARATOR)
        if not self.delivery.files or self.keep.column or not int(rows or 0):
            return 0
        self.contradicted_key = key
        return int(rows)

    def _is_json(self, name: str) -> bool:
        return name == "_extra" or self.entity.columns[name].type == "json"

    def _is_required(self, name: str) -> bool:
        return name == "application" or self.entity.columns[name].required

    def _content(self, prefix: str) -> sql.Composable:
        """A row's whole content as one text, so that two rows have an order that does not depend on which of them came first."""
        return sql.SQL('row({})::text collate "C"').format(self.names(self.columns, prefix))

    def _comparable(self, alias: str) -> sql.Composable:
        return sql.SQL(", ").join(
            sql.SQL(alias + (".{}::text" if self._is_json(c) else ".{}")).format(sql.Identifier(c))
            for c in self.columns if c not in self.entity.key
        )  # fmt: skip

    def _flag_overlaps(self) -> None:
        """Put rows of one subscription item that are valid at the same time into quarantine, all of them: they are an error of the source."""
        self.execute(
            "create temp table flags on commit drop as "
            "with items as (select distinct subscription_item_id from staging.subscriptions where _batch_id = {0} "
            "union select row ->> 'subscription_item_id' from staging._replaced where entity = 'subscriptions' "
            "and batch_id = {0}), spans as (select ctid as place, subscription_item_id, valid_from, "
            "coalesce(valid_to, 'infinity') as valid_to, _is_overlapping from staging.subscriptions "
            "where subscription_item_id in (select subscription_item_id from items)), "
            "neighbours as (select *, max(valid_to) over (partition by subscription_item_id order by valid_from "
            "rows between unbounded preceding and 1 preceding) > valid_from or lead(valid_from) over "
            "(partition by subscription_item_id order by valid_from) < valid_to as is_over from spans where valid_to > valid_from) "
            "select place, _is_overlapping as was_flagged, coalesce(is_over, false) as is_flagged from neighbours "
            "where coalesce(is_over, false) != _is_overlapping "
            "union all select place, true, false from spans where valid_to <= valid_from and _is_overlapping",
            self.batch_id,
        )
        self.execute(
            "insert into staging._replaced (entity, batch_id, row) select 'subscriptions', {}, to_jsonb(s.*) "
            "from staging.subscriptions as s inner join flags on s.ctid = flags.place",
            self.batch_id,
        )
        self.execute(
            "with changed as (update staging.subscriptions as s set _is_overlapping = flags.is_flagged, _batch_id = {0}, "
            "_loaded_at = current_timestamp from flags where s.ctid = flags.place returning s.*), "
            "resolved as (update quarantine.rows as q set resolved_at = current_timestamp, resolution = 'overlaps no more' "
            "from changed where not changed._is_overlapping and q.entity = 'subscriptions' and q.path is null "
            "and q.resolved_at is null and q.row ->> 'subscription_item_id' = changed.subscription_item_id "
            "and (q.row ->> 'valid_from')::timestamptz = changed.valid_from) "
            "insert into quarantine.rows (source, entity, reasons, row, batch_id) "
            "select {1}, 'subscriptions', array['valid_from, valid_to: overlaps another row of item ' || subscription_item_id], "
            "to_jsonb(changed.*) - '_batch_id' - '_loaded_at' - '_is_overlapping', {0} from changed where _is_overlapping",
            self.batch_id, self.source,
        )  # fmt: skip

    def _quarantine(self) -> None:
        rejects = self.delivery.rejects
        paths = sql.SQL(", ").join(
            sql.Literal(p) for p in [*(f["path"] for f in self.delivery.files), *self.delivery.names]
        )
        if rejects.count:
            self.cursor.adbc_ingest("rejected", rejects.reader(), mode="create", temporary=True)
        if self.delivery.files:
            # a row that is rejected again for the same reasons stays, with its number and who accepted it
            same_rejection = (
                "select 1 from rejected as r where r.path = q.path and r.line is not distinct from q.line and r.row::jsonb = q.row "
                "and string_to_array(r.reasons, {}) = q.reasons"
            )
            self.execute(
                "update quarantine.rows as q set resolved_at = current_timestamp, resolution = 'the file was delivered again' "
                "where source = {} and entity = {} and path in ({}) and resolved_at is null"
                + (f" and not exists ({same_rejection})" if rejects.count else ""),
                self.source, self.entity.name, paths, SEPARATOR,
            )  # fmt: skip
        if not rejects.count:
            return
        self.execute(
            "insert into quarantine.rows (source, entity, path, line, reasons, row, batch_id) "
            "select {0}, {1}, path, line, string_to_array(reasons, {2}), row::jsonb, {3} from rejected as r "
            # a connector reads some rows again and again
            "where not exists (select 1 from quarantine.rows as q where q.source = {0} and q.entity = {1} "
            "and q.path = r.path and q.row = r.row::jsonb and q.resolved_at is null)",
            self.source, self.entity.name, SEPARATOR, self.batch_id,
        )  # fmt: skip

    def _record_batch(self, landed: Landed) -> None:
        delivery = self.delivery
        landed.files, landed.read, landed.refused = (
            len(delivery.files),
            delivery.read - delivery.outside_range,
            delivery.refused,
        )
        landed.quarantined = delivery.rejects.count
        self.execute(
            "update audit.landing_batches set finished_at = clock_timestamp(), files = {}, rows_read = {}, rows_inserted = {}, "
            "rows_updated = {}, rows_unchanged = {}, rows_quarantined = {}, rows_refused = {}, rows_erased = {}, "
            "rows_contradicted = {}, contradicted_key = {} where batch_id = {}",
            landed.files, landed.read, landed.inserted, landed.updated, landed.unchanged, landed.quarantined,
            landed.refused, delivery.erased, landed.contradicted, self.contradicted_key, self.batch_id,
        )  # fmt: skip
        for file in delivery.files:
            self.execute(
                "insert into audit.landed_files (source, entity, path, fingerprint, reading, size, batch_id, rows_read, rows_quarantined) "
                "values ({}, {}, {}, {}, {}, {}, {}, {}, {}) on conflict (source, entity, path) do update set "
                "rows_before = case when landed_files.fingerprint = excluded.fingerprint then landed_files.rows_before "
                "else landed_files.rows_read end, fingerprint = excluded.fingerprint, reading = excluded.reading, size = excluded.size, batch_id = excluded.batch_id, "
                "rows_read = excluded.rows_read, rows_quarantined = excluded.rows_quarantined, landed_at = clock_timestamp()",
                self.source, self.entity.name, file["path"], file["fingerprint"], file["reading"], file["size"], self.batch_id,
                file["read"], file["quarantined"],
            )  # fmt: skip
        if delivery.state is not None:
            self.execute(
                "insert into audit.source_states (source, entity, state, reading, batch_id) values ({}, {}, {}::jsonb, {}, {}) "
                "on conflict (source, entity) do update set state = excluded.state, reading = excluded.reading, "
                "batch_id = excluded.batch_id, changed_at = clock_timestamp()",
                self.source, self.entity.name, orjson.dumps(delivery.state).decode(), delivery.reading, self.batch_id,
            )  # fmt: skip
        for column, (path, rows) in delivery.drift.items():
            self.execute(
                "insert into audit.schema_drift (source, entity, column_name, path, rows) values ({}, {}, {}, {}, {}) "
                "on conflict (source, entity, column_name) do update set last_seen_at = clock_timestamp(), "
                "path = excluded.path, rows = schema_drift.rows + excluded.rows",
                self.source, self.entity.name, column, path, rows,
            )  # fmt: skip


class _Producer:
    """Runs `produce` in a thread, a few batches ahead of the COPY, so that reading and storing use a core each."""

    def __init__(self, produce: Produce, delivery: Delivery):
        self.rows = 0
        self.error: BaseException | None = None
        self._produce, self._delivery = produce, delivery
        self._queue: queue.Queue[pa.RecordBatch | None] = queue.Queue(PREFETCHED_BATCHES)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def reader(self, entity: Entity) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(landed_schema(entity), self._batches())

    def stop(self) -> None:
        self._stopped.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        try:
            for batch in self._produce(self._delivery):
                if not self._put(batch):
                    return
        except BaseException as exc:
            self.error = exc
        self._put(None)

    def _put(self, batch: pa.RecordBatch | None) -> bool:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(batch, timeout=0.2)
                return True
        return False

    def _batches(self) -> Iterator[pa.RecordBatch]:
        while (batch := self._queue.get()) is not None:
            if batch.num_rows:
                self.rows += batch.num_rows
                yield batch
        if self.error is not None:
            raise RuntimeError("the source failed")


def _index_ddl(entity: Entity, name: str) -> sql.SQL:
    return sql.SQL(next(line for line in landed_table_ddl(entity).splitlines() if f" {name} on " in line).rstrip(";"))


def _to_northstar_error(exc: Exception, settings: Settings) -> NorthstarError:
    if exhausted := db.find_resource_error(settings, exc):
        return exhausted
    if is_connection_lost(exc):
        return WarehouseLost("the connection to Postgres was lost: nothing of this batch was landed; run again")
    return NorthstarError(f"Postgres refused the batch: {redact(' '.join(str(exc).split())[:300])}")

"""Any entity from a SQL database (Postgres, MySQL, SQLite) through SQLAlchemy.

    system: sql
    connection: app_database        # conn_type postgres, mysql or sqlite
    options:
      timezone: Europe/Berlin       # the zone of times without one (MySQL's datetime, text in SQLite); without it they are quarantined
      entities:
        charges:
          query: select id as charge_id, amount, updated_at from payments   # columns under the contract's names; or `table: payments`
          cursor: updated_at        # a column that grows whenever a row is written; without one everything is read each time
          lookback: 900             # how far back to read again: seconds, or a difference for a numeric cursor (default: 900)
          totals: {amount: sum(amount)}     # optional: figures to reconcile, as SQL over the query's columns

A row may be committed after a row with a later cursor was read; then its cursor is older than the state. Reading therefore starts
`lookback` before the state, and the next run reads such a row as long as its transaction took no longer than that. What was read
before is recognised as unchanged. The state is never later than the database's own present: a row with a cursor in the future (from a
writer whose clock is ahead) is read each time until then, and no other row is skipped because of it. Reads happen in one read-only
transaction, in the order of the cursor, through a server-side cursor.
"""

import datetime as dt
import decimal
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import sqlalchemy as sa

from northstar.base.errors import NorthstarError, SourceDown
from northstar.connections.find import Connection
from northstar.contract import Entity, entities
from northstar.extract.sources.declared import Options, Page, Source, State, Totals

ENTITIES: tuple[str, ...] = ()
DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "sqlite": "sqlite",
}
READ_ONLY = {
    "postgresql": "set transaction read only",
    "mysql": "set session transaction read only",
    "sqlite": "pragma query_only = on",
}
PRESENT = {
    "postgresql": "select current_timestamp",
    "mysql": "select utc_timestamp()",
    "sqlite": "select datetime('now')",
}
# a value of a database: a cursor's may be of any type that has an order
Value = Any
ROWS = 20_000
LOOKBACK = 900
OPTIONS = {"query", "table", "cursor", "lookback", "totals"}


def connect(source: Source, connection: Connection) -> "SqlDatabase":
    """The database behind a connection. Raises NorthstarError for a kind it does not know or options that are wrong."""
    return SqlDatabase(source, connection)


class SqlDatabase:
    """A connector of northstar.extract.sources.declared.Connector's shape."""

    def __init__(self, source: Source, connection: Connection):
        self.source = source
        self.queries: dict[str, Options] = source.options.get("entities") or {}
        for entity in source.entities or self.queries:
            self._check_options(entity)
        driver = DRIVERS.get(connection.kind)
        if driver is None:
            raise NorthstarError(
                f"the connection {connection.name} is of type {connection.kind!r}; use {', '.join(sorted(DRIVERS))}"
            )
        database = connection.schema or connection.host if driver == "sqlite" else connection.schema
        self.connection_name = connection.name
        self.zone = _zone(source)
        url = sa.URL.create(
            driver, None if driver == "sqlite" else connection.login, connection.password,
            None if driver == "sqlite" else connection.host, connection.port, database,
        )  # fmt: skip
        self.engine = sa.create_engine(url, poolclass=sa.pool.NullPool, connect_args=_arguments(driver, connection))

    def check(self) -> str:
        """Connect, and run each entity's query without fetching a row."""
        with self.reading() as connection:
            for entity in self.source.entities:
                self._columns(connection, entity)
        return f"{self.engine.dialect.name} {self.connection_name}: may read {', '.join(self.source.entities)}"

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """Pages in the order of the cursor; reading can go on after each. Without a cursor: everything, once."""
        options = self.queries[entity]
        cursor = options.get("cursor")
        with self.reading() as connection:
            columns = self._columns(connection, entity)
            if cursor is not None and cursor not in columns:
                raise NorthstarError(
                    f"{self.source.name}, {entity}: the query has no column {cursor!r} to use as cursor"
                )
            query = sa.select(sa.text("*")).select_from(sa.text(f"({self._query(entity)}) as source_rows"))
            if cursor:
                column: sa.ColumnClause[Value] = sa.column(cursor)
                if state:
                    start = _minus_lookback(_cursor_value(state), options.get("lookback", LOOKBACK))
                    # a row whose cursor is still null is read each time: nothing says when it changed
                    query = query.where((column >= start) | column.is_(None))
                query = query.order_by(column)
            newest, present = state, self._present(connection)
            for part in (
                connection.execution_options(stream_results=True, max_row_buffer=ROWS).execute(query).partitions(ROWS)
            ):
                if cursor:
                    place = columns.index(cursor)
                    cursors = [r[place] for r in part if r[place] is not None]
                    last = max([*cursors, *([_cursor_value(newest)] if newest else [])], default=None)
                    newest = _state(_not_after_present(last, present, self.zone)) or newest
                rows = _batch(entities()[entity], columns, part, self.zone)
                if cursor and cursor not in entities()[entity].columns:
                    rows = rows.drop_columns([cursor])
                yield Page(rows, newest)

    def totals(self, entity: str, state: State | None) -> Totals:
        """The number of rows, and the figures that the options name under `totals`, over the rows whose cursor is not later than the state's."""
        options = self.queries[entity]
        measures = {"rows": "count(*)", **(options.get("totals") or {})}
        with self.reading() as connection:
            query: sa.Select[*tuple[Value, ...]] = sa.select(*map(sa.literal_column, measures.values())).select_from(
                sa.text(f"({self._query(entity)}) as source_rows")
            )
            if options.get("cursor") and state:
                column: sa.ColumnClause[Value] = sa.column(options["cursor"])
                query = query.where((column <= _cursor_value(state)) | column.is_(None))
            values = connection.execute(query).one()
        return {name: (value, expression) for (name, expression), value in zip(measures.items(), values, strict=True)}

    def _check_options(self, entity: str) -> None:
        options = self.queries.get(entity)
        place = f"source {self.source.name}, options, {entity}"
        if not isinstance(options, dict) or set(options) - OPTIONS or ("query" in options) == ("table" in options):
            raise NorthstarError(f"{place}: give `query` or `table`, and optionally `cursor`, `lookback`, `totals`")
        if entity not in entities():
            raise NorthstarError(f"{place}: the contract has no such entity")

    def _query(self, entity: str) -> str:
        options = self.queries[entity]
        return options.get("query") or f"select * from {options['table']}"

    def _present(self, connection: sa.Connection) -> dt.datetime:
        server_time: dt.datetime | str = connection.execute(sa.text(PRESENT[self.engine.dialect.name])).scalar_one()
        moment = dt.datetime.fromisoformat(server_time) if isinstance(server_time, str) else server_time
        return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)

    def _columns(self, connection: sa.Connection, entity: str) -> list[str]:
        result = connection.execute(sa.text(f"select * from ({self._query(entity)}) as source_rows where 1 = 0"))
        return list(result.keys())

    def reading(self) -> "_ReadOnly":
        """A read-only transaction as a context manager. Whatever goes wrong in it is raised as NorthstarError."""
        return _ReadOnly(self.engine, self.connection_name)


class _ReadOnly:
    def __init__(self, engine: sa.Engine, connection_name: str):
        self.engine, self.connection_name = engine, connection_name

    def __enter__(self) -> sa.Connection:
        try:
            self.connection = self.engine.connect()
            self.connection.execute(sa.text(READ_ONLY[self.engine.dialect.name]))
            if self.engine.dialect.name == "mysql":
                self.connection.commit()
        except sa.exc.SQLAlchemyError as exc:
            raise SourceDown(f"cannot reach the database {self.connection_name}: {_first_line(exc)}") from exc
        return self.connection

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None) -> None:
        self.connection.close()
        if isinstance(exc, sa.exc.SQLAlchemyError):
            raise SourceDown(f"the database {self.connection_name}: {_first_line(exc)}") from exc


def _arguments(driver: str, connection: Connection) -> dict[str, object]:
    # a database that does not answer must not hold a run for ever
    if driver.startswith("postgresql"):
        return {
            "connect_timeout": 10,
            "options": "-c timezone=UTC",
            **{k: v for k, v in connection.extra.items() if k.startswith("ssl")},
        }
    return {"connect_timeout": 10} if driver.startswith("mysql") else {}


def _first_line(exc: Exception) -> str:
    text = str(getattr(exc, "orig", None) or exc)
    return " ".join(text.split())[:200]


def _zone(source: Source) -> ZoneInfo | None:
    name = source.options.get("timezone")
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise NorthstarError(f"source {source.name}: unknown timezone {name!r}") from exc


def _batch(entity: Entity, columns: list[str], rows: Sequence[sa.Row[Value]], zone: ZoneInfo | None) -> pa.RecordBatch:
    arrays = []
    for name, values in zip(columns, zip(*rows, strict=True), strict=True):
        if zone and name in entity.columns and entity.columns[name].type == "timestamp":
            values = tuple(_to_zone(v, zone) for v in values)
        try:
            array = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            # SQLite does not enforce types: a column may hold numbers and text
            array = pa.array([None if v is None else str(v) for v in values])
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=columns)


def _to_zone(value: Value, zone: ZoneInfo) -> Value:
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            return value
    if not isinstance(value, dt.datetime) or value.tzinfo is not None:
        return value
    moment = value.replace(tzinfo=zone)
    # a time that the clocks skip does not come back; without a zone it goes to quarantine
    return moment if moment.astimezone(dt.UTC).astimezone(zone).replace(tzinfo=None) == value else value.isoformat()


def _state(value: Value) -> State | None:
    if value is None:
        return None
    if isinstance(value, dt.datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, dt.date):
        return {"date": value.isoformat()}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    return {"value": value}


def _cursor_value(state: State) -> Value:
    ((kind, value),) = state.items()
    if kind == "datetime":
        return dt.datetime.fromisoformat(value)
    if kind == "date":
        return dt.date.fromisoformat(value)
    return decimal.Decimal(value) if kind == "decimal" else value


def _not_after_present(value: Value, present: dt.datetime, zone: ZoneInfo | None) -> Value:
    """A cursor's value; when it lies in the future, the present in the same form."""
    local_present = present.astimezone(zone or dt.UTC)
    if isinstance(value, dt.datetime):
        return min(value, present if value.tzinfo else local_present.replace(tzinfo=None))
    if isinstance(value, dt.date):
        return min(value, local_present.date())
    if not isinstance(value, str):
        return value
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return value
    if moment <= (present if moment.tzinfo else local_present.replace(tzinfo=None)):
        return value
    present_in_zone = present.astimezone(moment.tzinfo) if moment.tzinfo else local_present
    return present_in_zone.isoformat(sep=" " if " " in value else "T")[:19]


def _minus_lookback(value: Value, lookback: Value) -> Value:
    if isinstance(value, dt.datetime):
        return value - dt.timedelta(seconds=lookback)
    if isinstance(value, dt.date):
        return value - dt.timedelta(days=max(1, -(-lookback // 86_400)))
    if isinstance(value, int | float | decimal.Decimal):
        return value - lookback
    # times as text (SQLite): a text that sorts before every text of that moment
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return value
    return (moment - dt.timedelta(seconds=lookback)).isoformat(sep=" " if " " in value else "T")[:19]

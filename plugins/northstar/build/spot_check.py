"""What Spark built, compared with what Postgres makes of the same files, for one in a thousand accounts and hours of each run (docs/scaling.md).

    1. accounts and hours are drawn; the run's number decides which, so that they can be drawn again
    2. their rows are read from the lake's files into temporary tables, with all versions of each row
    3. the models' own SQL for Postgres runs over these, and is compared with the rows that Spark handed over
    4. the result is a check of the run, and so a line of the version's certificate; a difference stops the run

A drawn account or hour brings all sessions that have a part in it, with all of their events.
"""

from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from typing import NamedTuple

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from psycopg import sql
from psycopg.types.json import Jsonb

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.build.manifest import Node, find_manifest
from northstar.build.results import read_definitions
from northstar.contract import Entity, entities
from northstar.warehouse import db
from northstar.warehouse.lake import WIDE_ENTITIES, counting_paths, file_schema
from northstar.warehouse.lake_store import open_store
from northstar.warehouse.rows import Run

# one in so many accounts and hours is drawn, and one at least
SHARE = 1000
CHECK = ("build", "wide_models", "spark_and_postgres_agree")
EXPECTED = "What Spark built of the lake's files is what Postgres makes of the same files, for the accounts and hours that this run drew."
# SQL: of which rows of a model the drawn ones are all there, by the column of its key that says so
ACCOUNTS, SESSIONS, HOURS = "drawn_accounts", "drawn_sessions", "drawn_hours"


class Compared(NamedTuple):
    """A model's drawn rows, and how many of them are on one side alone."""

    model: str
    rows: int
    differing: int


class DrawnModel(NamedTuple):
    """A model that Spark built. relation: its table, quoted; text: its SQL; column: of its key, what is drawn; drawn: the table of what was."""

    name: str
    relation: str
    text: str
    column: str
    drawn: str


def check_drawn(
    settings: Settings, run: Run, models: Sequence[str], progress: Progress, share: int = SHARE
) -> list[Compared]:
    """Compare the drawn rows of the models that Spark built in a run, once dbt has built all. Raises NorthstarError if there is a difference."""
    with db.connect(settings, "transformer") as connection:
        definitions = read_definitions(connection, run["code_version"])
    manifest = find_manifest(settings, run["code_version"])
    nodes = (
        {} if manifest is None else {n["name"]: n for n in manifest["nodes"].values() if n["resource_type"] == "model"}
    )
    drawn_models = [_drawn_model(nodes[name], definitions[name]) for name in models]
    with closing(adbc.connect(db.uri(settings, "transformer"))) as connection, closing(connection.cursor()) as cursor:
        # nothing of this is committed
        _draw(cursor, run["run_id"], drawn_models, share)
        views = {f"stg_{name}": definitions[f"stg_{name}"] for name in WIDE_ENTITIES}
        for name in WIDE_ENTITIES:
            _read_drawn(settings, cursor, entities()[name])
            source = f'"{db.database_name(settings)}"."staging"."{name}"'
            cursor.execute(f"create temp view stg_{name} as {views[f'stg_{name}'].replace(source, f'pg_temp.{name}')}")
        results = [
            _compare(cursor, model, {name: nodes[name]["relation_name"] for name in views}) for model in drawn_models
        ]
        numbers = ", ".join(f"(select count(*) from pg_temp.{table})" for table in (ACCOUNTS, HOURS, SESSIONS))
        cursor.execute(f"select {numbers}")
        accounts, hours, sessions = cursor.fetchone()
    rows, wrong = sum(r.rows for r in results), [r for r in results if r.differing]
    observed = f"{rows} rows of {len(results)} models (accounts: {accounts}, hours: {hours}, sessions: {sessions})"
    if wrong:
        observed += f"; different: {', '.join(f'{r.differing} of {r.model}' for r in wrong)}"
    _record(settings, run["run_id"], observed, wrong)
    progress(f"    drawn and built again by Postgres: {observed}")
    if wrong:
        raise NorthstarError(
            f"Spark and Postgres make different rows of the same files ({observed}): nothing is published; "
            "set `wide_engine: postgres` in operations.yml and run again"
        )
    return results


def _drawn_model(node: Node, text: str) -> DrawnModel:
    key = node["config"]["unique_key"]
    if "session_id" in key:
        column, drawn = "session_id", SESSIONS
    elif "account_id" in key:
        column, drawn = "account_id", ACCOUNTS
    else:
        [column], drawn = [name for name in key if name.endswith("_hour")], HOURS
    return DrawnModel(node["name"], node["relation_name"], text, column, drawn)


def _draw(cursor: adbc.Cursor, run_id: int, models: list[DrawnModel], share: int) -> None:
    """Make the tables of drawn accounts and hours: of accounts that are known or active, and of hours in which anything was."""
    known = {ACCOUNTS: ["select account_id as value from staging.accounts"], HOURS: []}
    for model in models:
        if model.drawn in known:
            known[model.drawn].append(f'select "{model.column}" as value from {model.relation}')
    for table, queries in known.items():
        cursor.execute(
            f"create temp table {table} as with known as ({' union '.join(queries)}) "
            f"select value from known where value is not null order by md5(value::text || ' {run_id}'), value "
            f"limit (select ceil(count(value) / {share}.0) from known)"
        )


def _read_drawn(settings: Settings, cursor: adbc.Cursor, entity: Entity) -> None:
    """Make a temporary view of the entity's name, with the columns of its landed table, of the drawn rows in the lake."""
    store = open_store(settings)
    paths = [] if store is None else [store.full(path) for path in counting_paths(settings, entity.name)]
    files = ds.dataset(
        paths, schema=file_schema(entity), format="parquet", filesystem=None if store is None else store.system
    )
    rows = _drawn_rows(cursor, files, entity)
    cursor.adbc_ingest(f"files_{entity.name}", rows, mode="create", temporary=True)
    columns = ", ".join(f'"{c.name}"::{c.postgres_type}' for c in entity.stored_columns.values())
    key = ", ".join(f'"{name}"' for name in entity.key)
    cursor.execute(
        f"create temp view {entity.name} as select distinct on ({key}) {columns}, null::json as _extra, _batch_id, null::timestamptz as _loaded_at "
        f"from pg_temp.files_{entity.name} order by {key}, _batch_id desc"
    )


def _drawn_rows(cursor: adbc.Cursor, files: ds.Dataset, entity: Entity) -> pa.Table:
    hours = [hour.as_py() for hour in _values(cursor, HOURS)]
    at = pc.field(entity.own_time)
    chosen = pc.scalar(False)
    for hour in hours:
        chosen |= (at >= hour) & (at < hour + timedelta(hours=1))
    if "account_id" in entity.columns:
        chosen |= pc.field("account_id").isin(_values(cursor, ACCOUNTS))
    if entity.own_time in entity.key:
        # all versions of a row have its time
        return files.to_table(filter=chosen)
    [key] = entity.key
    if entity.name == "events":
        found = files.to_table(columns=[key, "session_id"], filter=chosen)
        sessions = pc.drop_null(pc.unique(found["session_id"]))
        cursor.adbc_ingest(SESSIONS, pa.table({"value": sessions}), mode="create", temporary=True)
        chosen |= pc.field("session_id").isin(sessions)
    found = files.to_table(columns=[key], filter=chosen)
    # a row that was corrected may have been of another account, hour or session before
    return files.to_table(filter=pc.field(key).isin(pc.unique(found[key])))


def _values(cursor: adbc.Cursor, table: str) -> pa.Array:
    cursor.execute(f"select value from pg_temp.{table}")
    return cursor.fetch_arrow_table()["value"].combine_chunks()


def _compare(cursor: adbc.Cursor, model: DrawnModel, views: dict[str, str]) -> Compared:
    text = model.text
    for name, relation in views.items():
        text = text.replace(relation, f"pg_temp.{name}")
    drawn = f'"{model.column}" in (select value from pg_temp.{model.drawn})'
    cursor.execute(f"create temp table own_{model.name} as select * from ({text}\n) as rows where {drawn}")
    cursor.execute(f"create temp view other_{model.name} as select * from {model.relation} where {drawn}")
    one, other = f"table pg_temp.own_{model.name}", f"table pg_temp.other_{model.name}"
    cursor.execute(
        f"select (select count(*) from pg_temp.own_{model.name}), "
        f"(select count(*) from (({one} except all {other}) union all ({other} except all {one})) as d)"
    )
    rows, differing = cursor.fetchone()
    return Compared(model.name, rows, differing)


def _record(settings: Settings, run_id: int, observed: str, wrong: list[Compared]) -> None:
    """Write the result as a check; that of an earlier attempt in the same run gives way to it."""
    with db.connect(settings, "transformer") as connection:
        connection.execute(
            sql.SQL(
                "delete from audit.checks where run_id = %s and boundary = {} and suite = {} and check_name = {}"
            ).format(*map(sql.Literal, CHECK)),
            [run_id],
        )
        connection.execute(
            "insert into audit.checks (run_id, boundary, suite, check_name, severity, success, observed, expected, failing_rows, sample, seconds) "
            "values (%s, %s, %s, %s, 'error', %s, %s, %s, %s, %s, 0)",
            [
                run_id,
                *CHECK,
                not wrong,
                observed,
                EXPECTED,
                sum(r.differing for r in wrong),
                Jsonb([r.model for r in wrong]),
            ],
        )

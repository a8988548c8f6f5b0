"""`marts_at_version`: the marts as an earlier version showed them, for every reader.

A reader sets `set northstar.version = 12` and queries this schema instead of `marts`; without the setting it shows the newest version. The views
read `marts_history` with the reader's own rights, and only versions that withheld groups at least as strictly as `suppress_below` does today:
a number that is withheld now cannot be read from an earlier version.
"""

import hashlib

from psycopg import sql

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.published import marks
from northstar.warehouse.published.kept import not_kept_error
from northstar.warehouse.published.values import NAME, PARTS, values_query
from northstar.warehouse.rows import Connection, fetch_one

SCHEMA = "marts_at_version"
SETTING = "northstar.version"
VERSION = (
    f"(select coalesce(nullif(current_setting('{SETTING}', true), '')::bigint, "
    "(select max(published_version) from marts.publications)))"
)
# {table that only grows: the column with the version that added a row}
APPEND_ONLY_TABLES = {"publications": "published_version", "certificates": "published_version", "metric_restatements": "new_version", "recorded_marks": "recorded_version"}  # fmt: skip
# SQL: the last version that showed smaller groups than the newest does
_LAST_LAXER_VERSION = (
    "(select coalesce(max(c.published_version), 0) from marts.certificates as c where coalesce((c.rules ->> 'suppress_below')::int, 0) < "
    "(select coalesce((n.rules ->> 'suppress_below')::int, 0) from marts.certificates as n order by n.published_version desc limit 1))"
)
# SQL: whether a row of the history was in a version that may be read
AS_SHOWN = f"_to_version > {_LAST_LAXER_VERSION} + 1"
READABLE_VERSIONS_QUERY = (
    "select p.published_version, p.as_of, p.published_version >= coalesce((select max(oldest_version) from marts_at_version.pruned_versions), 0) as is_kept, "
    f"p.published_version > {_LAST_LAXER_VERSION} as is_coarse_enough from marts.publications as p"
)


PRUNED_TABLE = f"{SCHEMA}.pruned_versions"


class VersionNotShown(NorthstarError):
    """A version that was never published, or is no longer kept."""


class VersionWithheld(NorthstarError):
    """A version that showed smaller groups of people than may be shown now."""


def ensure_past_views(connection: Connection, settings: Settings) -> None:
    """Create the views that are missing or whose text has changed, and let readers read the history behind them.

    Called as the publisher, in its transaction. `drop_past_view` drops a mart's view before the mart's columns change.
    """
    _ensure_pruned_table(connection)
    for table in _tables_without_policy(connection):
        _add_reader_policy(connection, settings, table)
    for table in PARTS.values():
        _index_history(connection, table)
    texts: dict[str, sql.SQL | sql.Composed] = {
        mart: sql.SQL(
            # without conditions of their own, both parts can be read by their keys in a join (D297)
            "select {columns} from (select {columns}, _version as from_version, null::bigint as to_version from marts.{mart} union all "
            "select {columns}, _from_version, _to_version from marts_history.{mart}) as rows "
            "where from_version <= {version} and (to_version is null or to_version > {version})"
        ).format(columns=sql.SQL(columns), mart=sql.Identifier(mart), version=sql.SQL(VERSION))
        for mart, columns in _mart_columns(connection).items()
    }  # fmt: skip
    for table, column in APPEND_ONLY_TABLES.items():
        if not column_names(connection, table):
            # a home that was last published by an older release
            continue
        columns = sql.SQL(", ").join(map(sql.Identifier, column_names(connection, table)))
        texts[table] = sql.SQL("select {} from marts.{} where {} <= {}").format(
            columns, sql.Identifier(table), sql.Identifier(column), sql.SQL(VERSION)
        )
    texts["readable_versions"] = sql.SQL(READABLE_VERSIONS_QUERY)
    # in a home of an older version, metric_values is a table like the others
    if NAME not in texts and set(PARTS.values()) <= set(texts):
        as_of = f"(select as_of from marts.publications where published_version = {VERSION})"
        texts[NAME] = sql.SQL(values_query(settings, SCHEMA, as_of))
    if {marks.SOURCE, marks.RECORDED.name} <= set(texts):
        texts[marks.NAME] = sql.SQL(marks.marks_query(SCHEMA))
    view_digests = _view_digests(connection)
    # the views of all values and of all marks come last, and are dropped with the views that they read
    for name, text in texts.items():
        digest = hashlib.sha256(text.as_string(connection).encode()).hexdigest()[:12]
        if view_digests.get(name) != digest:
            drop_past_view(connection, name)
            _create_view(connection, name, text, digest)
            if name in PARTS.values():
                view_digests.pop(NAME, None)
            if name in (marks.SOURCE, marks.RECORDED.name):
                view_digests.pop(marks.NAME, None)


def read_version(connection: Connection, settings: Settings, version: int, is_local: bool = True) -> None:
    """Have `marts_at_version` show a version to this session, or to its transaction alone.

    Raises VersionNotShown when the version was never published or is no longer kept, VersionWithheld when it showed smaller groups than may be shown now.
    """
    relations = fetch_one(
        connection.execute(
            "select to_regclass('marts.publications') as published, to_regclass('marts_at_version.readable_versions') as readable"
        )
    )
    if relations["published"] and not relations["readable"]:
        # the home was last published by an older release
        with db.connect(settings, "publisher") as publisher:
            ensure_past_views(publisher, settings)
    require_readable(connection, version)
    connection.execute("select set_config(%s, %s, %s)", [SETTING, str(version), is_local])


def require_readable(connection: Connection, version: int) -> None:
    """Raise VersionNotShown or VersionWithheld; see read_version."""
    readable = fetch_one(connection.execute("select to_regclass('marts_at_version.readable_versions') as t"))["t"]
    row = connection.execute(
        "select is_kept, is_coarse_enough, (select min(published_version) from marts_at_version.readable_versions where is_kept) as oldest "
        "from marts_at_version.readable_versions where published_version = %s", [version]
    ).fetchone() if readable else None  # fmt: skip
    if row is None:
        raise VersionNotShown(f"version {version} was never published; `northstar status` shows the newest")
    if not row["is_kept"]:
        raise VersionNotShown(not_kept_error(version, row["oldest"]))
    if not row["is_coarse_enough"]:
        raise VersionWithheld(
            f"version {version} showed groups of people that are smaller than suppress_below allows now: it cannot be read any more"
        )


def show_version(connection: Connection, version: int) -> None:
    """Have the bare names of marts mean the marts as they were at a version, in every later statement of this session."""
    connection.execute("select set_config(%s, %s, false)", [SETTING, str(version)])
    use_past_path(connection, is_local=False)


def use_past_path(connection: Connection, is_local: bool = True) -> None:
    """Have bare names mean the marts at the version that is set; for a limited reader, publications and certificates are still its own views."""
    connection.execute(
        "select set_config('search_path', case when split_part(current_setting('search_path'), ',', 1) = 'limited' then 'limited, ' else '' end || %s, %s)",
        [f"{SCHEMA}, marts", is_local],
    )


def drop_past_view(connection: Connection, mart: str) -> None:
    """Drop the view of a mart, and the view of all values if it reads that one, before the mart's columns change or it is dropped."""
    connection.execute(sql.SQL("drop view if exists {} cascade").format(sql.Identifier(SCHEMA, mart)))


def record_pruned(connection: Connection, oldest: int) -> None:
    """Record that versions before `oldest` can no longer be read, in the transaction that deletes their rows."""
    _ensure_pruned_table(connection)
    connection.execute(f"insert into {PRUNED_TABLE} (oldest_version) values (%s)", [oldest])


def _ensure_pruned_table(connection: Connection) -> None:
    if fetch_one(connection.execute("select to_regclass(%s) as t", [PRUNED_TABLE]))["t"] is None:
        connection.execute(f"create table {PRUNED_TABLE} (oldest_version bigint not null)")
        connection.execute(
            f"insert into {PRUNED_TABLE} select max(oldest_version) from audit.maintenance having max(oldest_version) is not null"
        )


def _tables_without_policy(connection: Connection) -> list[str]:
    """The tables of `marts_history` that readers may not read yet."""
    rows = connection.execute(
        "select relname as name from pg_class where relnamespace = 'marts_history'::regnamespace and relkind = 'r' and not relrowsecurity order by 1"
    ).fetchall()
    return [r["name"] for r in rows]


def _add_reader_policy(connection: Connection, settings: Settings, table: str) -> None:
    statements = f"""
        alter table {{table}} enable row level security;
        create policy whole on {{table}} for select to transformer using (true);
        create policy as_shown on {{table}} for select to bi_reader using ({AS_SHOWN});
        grant select on {{table}} to bi_reader
    """
    connection.execute(
        sql.SQL(db.replace_role_names(settings, statements)).format(table=sql.Identifier("marts_history", table))
    )


def _index_history(connection: Connection, table: str) -> None:
    """Let the history of a table be read by the key of the table."""
    name = f"{table}_key"
    row = connection.execute(
        "select string_agg(quote_ident(a.attname), ', ' order by k.place) as columns from pg_index as i "
        "cross join lateral unnest(i.indkey) with ordinality as k (number, place) join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.number "
        "where i.indexrelid = to_regclass(%s) and to_regclass(%s) is not null having count(*) > 0",
        [f"marts.{name}", f"marts_history.{table}"],
    ).fetchone()  # fmt: skip
    if row is not None:
        connection.execute(
            sql.SQL("create index if not exists {} on {} ({})").format(
                sql.Identifier(name), sql.Identifier("marts_history", table), sql.SQL(row["columns"])
            )
        )


def column_names(connection: Connection, table: str, schema: str = "marts") -> list[str]:
    """The columns of a relation in their order; [] if there is none."""
    rows = connection.execute(
        "select attname as name from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum",
        [f"{schema}.{table}"],
    ).fetchall()
    return [r["name"] for r in rows]


def _view_digests(connection: Connection) -> dict[str, str]:
    """{view: a digest of the text that it was made from}; the view's comment ends with it."""
    rows = connection.execute(
        "select relname as name, right(obj_description(oid, 'pg_class'), 12) as digest from pg_class "
        "where relnamespace = %s::regnamespace and relkind = 'v'", [SCHEMA],
    ).fetchall()  # fmt: skip
    return {r["name"]: r["digest"] for r in rows}


def _mart_columns(connection: Connection) -> dict[str, str]:
    """{mart: the columns that both the mart and its history have, quoted}, for the marts that have a history."""
    rows = connection.execute(
        "select h.relname as name, string_agg(quote_ident(a.attname), ', ' order by a.attnum) as columns "
        "from pg_class as h join pg_class as m on m.relname = h.relname and m.relnamespace = 'marts'::regnamespace and m.relkind = 'r' "
        "join pg_attribute as a on a.attrelid = m.oid and a.attnum > 0 and not a.attisdropped and a.attname !~ '^_' "
        "join pg_attribute as b on b.attrelid = h.oid and b.attname = a.attname and not b.attisdropped "
        "where h.relnamespace = 'marts_history'::regnamespace and h.relkind = 'r' group by 1 order by 1"
    ).fetchall()
    return {r["name"]: r["columns"] for r in rows}


def _create_view(connection: Connection, name: str, text: sql.Composable, digest: str) -> None:
    view = sql.Identifier(SCHEMA, name)
    connection.execute(sql.SQL("create view {} with (security_invoker = true) as {}").format(view, text))
    about = (
        f"marts.{name} as the version showed it that the setting {SETTING} names, else the newest; made from {digest}"
    )
    connection.execute(sql.SQL("comment on view {} is {}").format(view, sql.Literal(about)))

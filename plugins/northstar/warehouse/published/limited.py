"""What the roles of `readers.yml` see: row-level security on every published table, its history and, through both, on every view.

Each of these roles belongs to the group `limited_reader`. A table has two policies: `whole` lets every role that may read it see all rows, and
`limited`, which is restrictive, leaves members of the group those that their row of `limited.limits` allows. What a table has no column for is not
shown to them: the group may read only what has its policy, and nothing else of `marts`. A home without roles has no policies.

Totals stay hidden because they are rows of their own: the application 'all', and for who sees values of one segment everything that is not by it.
"""

import hashlib
from functools import partial

from psycopg import sql

from northstar.base.readers import ReaderRole
from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.published import past
from northstar.warehouse.published.values import PARTS, change_without_queueing
from northstar.warehouse.rows import Connection, fetch_one

SCHEMA = db.LIMITED_SCHEMA
LIMITS = f"{SCHEMA}.limits"
SCHEMAS = ("marts", "marts_history")
# tables that say nothing of any application: what there is to measure, and the calendar
OPEN_TABLES = ("metrics", "dim_dates", "dim_periods")
# tables of which the group sees columns, since the others count what everything has: {table: {hidden column: what `limited` shows instead}}
COUNTED = {
    "publications": {"rows_changed": "null::bigint", "row_counts": "'{}'::jsonb", "source_totals": "'{}'::jsonb"},
    "certificates": dict.fromkeys(
        ("inputs", "outputs", "checks", "model_tests", "coverage", "left_out"), "'{}'::jsonb"
    ),
}
# the caller's row of the limits; a policy of that table shows nobody another's
_OF_CALLER = f"(select l.{{}} from {LIMITS} as l where l.role = current_user)"
_SERIES = "(select s.series_id from marts.metric_series as s union all select s.series_id from marts_history.metric_series as s)"
# for functions that read as another role: who logged in is who asks, and a member of such a role without a row of its own sees nothing.
# has_segments: whether what is read is that of one segment's value at all
MAY_SEE = f"""
create or replace function limited.is_limited() returns boolean language sql stable security definer set search_path = pg_catalog, pg_temp as $body$
    select exists (
        select 1 from pg_roles as r, {LIMITS} as l where r.rolname = session_user and not r.rolsuper and pg_has_role(session_user, l.role, 'member')
    ) or exists (
        select 1 from pg_auth_members as m join pg_roles as r on r.oid = m.member
        where m.roleid = 'limited_reader'::regrole and r.rolname = session_user and not r.rolsuper
    )
$body$;

create or replace function limited.require_seen(application text, segment text, segment_value text, has_segments boolean) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $body$
declare
    limits record;
begin
    if not limited.is_limited() then
        return;
    end if;
    select * into limits from {LIMITS} as l where l.role = session_user;
    if not found
        or not (limits.sees_all_applications or require_seen.application = any(limits.applications)) is true
        or not (
            limits.segment is null
            or has_segments and require_seen.segment = limits.segment and require_seen.segment_value = any(limits.segment_values)
        ) is true
    then
        raise insufficient_privilege using message = 'this role may not see what this number is about';
    end if;
end
$body$;
"""


def make_limits(connection: Connection, settings: Settings) -> None:
    """Make the table of what each role sees, as `readers.yml` says it now. Called by the setup, as the administrator, after the roles."""
    publisher = db.role_name(settings, "publisher")
    connection.execute(sql.SQL("set local role {}").format(sql.Identifier(publisher)))
    statements = f"""
        create table if not exists {LIMITS} (
            role name primary key, sees_all_applications boolean not null, applications text[] not null, segment text, segment_values text[] not null
        );
        comment on table {LIMITS} is 'What each role of readers.yml sees. A role sees its own row.';
        alter table {LIMITS} enable row level security;
        drop policy if exists own on {LIMITS};
        create policy own on {LIMITS} for select to limited_reader using (role = current_user);
        grant usage on schema {SCHEMA} to limited_reader, explainer;
        grant select on {LIMITS} to limited_reader;
        grant usage on schema marts, marts_history, marts_at_version to limited_reader;
        {MAY_SEE}
        revoke execute on all functions in schema {SCHEMA} from public;
        grant execute on all functions in schema {SCHEMA} to explainer;
        delete from {LIMITS}
    """
    connection.execute(db.replace_role_names(settings, statements))
    for name, role in settings.readers.roles.items():
        connection.execute(
            f"insert into {LIMITS} values (%s, %s, %s, %s, %s)",
            [db.role_name(settings, db.reader_role(name)), *_limits_of(role)],
        )
    connection.execute("reset role")


def _limits_of(role: ReaderRole) -> tuple[bool, list[str], str | None, list[str]]:
    sees_all = role.applications == "all"
    return sees_all, [] if role.applications == "all" else role.applications, role.segment, role.values


def ensure_policies(connection: Connection, settings: Settings) -> None:
    """Give every published table its policies, and let the group read what has them. Called as the publisher; nothing where there are no roles.

    A table that readers use is locked for a moment, in a transaction of its own where none is open. Raises NorthstarError when they leave no pause for it.
    """
    if not settings.readers.roles or _is_published_by_older(connection):
        return
    segments = _segments(connection)
    known = _policy_digests(connection)
    for schema, tables in _columns(connection).items():
        for table, columns in tables.items():
            rule = rule_of(table, columns, segments)
            if rule is None and table not in COUNTED:
                continue
            digest = hashlib.sha256(repr((schema, rule)).encode()).hexdigest()[:12]
            if known.get(f"{schema}.{table}") != digest:
                change = partial(_give_policies, connection, settings, schema, table, rule, digest)
                change_without_queueing(connection, table, change)
    _open_views(connection, settings)
    connection.execute(
        sql.SQL("grant select on {} to {}").format(
            sql.SQL(past.PRUNED_TABLE), sql.Identifier(db.role_name(settings, db.LIMITED))
        )
    )


def unguarded_by_limits(connection: Connection, settings: Settings) -> list[str]:
    """The published tables and views that the group may read, and whose rows no policy limits."""
    rows = connection.execute(
        "select n.nspname || '.' || c.relname as name from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
        "join pg_roles as g on g.rolname = %(group)s where n.nspname in ('marts', 'marts_history', 'marts_at_version') and c.oid <> coalesce(to_regclass(%(pruned)s), 0) "
        "and has_table_privilege(g.oid, c.oid, 'select') and (c.relkind = 'v' and not coalesce('security_invoker=true' = any(c.reloptions), false) "
        "or c.relkind in ('r', 'p', 'm') and not (c.relrowsecurity and exists (select 1 from pg_policy as p where p.polrelid = c.oid and p.polname = 'limited'))) order by 1",
        {"group": db.role_name(settings, db.LIMITED), "pruned": past.PRUNED_TABLE},
    ).fetchall()
    return [row["name"] for row in rows]


def unknown_in_roles(connection: Connection, settings: Settings) -> list[str]:
    """What roles of readers.yml name and nothing published has, in words: most often it is mistyped, and the role sees nothing of it."""
    if not settings.readers.roles or _is_published_by_older(connection):
        return []
    rows = connection.execute("select distinct application, segment, segment_value from marts.metric_series").fetchall()
    applications = {row["application"] for row in rows}
    values: dict[str, set[str]] = {segment: set() for segment in _segments(connection)}
    for row in rows:
        values.setdefault(row["segment"], set()).add(row["segment_value"])
    found = []
    for name, role in settings.readers.roles.items():
        named = [] if role.applications == "all" else role.applications
        found += [f"the role {name} names the application {a!r}" for a in sorted(set(named) - applications)]
        if role.segment is not None and role.segment not in values:
            found.append(f"the role {name} names the segment {role.segment!r}")
        elif role.segment is not None:
            unknown = sorted(set(role.values) - values[role.segment])
            found += [f"the role {name} names the {role.segment} {value!r}" for value in unknown]
    return found


def remove_policies(connection: Connection) -> None:
    """Take the policies from all tables, as a home without roles has them. Called as the publisher; each table is locked for a moment."""
    found = connection.execute(
        "select n.nspname as schema, c.relname as name from pg_policy as p join pg_class as c on c.oid = p.polrelid "
        "join pg_namespace as n on n.oid = c.relnamespace where p.polname = 'limited' and n.nspname = any(%s) order by 1, 2",
        [list(SCHEMAS)],
    ).fetchall()
    for row in found:
        table = sql.Identifier(row["schema"], row["name"])
        # the history's own policy says which version shows a row, and stays
        own = "drop policy if exists whole on {0}; alter table {0} disable row level security" if row["schema"] == "marts" else "drop policy if exists as_shown_to_limited on {0}"  # fmt: skip
        statements = sql.SQL(f"drop policy limited on {{0}}; {own}").format(table)
        change_without_queueing(connection, row["name"], partial(_execute, connection, statements))


def _execute(connection: Connection, statements: sql.Composed) -> None:
    connection.execute(statements)


def drop_policies(connection: Connection, settings: Settings, mart: str) -> None:
    """Take the policies from a mart before its columns change. The group may read it again when `ensure_policies` has given them back."""
    group = sql.Identifier(db.role_name(settings, db.LIMITED))
    # the rows of the points are those of the series that may be seen
    tables = (mart, PARTS["points"]) if mart == PARTS["series"] else (mart,)
    for name in tables:
        for schema in SCHEMAS:
            table = sql.Identifier(schema, name)
            if fetch_one(connection.execute("select to_regclass(%s) as t", [f"{schema}.{name}"]))["t"] is not None:
                connection.execute(sql.SQL("drop policy if exists limited on {}").format(table))
                connection.execute(sql.SQL("revoke select on {} from {}").format(table, group))


def rule_of(table: str, columns: set[str], segments: set[str]) -> str | None:
    """The SQL condition by which a limited role sees a row of a table; None where the table has nothing that a role could be limited by.

    segments: the segments of the metrics. A column of that name says which value of the segment a row belongs to.
    """
    if table in OPEN_TABLES or table in COUNTED:
        return "true" if table in OPEN_TABLES else None
    if table == PARTS["points"]:
        return f"series_id in {_SERIES}"
    if "application" not in columns:
        return None
    application = f"({_OF_CALLER.format('sees_all_applications')} or application = any({_OF_CALLER.format('applications')}::text[]))"
    segment = _OF_CALLER.format("segment")
    values = f"{_OF_CALLER.format('segment_values')}::text[]"
    if {"segment", "segment_value"} <= columns:
        part = f"(segment = {segment} and segment_value = any({values}))"
    elif own := sorted(columns & segments):
        cases = " ".join(f"when {_literal(name)} then {_identifier(name)}::text" for name in own)
        part = f"(case {segment} {cases} end = any({values}))"
    else:
        part = "false"
    return f"{application} and ({segment} is null or {part})"


def _is_published_by_older(connection: Connection) -> bool:
    """Whether nothing was published yet, or by a release whose history has no policies."""
    row = connection.execute(
        "select to_regclass('marts.metric_series') is null or to_regclass('marts_at_version.readable_versions') is null or to_regclass(%s) is null as is_so",
        [LIMITS],
    ).fetchone()
    return row is None or bool(row["is_so"])


def _segments(connection: Connection) -> set[str]:
    rows = connection.execute(
        "select distinct segment from marts.metrics, unnest(string_to_array(replace(coalesce(segments, ''), ',', ';'), ';')) as segment where segment <> ''"
    ).fetchall()
    return {row["segment"].strip() for row in rows}


def _columns(connection: Connection) -> dict[str, dict[str, set[str]]]:
    """{schema: {table: its columns}}."""
    rows = connection.execute(
        "select n.nspname as schema, c.relname as name, array_agg(a.attname::text) as columns from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
        "join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped where n.nspname = any(%s) and c.relkind = 'r' group by 1, 2 order by 1, 2",
        [list(SCHEMAS)],
    ).fetchall()
    found: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        found.setdefault(row["schema"], {})[row["name"]] = set(row["columns"])
    return found


def _policy_digests(connection: Connection) -> dict[str, str]:
    """{table: the digest of the rule that its policy was made of}, which is the policy's comment; only of tables that enforce their policies."""
    rows = connection.execute(
        "select n.nspname || '.' || c.relname as name, obj_description(p.oid, 'pg_policy') as digest from pg_policy as p join pg_class as c on c.oid = p.polrelid "
        "join pg_namespace as n on n.oid = c.relnamespace where p.polname = 'limited' and c.relrowsecurity"
    ).fetchall()
    return {row["name"]: row["digest"] for row in rows}


def _give_policies(
    connection: Connection, settings: Settings, schema: str, table: str, rule: str | None, digest: str
) -> None:
    name = sql.Identifier(schema, table)
    group = sql.Identifier(db.role_name(settings, db.LIMITED))
    if schema == "marts":
        statements = (
            "alter table {table} enable row level security; drop policy if exists whole on {table}; drop policy if exists limited on {table}; "
            "create policy whole on {table} for select to public using (true); "
        )
    else:
        statements = (
            "drop policy if exists as_shown_to_limited on {table}; drop policy if exists limited on {table}; "
            f"create policy as_shown_to_limited on {{table}} for select to {{group}} using ({past.AS_SHOWN}); "
        )
    statements += (
        "create policy limited on {table} as restrictive for select to {group} using ({rule}); comment on policy limited on {table} is {digest}; "
        "revoke select on {table} from {group}; "
    )
    connection.execute(
        sql.SQL(statements).format(table=name, group=group, rule=sql.SQL(rule or "true"), digest=sql.Literal(digest))
    )
    if table not in COUNTED:
        connection.execute(sql.SQL("grant select on {} to {}").format(name, group))
        return
    columns = [c for c in past.column_names(connection, table) if c not in COUNTED[table]]
    connection.execute(
        sql.SQL("grant select ({}) on {} to {}").format(sql.SQL(", ").join(map(sql.Identifier, columns)), name, group)
    )


def _open_views(connection: Connection, settings: Settings) -> None:
    """Let the group read the views that read with the reader's own rights, and make those of the tables of which it sees some columns."""
    group = sql.Identifier(db.role_name(settings, db.LIMITED))
    closed = connection.execute(
        "select n.nspname as schema, c.relname as name from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
        "where n.nspname in ('marts', 'marts_at_version') and c.relkind = 'v' and 'security_invoker=true' = any(c.reloptions) "
        "and c.relname <> all(%s) and not has_table_privilege(%s, c.oid, 'select')",
        [list(COUNTED), db.role_name(settings, db.LIMITED)],
    ).fetchall()
    for row in closed:
        connection.execute(
            sql.SQL("grant select on {} to {}").format(sql.Identifier(row["schema"], row["name"]), group)
        )
    for table, hidden in COUNTED.items():
        columns = past.column_names(connection, table)
        if not columns or columns == past.column_names(connection, table, SCHEMA):
            continue
        shown = sql.SQL(", ").join(
            sql.SQL("{} as {}").format(sql.SQL(hidden[c]), sql.Identifier(c)) if c in hidden else sql.Identifier(c)
            for c in columns
        )
        # it reads as its owner, and shows what the group may see anyway
        view = sql.Identifier(SCHEMA, table)
        connection.execute(sql.SQL("drop view if exists {}").format(view))
        connection.execute(
            sql.SQL("create view {} as select {} from {} where {} <= {}").format(
                view, shown, sql.Identifier("marts", table), sql.Identifier("published_version"), sql.SQL(past.VERSION)
            )
        )
        connection.execute(sql.SQL("grant select on {} to {}").format(view, group))


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)


def _identifier(text: str) -> str:
    return sql.Identifier(text).as_string(None)

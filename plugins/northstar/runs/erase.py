"""Erasing a subject: `northstar erase`, and the DAG `erase_subject` for what was asked for and is not done yet.

A person's rows keep their money and their times under a fresh random name that nothing here leads back from; what else they say of the
person goes (docs/privacy.md, docs/decisions.md). In this order, each step in one transaction, so that a killed erasure goes on where it was:

    requested   the person's identifiers stand in audit.erasure_ids, each with its replacement
    staged      landed rows carry the replacements, quarantined ones are gone, tombstones stand at the landing's door
    (a run)     build, audit, publish: readers see the new names through the same gate as ever
    purged      what remembered the old names does not any more: replaced rows, marts_history, audit, logs
    done        the tables are written anew, the write-ahead log begins anew, erasure_ids is empty, and a search of every byte of the home
                has found the names nowhere
"""

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg.types.json import Jsonb

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.contract import Entity, entities
from northstar.privacy.keys import keyed_hash, subject_hash
from northstar.privacy.ring import home_key
from northstar.privacy.subjects import (
    ACCOUNT,
    ANONYMOUS,
    BELONGING,
    HASHES,
    NAMED,
    READ_PROPERTIES,
    SESSION,
    hash_columns,
    kinds,
    named_columns,
)
from northstar.runs import job
from northstar.runs.searched import files_of, needles, occurrences, places
from northstar.runs.turns import turn
from northstar.warehouse import db, lease
from northstar.warehouse.rights import act_as_owner
from northstar.warehouse.schemas import SCHEMAS
from northstar.warehouse.setup import bootstrap

EMAIL, TICKET = "email", "ticket"
PREFIX = "erased-"
TEXTS = ("text", "json", "jsonb", "text[]")
# columns of tables of marts and audit that hold no names, and are long
PLAIN = {
    "metric_id",
    "grain",
    "application",
    "segment",
    "null_reason",
    "currency",
    "unique_id",
    "resource_type",
    "sql",
    "code_version",
}
# where the sources' own state lies: it names files and cursors, and has to stay what the source knows
KEPT_TABLES = {
    "erasures",
    "erasure_ids",
    "tombstones",
    "landed_files",
    "source_states",
    "bootstrapped",
    "definitions",
    "pii_keys",
}
# how long readers are waited for: those who hold a table, and those who see what was there
PATIENCE_SECONDS = 20
FINISHES = "`northstar erase --pending`, or the DAG erase_subject by itself, finishes"


@dataclass(frozen=True)
class Erasure:
    """The certificate of an erasure: by whom, when, how many rows of which tables, as which version."""

    erasure_id: int
    state: str
    requested_by: str
    subjects: list
    rows: dict
    published_version: int | None


def erase(
    settings: Settings,
    account_id: str | None = None,
    email: str | None = None,
    by: str = "somebody",
    progress=print,
    worker=None,
    is_later: bool = False,
) -> Erasure:
    """Erase one subject, by account or by e-mail address in the clear (which is hashed here and goes no further).

    is_later: only note the request; the DAG carries it out. A subject that is erased already is told with its certificate.
    Raises NorthstarError for a subject of whom nothing is known, and for what stops a run.
    """
    if not is_later:
        db.require_administrator(settings, "an erasure")
    bootstrap(settings)
    key = home_key(settings)
    with db.connect(settings, "loader") as connection:
        erasure_id = _request(connection, key, account_id, email, by)
    if is_later:
        return certificate(settings, erasure_id)
    return carry_out(settings, erasure_id, progress, worker)


def erase_pending(settings: Settings, progress=print) -> list[Erasure]:
    """Carry out every request that is not done."""
    bootstrap(settings)
    with db.connect(settings, "loader") as connection:
        pending = connection.execute(
            "select erasure_id from audit.erasures where state != 'done' order by 1"
        ).fetchall()
    return [carry_out(settings, row["erasure_id"], progress, wait=True) for row in pending]


def certificate(settings: Settings, erasure_id: int) -> Erasure:
    """What audit.erasures says of an erasure."""
    with db.connect(settings, "loader") as connection:
        row = connection.execute("select * from audit.erasures where erasure_id = %s", [erasure_id]).fetchone()
    return Erasure(**{name: row[name] for name in Erasure.__dataclass_fields__})


def carry_out(settings: Settings, erasure_id: int, progress=print, worker=None, wait: bool = False) -> Erasure:
    """Bring an erasure to its end from wherever it stands."""
    db.require_administrator(settings, f"erasure {erasure_id}")
    key, state = home_key(settings), certificate(settings, erasure_id).state
    if state in ("requested", "staged"):
        progress(f"erasure {erasure_id}: landed rows, build, audit, publish ...")
        version = job.run_change(
            settings, f"erasure {erasure_id}", lambda run_id: _restage(settings, key, erasure_id, run_id),
            progress=progress, worker=worker, wait=wait,
        )  # fmt: skip
        progress(f"erasure {erasure_id}: history, audit, logs ...")
        with turn(settings, f"erasure {erasure_id}", wait) as number:
            _purge(settings, erasure_id, version, number)
    if state != "done":
        _clean_logs(settings, erasure_id)
        rewrite(settings, certificate(settings, erasure_id).rows, progress, FINISHES)
        _prove(settings, erasure_id, progress)
        with db.connect(settings, "loader") as connection:
            connection.execute(
                "update audit.erasures set state = 'done', finished_at = coalesce(finished_at, clock_timestamp()) where erasure_id = %s",
                [erasure_id],
            )
    return certificate(settings, erasure_id)


def _request(connection, key: str, account_id: str | None, email: str | None, by: str) -> int:
    """The number of the subject's erasure: the one that there is, or a new one with the identifiers that it is about."""
    if bool(account_id) == bool(email):
        raise NorthstarError("whom? give --account-id or --email")
    hashed = keyed_hash(email, key) if email else None
    accounts = [account_id] if account_id else _accounts_of(connection, hashed)
    subjects = [subject_hash(ACCOUNT, a, key) for a in accounts]
    known = connection.execute(
        "select erasure_id from audit.erasures where subjects && %s::text[] order by 1 desc limit 1", [subjects]
    ).fetchone()
    if known:
        return known["erasure_id"]
    ids = _identifiers(connection, accounts, hashed)
    if not ids:
        raise NorthstarError("nothing here is about this subject: it was erased already, or never landed")
    erasure_id = connection.execute(
        "insert into audit.erasures (requested_by, subjects) values (%s, %s) returning erasure_id", [by, subjects]
    ).fetchone()["erasure_id"]
    connection.cursor().executemany(
        "insert into audit.erasure_ids values (%s, %s, %s, %s)",
        [(erasure_id, kind, value, PREFIX + secrets.token_hex(12)) for kind, values in ids.items() for value in values],
    )
    return erasure_id


def _accounts_of(connection, hashed: str) -> list[str]:
    rows = connection.execute(
        "select account_id from staging.accounts where email = %(h)s union "
        "select row ->> 'account_id' from staging._replaced where entity = 'accounts' and row ->> 'email' = %(h)s order by 1",
        {"h": hashed},
    ).fetchall()
    return [r["account_id"] for r in rows]


def _identifiers(connection, accounts: list[str], hashed: str | None) -> dict[str, list[str]]:
    """{kind: values} of all that names the subject; {} when no landed, replaced or quarantined row does.

    What another account used too (a shared device, a shared address) tells of that account, and stays.
    """

    def column(query: str) -> list[str]:
        rows = connection.execute(query, values).fetchall()
        return sorted({v for row in rows for v in row.values() if v is not None})

    events = (
        "(select account_id, anonymous_id, session_id from staging.events union all select row ->> 'account_id', row ->> 'anonymous_id', "
        "row ->> 'session_id' from staging._replaced where entity = 'events') as e"
    )
    values: dict = {"accounts": accounts, "hashed": hashed, "devices": [], "sessions": [], "emails": []}
    others = f"select {{0}} from {events} where {{0}} = any(%({{1}})s) and account_id != all(%(accounts)s)"
    values["devices"] = column(f"select anonymous_id from {events} where account_id = any(%(accounts)s)")
    devices = sorted(set(values["devices"]) - set(column(others.format("anonymous_id", "devices"))))
    values["devices"] = devices
    values["sessions"] = column(
        f"select session_id from {events} where account_id = any(%(accounts)s) or anonymous_id = any(%(devices)s)"
    )
    sessions = sorted(set(values["sessions"]) - set(column(others.format("session_id", "sessions"))))
    values["emails"] = column(
        "select email from staging.accounts where account_id = any(%(accounts)s) union select row ->> 'email' from staging._replaced "
        "where entity = 'accounts' and row ->> 'account_id' = any(%(accounts)s) union select %(hashed)s::text union "
        "select requester_email from staging.tickets where account_id = any(%(accounts)s)"
    )
    shared = column(
        "select email from staging.accounts where email = any(%(emails)s) and account_id != all(%(accounts)s)"
    )
    emails = values["emails"] = sorted(set(values["emails"]) - set(shared))
    tickets = column(
        "select ticket_id from staging.tickets where account_id is null and requester_email = any(%(emails)s)"
    )
    found = {ACCOUNT: accounts, ANONYMOUS: devices, SESSION: sessions, EMAIL: emails, TICKET: tickets}
    parts = [
        f"exists (select 1 from staging.{name} where {' or '.join(f'{c} = any(%(accounts)s)' for c in columns if ACCOUNT in NAMED[c])})"
        for name, columns in kinds().items() if any(ACCOUNT in NAMED[c] for c in columns)
    ]  # fmt: skip
    parts += [
        "exists (select 1 from staging._replaced where row ->> 'account_id' = any(%(accounts)s))",
        "exists (select 1 from quarantine.rows where row ->> 'account_id' = any(%(accounts)s))",
    ]
    is_known = tickets or connection.execute(f"select {' or '.join(parts)} as found", values).fetchone()["found"]
    return {kind: names for kind, names in found.items() if names} if is_known else {}


class _Names:
    """The identifiers of an erasure as SQL needs them."""

    def __init__(self, connection, erasure_id: int):
        rows = connection.execute("select * from audit.erasure_ids where erasure_id = %s", [erasure_id]).fetchall()
        self.values = {"erasure": erasure_id}
        for kind in (ACCOUNT, ANONYMOUS, SESSION, EMAIL, TICKET):
            self.values[kind] = [r["value"] for r in rows if r["kind"] == kind]
        self.values["replacements"] = [r["replacement"] for r in rows if r["kind"] == ACCOUNT]
        # an identifier such as 42 or basic stands in a text for anything: only one that is like no other is looked for there
        told = [r for r in rows if r["kind"] in (ACCOUNT, ANONYMOUS) and _is_distinctive(r["value"])]
        self.told = [(r["value"], r["replacement"]) for r in told] + [(v, "erased") for v in self.values[EMAIL]]

    def renamed(self, column: str, expression: str) -> str:
        """SQL: the replacement of what a column that names somebody holds, else what it holds."""
        return (
            f"coalesce((select i.replacement from audit.erasure_ids as i where i.erasure_id = %(erasure)s "
            f"and i.kind in ({_quoted(NAMED[column])}) and i.value = {expression} limit 1), {expression})"
        )

    def names(self, column: str, expression: str) -> str:
        """SQL: whether a column names the subject."""
        return "(" + " or ".join(f"{expression} = any(%({kind})s)" for kind in NAMED[column]) + ")"

    def in_text(self, expression: str) -> str:
        """SQL: whether a text holds one of the names."""
        return "(" + " or ".join(f"strpos({expression}, {_literal(v)}) > 0" for v, _ in self.told) + ")"

    def without(self, expression: str) -> str:
        """SQL: the text with the names replaced, where they stand as words."""
        for value, replacement in self.told:
            pattern = rf"(^|[^A-Za-z0-9_-]){re.escape(value)}(?![A-Za-z0-9_-])"
            expression = (
                f"regexp_replace({expression}, {_literal(pattern)}, {_literal(chr(92) + '1' + replacement)}, 'g')"
            )
        return expression


def _is_distinctive(value: str) -> bool:
    return len(value) >= 16 or (len(value) >= 6 and any(map(str.isdigit, value)) and any(map(str.isalpha, value)))


def _quoted(values) -> str:
    return ", ".join(f"'{v}'" for v in values)


def _literal(text: str) -> str:
    # per cent signs are psycopg's
    return psycopg.sql.Literal(text).as_string(None).replace("%", "%%")


def _restage(settings: Settings, key: str, erasure_id: int, run_id: int) -> None:
    """Landed rows under their new names, with the traces that the build needs; tombstones; quarantine. Once."""
    with db.connect(settings, "loader") as connection:
        lease.keep(connection, run_id)
        state = connection.execute(
            "select state from audit.erasures where erasure_id = %s for update", [erasure_id]
        ).fetchone()["state"]
        if state != "requested":
            return
        names = _Names(connection, erasure_id)
        counts = {}
        for entity in entities().values():
            found = _restage_entity(connection, entity, names, run_id)
            if found:
                counts[f"staging.{entity.name}"] = found
        found = _empty_quarantine(connection, names)
        if found:
            counts["quarantine.rows"] = found
        stones = [
            (kind, subject_hash(kind, value, key), erasure_id)
            for kind in (ACCOUNT, ANONYMOUS, SESSION, TICKET) for value in names.values[kind]
        ]  # fmt: skip
        connection.cursor().executemany(
            "insert into audit.tombstones values (%s, %s, %s) on conflict do nothing", stones
        )
        connection.execute(
            "update audit.erasures set state = 'staged', rows = %s where erasure_id = %s", [Jsonb(counts), erasure_id]
        )


def _restage_entity(connection, entity: Entity, names: _Names, run_id: int) -> int:
    """The entity's rows renamed in batches of their own, one for each source, as the source's totals need them."""
    changes, condition = _changes(entity, names)
    if not condition:
        return 0
    table, values, total = f"staging.{entity.name}", dict(names.values), 0
    sources = connection.execute(
        f"select coalesce(b.source, 'erasure') as source, array_agg(distinct t._batch_id) as batches from {table} as t "
        f"left join audit.landing_batches as b on b.batch_id = t._batch_id where {condition} group by 1", values,
    ).fetchall()  # fmt: skip
    for found in sources:
        batch = connection.execute(
            "insert into audit.landing_batches (run_id, source, entity, finished_at) values (%s, %s, %s, clock_timestamp()) returning batch_id",
            [run_id, found["source"], entity.name],
        ).fetchone()["batch_id"]
        values |= {"entity": entity.name, "batch": batch, "batches": found["batches"]}
        connection.execute(
            "insert into staging._replaced (entity, batch_id, row) select %(entity)s, %(batch)s, to_jsonb(t.*) "
            f"from {table} as t where t._batch_id = any(%(batches)s) and ({condition})", values,
        )  # fmt: skip
        sets = ", ".join(f'"{column}" = {expression}' for column, expression in changes.items())
        rows = connection.execute(
            f"update {table} as t set {sets}, _batch_id = %(batch)s, _loaded_at = current_timestamp "
            f"where t._batch_id = any(%(batches)s) and ({condition})", values,
        ).rowcount  # fmt: skip
        connection.execute(
            "update audit.landing_batches set rows_read = %s, rows_updated = %s where batch_id = %s",
            [rows, rows, batch],
        )
        total += rows
    return total


def _changes(entity: Entity, names: _Names) -> tuple[dict[str, str], str]:
    """({column: its new value as SQL}, which rows `t` change) for a landed entity."""
    named, hashes = named_columns(entity), hash_columns(entity)
    is_subject = " or ".join(
        [names.names(c, f"t.{c}") for c in named] + [f"t.{c} = any(%(email)s)" for c in hashes]
        + (["t.ticket_id = any(%(ticket)s)"] if entity.name == "tickets" else [])
    ) or "false"  # fmt: skip
    belongs = " or ".join(f"t.{column} in ({_parents(parent)})" for column, parent in BELONGING.get(entity.name, ()))
    changes = {c: names.renamed(c, f"t.{c}") for c in named}
    changes |= {c: f"case when not ({is_subject}) then t.{c} end" for c in hashes}
    conditions = [is_subject] if is_subject != "false" else []
    if conditions or belongs:
        owned = " or ".join(filter(None, (is_subject, belongs)))
        changes["_extra"] = f"case when not coalesce({owned}, false) then t._extra end"
        if belongs:
            conditions.append(f"t._extra is not null and ({belongs})")
    if "properties" in entity.columns:
        kept = _quoted(READ_PROPERTIES)
        changes["properties"] = (
            f"case when coalesce({is_subject}, false) then case when json_typeof(t.properties) = 'object' then (select json_object_agg(p.key, p.value) "
            f"from json_each(t.properties) as p where p.key in ({kept})) end else t.properties end"
        )
    if names.told:
        for name, kind in _texts(entity).items():
            current = changes.get(name, f"t.{name}")
            changes[name] = names.without(f"({current})::text") + f"::{kind}"
            conditions.append(f"(t.{name} is not null and {names.in_text(f't.{name}::text')})")
    return changes, " or ".join(conditions)


def _parents(parent: str) -> str:
    """SQL: the keys of the parent's rows that are the subject's, whether they are renamed yet or not."""
    entity = entities()[parent]
    columns = [c for c in named_columns(entity) if ACCOUNT in NAMED[c]]
    conditions = [f"p.{c} = any(%(account)s) or p.{c} = any(%(replacements)s)" for c in columns]
    if parent == "tickets":
        conditions.append("p.ticket_id = any(%(ticket)s)")
    return f"select p.{entity.key[0]} from staging.{parent} as p where {' or '.join(conditions)}"


def _texts(entity: Entity) -> dict[str, str]:
    """Columns that may tell of anybody: free text and json that is no key, no name and no hash."""
    columns = {
        c.name: c.postgres_type
        for c in entity.stored_columns.values()
        if c.type in ("text", "json") and not c.values and not c.pii and c.name not in (*entity.key, *NAMED, "application", "currency")
        and not c.name.endswith("_id")
    }  # fmt: skip
    return columns | {"_extra": "json"}


def _empty_quarantine(connection, names: _Names) -> int:
    """Remove quarantined rows that name the subject anywhere; what is sealed in one that names nobody cannot be told from others."""
    exact = [*names.values[ACCOUNT], *names.values[ANONYMOUS], *names.values[SESSION], *names.values[EMAIL]]
    exact += [f"hashed:{v}" for v in names.values[EMAIL]]
    conditions = [
        "exists (select 1 from jsonb_path_query(q.row, '$.**') as v where v in (select to_jsonb(x) from unnest(%(exact)s::text[]) as x))"
    ]
    if names.told:
        conditions.append(names.in_text("q.row::text"))
        conditions.append(names.in_text("array_to_string(q.reasons, ' ')"))
    return connection.execute(
        f"delete from quarantine.rows as q where {' or '.join(conditions)}", {**names.values, "exact": exact}
    ).rowcount


def _purge(settings: Settings, erasure_id: int, version: int | None, turn: int) -> None:
    """Take the names out of everything in the warehouse that remembers, in one transaction over all schemas."""
    with db.connect(settings, "owner", database=None if settings.warehouse_url else db.DATABASE) as connection:
        lease.keep(connection, turn)
        names = _Names(connection, erasure_id)
        counts = {}
        for schema, tables in _tables(connection).items():
            act_as_owner(connection, schema)
            for table, columns in tables.items():
                rows = _rename(connection, f'{schema}."{table}"', columns, names)
                if rows:
                    counts[f"{schema}.{table}"] = rows
        act_as_owner(connection, "staging")
        counts["staging._replaced"] = sum(_forget_replaced(connection, e, names) for e in entities().values())
        counts["quarantine.rows"] = _empty_quarantine(connection, names)
        connection.execute("reset role")
        connection.execute(
            "update audit.erasures set state = 'purged', published_version = %(version)s, finished_at = clock_timestamp(), "
            "rows = rows || %(rows)s where erasure_id = %(erasure)s",
            {"version": version, "rows": Jsonb({k: v for k, v in counts.items() if v}), "erasure": erasure_id},
        )


def _prove(settings: Settings, erasure_id: int, progress) -> None:
    """Search the home for the names, forget them, and search again where they were kept for that.

    Raises NorthstarError saying where they still are; the request is then not done, and goes on from here.
    """
    with db.connect(settings, "loader") as connection:
        names = _Names(connection, erasure_id)
        accounts = [v for v in names.values[ACCOUNT] if _is_distinctive(v)]
        others = [v for kind in (EMAIL, ANONYMOUS, SESSION, TICKET) for v in names.values[kind]]
        sought = needles(connection, accounts, others)
    if not settings.warehouse_url and sought:
        progress(f"erasure {erasure_id}: every byte of the home is searched ...")
        # what the server logs of the table in which the names wait is searched below
        waiting = [*files_of(settings, "audit.erasure_ids"), settings.home / "postgres" / "pg_wal"]
        _demand_none(settings, erasure_id, places(settings, sought, waiting))
    with db.connect(settings, "loader") as connection:
        connection.execute("delete from audit.erasure_ids where erasure_id = %s", [erasure_id])
    kept = {"schema": "audit", "table": "erasure_ids"}
    _each(settings, [kept], FINISHES, lambda c, t: c.execute("vacuum full audit.erasure_ids"))
    if not settings.warehouse_url:
        _begin_log_anew(settings)
        _demand_none(settings, erasure_id, places(settings, sought) if sought else [])


def _demand_none(settings: Settings, erasure_id: int, found: list[str]) -> None:
    """Note what has to stay, which is the source's own account of its files; raise NorthstarError for any other place."""
    staying = [place for place in found if place.removeprefix("audit.") in KEPT_TABLES]
    if left := [place for place in found if place not in staying]:
        more = f" and {len(left) - 1} more places" if len(left) > 1 else ""
        raise NorthstarError(
            f"erasure {erasure_id} is not done: a name is still in {left[0]}{more}; take it out there; {FINISHES}"
        )
    if staying:
        with db.connect(settings, "loader") as connection:
            connection.execute(
                "update audit.erasures set rows = rows || %s where erasure_id = %s",
                [Jsonb({f"still in {place}": 1 for place in staying}), erasure_id],
            )


def _tables(connection) -> dict[str, dict[str, dict[str, str]]]:
    """{schema: {table: {column: type}}} of the text-like columns of all that was made or noted from landed rows."""
    rows = connection.execute(
        "select n.nspname as schema, c.relname as table, a.attname as column, format_type(a.atttypid, null) as type "
        "from pg_attribute as a join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace "
        "where n.nspname in ('core', 'marts_candidate', 'marts', 'marts_history', 'audit') and c.relkind = 'r' and a.attnum > 0 "
        "and not a.attisdropped order by 1, 2, a.attnum"
    ).fetchall()
    found: dict = {}
    for row in rows:
        if (
            row["type"] in TEXTS
            and row["column"] not in PLAIN
            and not (row["schema"] == "audit" and row["table"] in KEPT_TABLES)
        ):
            found.setdefault(row["schema"], {}).setdefault(row["table"], {})[row["column"]] = row["type"]
    return found


def _rename(connection, relation: str, columns: dict[str, str], names: _Names) -> int:
    sets, conditions = [], []
    for column, kind in columns.items():
        place = f't."{column}"'
        if column in NAMED and kind == "text":
            sets.append(f'"{column}" = {names.renamed(column, place)}')
            conditions.append(names.names(column, place))
        elif column in HASHES and kind == "text":
            sets.append(f'"{column}" = case when {place} = any(%(email)s) then null else {place} end')
            conditions.append(f"{place} = any(%(email)s)")
        elif names.told:
            sets.append(f'"{column}" = ' + names.without(f"{place}::text") + f"::{kind}")
            conditions.append(f"({place} is not null and {names.in_text(f'{place}::text')})")
    if not sets:
        return 0
    query = f"update {relation} as t set {', '.join(sets)} where {' or '.join(conditions)}"
    return connection.execute(query, names.values).rowcount


def _forget_replaced(connection, entity: Entity, names: _Names) -> int:
    """The entity's replaced rows under the new names too, or their batches would bring the old ones back."""
    named, hashes = named_columns(entity), hash_columns(entity)

    def value(column: str) -> str:
        return f"(t.row ->> '{column}')"

    is_subject = " or ".join(
        [names.names(c, value(c)) for c in named] + [f"{value(c)} = any(%(email)s)" for c in hashes]
        + (["(t.row ->> 'ticket_id') = any(%(ticket)s)"] if entity.name == "tickets" else [])
    )  # fmt: skip
    belongs = [f"{value(column)} in ({_parents(parent)})" for column, parent in BELONGING.get(entity.name, ())]
    owned = " or ".join([*([is_subject] if is_subject else []), *belongs])
    total = 0
    if owned:
        new = "t.row || jsonb_build_object('_extra', null)"
        for column in named:
            new += f" || jsonb_build_object('{column}', {names.renamed(column, value(column))})"
        for column in hashes:
            new += f" || case when {is_subject} then jsonb_build_object('{column}', null) else '{{}}' end"
        if "properties" in entity.columns:
            new += (
                f" || case when jsonb_typeof(t.row -> 'properties') = 'object' then jsonb_build_object('properties', (select "
                f"jsonb_object_agg(p.key, p.value) from jsonb_each(t.row -> 'properties') as p where p.key in ({_quoted(READ_PROPERTIES)}))) "
                "else '{}' end"
            )
        total += connection.execute(
            f"update staging._replaced as t set row = {new} where t.entity = %(entity)s and ({owned})",
            {**names.values, "entity": entity.name},
        ).rowcount
    if names.told:
        total += connection.execute(
            f"update staging._replaced as t set row = ({names.without('t.row::text')})::jsonb "
            f"where t.entity = %(entity)s and {names.in_text('t.row::text')}",
            {**names.values, "entity": entity.name},
        ).rowcount
    return total


def _clean_logs(settings: Settings, erasure_id: int) -> None:
    """Strike the names out of the home's log files, in place: services go on writing to them."""
    with db.connect(settings, "loader") as connection:
        names = [value.encode() for value, _ in _Names(connection, erasure_id).told]
    for path in settings.logs.rglob("*"):
        if not names or not path.is_file():
            continue
        for place, name in occurrences(path, names):
            with path.open("r+b") as handle:
                handle.seek(place)
                handle.write(b"x" * len(name))


def rewrite(settings: Settings, touched: dict, progress, afterwards: str) -> None:
    """Write anew the tables that held names, and begin the write-ahead log anew: what was deleted is then on no page either.

    touched: `schema.table` of those beside the ones that have columns for names. Readers of a mart wait while it is written.
    afterwards: what to do where somebody is in the way. Raises NorthstarError, naming who, and with `afterwards`, when one does not let go of
    a table, or still sees what was there.
    """
    database = None if settings.warehouse_url else db.DATABASE
    with db.connect(settings, "owner", autocommit=True, database=database) as connection:
        tables = connection.execute(
            "select n.nspname as schema, c.relname as table from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
            "where c.relkind = 'r' and n.nspname = any(%(schemas)s) and (exists (select 1 from pg_attribute as a where a.attrelid = c.oid "
            "and a.attname = any(%(columns)s)) or (n.nspname, c.relname) in (('staging', '_replaced'), ('quarantine', 'rows')) "
            "or (n.nspname = 'audit' and c.relname != all(%(kept)s)) or n.nspname || '.' || c.relname = any(%(touched)s)) order by 1, 2",
            {
                "schemas": list(SCHEMAS),
                "touched": list(touched),
                "columns": [*NAMED, *HASHES],
                "kept": [t for t in KEPT_TABLES if t != "erasures"],
            },
        ).fetchall()
        if not settings.warehouse_url:
            # an empty table keeps the sample that was taken when it was none
            connection.execute(
                "select pg_clear_attribute_stats(schemaname, tablename, attname, inherited) from pg_stats "
                "where schemaname || '.' || tablename = any(%s)", [[f"{t['schema']}.{t['table']}" for t in tables]],
            )  # fmt: skip
        _await_snapshots(connection, afterwards)
    _each(settings, tables, afterwards, lambda c, t: c.execute(f'vacuum (full, analyze) {t["schema"]}."{t["table"]}"'))
    if settings.warehouse_url:
        progress(
            "statistics and write-ahead log of an external warehouse are its administrator's: docs/privacy.md says what to do"
        )
        return
    _begin_log_anew(settings)


def _begin_log_anew(settings: Settings) -> None:
    """Have the embedded server forget its samples of columns and the write-ahead log so far."""
    with db.connect(settings, "owner", autocommit=True, database=db.DATABASE) as connection:
        # samples of the columns' values
        connection.execute("vacuum full pg_catalog.pg_statistic")
        # homes that were made before it was the default
        connection.execute("alter system set wal_recycle = off")
        connection.execute("select pg_reload_conf()")
        connection.execute("select pg_switch_wal()")
        connection.execute("checkpoint")


def _await_snapshots(connection, afterwards: str) -> None:
    """Wait until nobody sees the warehouse as it was before: what somebody still may see is written anew with the rest.

    connection: an administrator's, autocommit. Raises NorthstarError naming who does after PATIENCE_SECONDS.
    """
    horizon = connection.execute("select pg_current_xact_id()::xid::text as x").fetchone()["x"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        holder = connection.execute(
            "select * from (select coalesce('a session of ' || usename, backend_type) || ' (process ' || pid || coalesce(', ' || nullif(application_name, ''), '') "
            "|| coalesce(', since ' || to_char(xact_start at time zone 'UTC', 'HH24:MI:SS') || ' UTC', '') || ')' as who, age(backend_xmin) as age "
            "from pg_stat_activity where pid <> pg_backend_pid() and backend_xmin is not null and datname = current_database() "
            "union all select 'the prepared transaction ' || gid, age(transaction) from pg_prepared_xacts where database = current_database() "
            "union all select 'the replication slot ' || slot_name, age(xmin) from pg_replication_slots where xmin is not null) as holders "
            "where age > age(%s::xid) order by age desc limit 1", [horizon],
        ).fetchone()  # fmt: skip
        if holder is None:
            return
        if time.monotonic() > deadline:
            raise NorthstarError(
                f"{holder['who']} still sees the warehouse as it was: what can be read has changed, but not yet what lies on the disk; "
                f"end it; {afterwards}"
            )
        time.sleep(0.2)


def _each(settings: Settings, tables: list[dict], afterwards: str, do: Callable) -> None:
    for schema in dict.fromkeys(t["schema"] for t in tables):
        role = "owner" if SCHEMAS[schema] == "northstar_owner" else SCHEMAS[schema]
        database = None if settings.warehouse_url or role != "owner" else db.DATABASE
        with db.connect(settings, role, autocommit=True, database=database) as connection:
            connection.execute(f"set lock_timeout = '{PATIENCE_SECONDS}s'")
            for table in (t for t in tables if t["schema"] == schema):
                try:
                    do(connection, table)
                except psycopg.errors.LockNotAvailable as exc:
                    raise NorthstarError(
                        f"a reader holds {schema}.{table['table']}: what can be read has changed, but the table could not be written anew; "
                        f"end it; {afterwards}"
                    ) from exc

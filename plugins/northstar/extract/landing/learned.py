"""What is known of a company's values, in the warehouse: read and written in the transaction that lands a delivery.

So a delivery that fails teaches nothing, and one that is repeated is learned once. audit.column_profiles and audit.known_values have what is
usual, audit.unusual_values what was not.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from psycopg import sql
from psycopg.rows import TupleRow

from northstar.contract import Entity
from northstar.extract.landing.profile import APPLICATION, Place, Profile
from northstar.extract.landing.settled import Settled
from northstar.extract.landing.unusual import (
    GONE,
    MISSING,
    NEW,
    SIZE,
    SPELLING,
    AllLearned,
    Finding,
    Known,
    Learned,
    judge,
    learn,
)
from northstar.warehouse.rows import Connection

# the line of a row in its file
LineOf = Callable[[Place], int | None]


class Session(Protocol):
    """Statements of the transaction that lands a batch; {} in a text stands for a value."""

    def execute(self, text: str, *values: object) -> None: ...

    def rows(self, text: str, *values: object) -> list[TupleRow]: ...


def note_unusual(
    session: Session, entity: Entity, batch_id: int, profile: Profile | None, settled: Settled, line_of: LineOf
) -> None:
    """Judge what has landed, keep the findings, and learn. profile: None where rows were read again; then the findings are counted anew only."""
    if profile is not None and profile.rows:
        learned = _read(session, entity)
        findings = judge(entity, learned, profile, settled)
        _write(session, entity, learn(learned, profile, findings))
        _keep(session, entity, batch_id, findings, line_of)
        _close_others(session, entity, profile, findings)
    _count_again(session, entity, batch_id)


def close_settled(connection: Connection, settled: Settled) -> None:
    """Close the findings that people have settled."""
    findings = connection.execute("select * from audit.unusual_values where closed_at is null").fetchall()
    for f in findings:
        if settled.is_settled(f["entity"], f["column_name"], f["kind"], f["value"]):
            connection.execute(
                "update audit.unusual_values set closed_at = clock_timestamp(), closed_because = 'settled' where finding_id = %s",
                [f["finding_id"]],
            )


def _read(session: Session, entity: Entity) -> AllLearned:
    learned: AllLearned = {}
    for application, column, rows, has_names, last_new_at, all_rows, nulls, sizes in session.rows(
        "select application, column_name, rows, has_names, last_new_at, all_rows, nulls, sizes::text from audit.column_profiles where entity = {}",
        entity.name,
    ):
        own_sizes = {c: Counter({int(step): n for step, n in own.items()}) for c, own in json.loads(sizes).items()}
        learned[application, column] = Learned({} if has_names else None, rows, nulls, all_rows, last_new_at, own_sizes)
    for application, column, value, rows, deliveries, absences, is_noted in session.rows(
        "select application, column_name, value, rows, deliveries, absences, is_noted from audit.known_values where entity = {}",
        entity.name,
    ):
        values = learned[application, column].values
        if values is not None:
            values[value] = Known(rows, deliveries, absences, is_noted)
    return learned


def _write(session: Session, entity: Entity, after: AllLearned) -> None:
    profiles = [
        {
            "application": application, "column_name": column, "rows": own.rows, "has_names": own.values is not None,
            "last_new_at": own.last_new_at, "all_rows": own.all_rows, "nulls": own.nulls, "sizes": own.sizes,
        }
        for (application, column), own in after.items()
    ]  # fmt: skip
    names = "application, column_name, rows, has_names, last_new_at, all_rows, nulls, sizes"
    session.execute(
        f"insert into audit.column_profiles (entity, {names}) select {{}}, {names} from jsonb_to_recordset({{}}::jsonb) as r "
        "(application text, column_name text, rows bigint, has_names boolean, last_new_at bigint, all_rows bigint, nulls bigint, sizes jsonb) "
        "on conflict (entity, application, column_name) do update set rows = excluded.rows, has_names = excluded.has_names, "
        "last_new_at = excluded.last_new_at, all_rows = excluded.all_rows, nulls = excluded.nulls, sizes = excluded.sizes",
        entity.name, json.dumps(profiles),
    )  # fmt: skip
    given_up = [{"application": a, "column_name": c} for (a, c), own in after.items() if own.values is None]
    if given_up:
        session.execute(
            "delete from audit.known_values as k using jsonb_to_recordset({}::jsonb) as r (application text, column_name text) "
            "where k.entity = {} and k.application = r.application and k.column_name = r.column_name",
            json.dumps(given_up), entity.name,
        )  # fmt: skip
    values = [
        {
            "application": application, "column_name": column, "value": value, "rows": k.rows, "deliveries": k.deliveries,
            "absences": k.absences, "is_noted": k.is_noted,
        }
        for (application, column), own in after.items() for value, k in (own.values or {}).items()
    ]  # fmt: skip
    session.execute(
        "insert into audit.known_values (entity, application, column_name, value, rows, deliveries, absences, is_noted) "
        "select {}, application, column_name, value, rows, deliveries, absences, is_noted from jsonb_to_recordset({}::jsonb) as r "
        "(application text, column_name text, value text, rows bigint, deliveries bigint, absences bigint, is_noted boolean) "
        "on conflict (entity, application, column_name, value) do update set rows = excluded.rows, deliveries = excluded.deliveries, "
        "absences = excluded.absences, is_noted = excluded.is_noted",
        entity.name, json.dumps(values),
    )  # fmt: skip


def _keep(session: Session, entity: Entity, batch_id: int, findings: Iterable[Finding], line_of: LineOf) -> None:
    for f in findings:
        examples = [{"path": place[0], "line": line_of(place)} for place in f.examples]
        # the rows with a value are counted in the table; what a file lacks, or has too large, in the file
        rows = 0 if f.kind in (NEW, SPELLING) else f.rows
        session.execute(
            "insert into audit.unusual_values (entity, application, column_name, kind, value, usual, path, what, rows, of_rows, examples, batch_id) "
            "values ({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}::jsonb, {}) "
            "on conflict (entity, application, column_name, kind, value, path) where closed_at is null do update set "
            "what = excluded.what, of_rows = excluded.of_rows, rows = case when excluded.kind in ('new', 'spelling') then unusual_values.rows "
            "else excluded.rows end, batch_id = excluded.batch_id",
            entity.name, f.application, f.column, f.kind, f.value, f.usual, f.path, f.what, rows, f.of_rows, json.dumps(examples), batch_id,
        )  # fmt: skip


def _close_others(session: Session, entity: Entity, profile: Profile, findings: Iterable[Finding]) -> None:
    """Close what a later delivery has put right: a file that came again as it should be, a value that is back."""
    raised = {(f.application, f.column, f.kind, f.value, f.path) for f in findings}
    paths = {path for _, _, path in profile.missing} | {path for _, _, _, path in profile.amounts}
    for number, application, column, kind, value, path in session.rows(
        "select finding_id, application, column_name, kind, value, path from audit.unusual_values where entity = {} and closed_at is null",
        entity.name,
    ):
        if (application, column, kind, value, path) in raised:
            continue
        own = profile.values.get((application, column))
        is_right = kind in (MISSING, SIZE) and path in paths
        is_back = kind == GONE and own is not None and value in (own.counts or {})
        if is_right or is_back:
            why = "the file was delivered again without it" if is_right else "the value is back"
            session.execute(
                "update audit.unusual_values set closed_at = clock_timestamp(), closed_because = {} where finding_id = {}", why, number
            )  # fmt: skip


def _count_again(session: Session, entity: Entity, batch_id: int) -> None:
    """Count the landed rows of the findings about single values: by what this batch added and replaced, the first time in the whole table."""
    for number, application, column, value, rows in session.rows(
        "select finding_id, application, column_name, value, rows from audit.unusual_values "
        "where entity = {} and kind in ('new', 'spelling') and closed_at is null",
        entity.name,
    ):
        named, table = sql.Identifier(column), sql.Identifier("staging", entity.name)
        own = sql.SQL("{} = {}").format(named, sql.Literal(value))
        before = sql.SQL("row ->> {} = {}").format(sql.Literal(column), sql.Literal(value))
        if column != APPLICATION:
            own = sql.SQL("{} and application = {}").format(own, sql.Literal(application))
            before = sql.SQL("{} and row ->> 'application' = {}").format(before, sql.Literal(application))
        [(change,)] = session.rows(
            "select (select count(*) from {} where _batch_id = {} and {}) - "
            "(select count(*) from staging._replaced where entity = {} and batch_id = {} and {})",
            table, batch_id, own, entity.name, batch_id, before,
        )  # fmt: skip
        total = rows + change
        if not rows and not change:
            # the rows had landed before
            [(total,)] = session.rows("select count(*) from {} where {}", table, own)
        if total != rows or not total:
            session.execute(
                "update audit.unusual_values set rows = {}, closed_at = case when {} then clock_timestamp() end, "
                "closed_because = case when {} then 'no landed row has it any more' end where finding_id = {}",
                total, total <= 0, total <= 0, number,
            )  # fmt: skip

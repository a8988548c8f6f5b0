"""Publish the candidate by a merge, and put an earlier version back.

For each mart, the candidate's rows that differ from the published ones replace them. The replaced rows move to `marts_history` with the
versions in which they were valid: `_from_version` <= v < `_to_version`. Everything happens in one transaction, so a reader's statement sees one
version. Only rows are written, so no reader waits for a lock (columns are added and dropped in `shape`).
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypedDict

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.publish.approval import ApprovalNeeded, require_approval
from northstar.publish.carrying import carry_over, stores_every_period
from northstar.publish.catalogue import Mart, marts, views
from northstar.publish.certificates import (
    CERTIFICATES,
    Content,
    Landed,
    PreviousCertificate,
    copy_certificate,
    count_left_out,
    in_place_changes,
    input_contents,
    record_certificate,
    update_content,
)
from northstar.publish.hold import require_no_hold
from northstar.publish.marks import record_marks, record_rollback
from northstar.publish.measurement import points_of_changed_stretches
from northstar.publish.restatements import RESTATEMENTS, record_restatements
from northstar.publish.shape import columns, create_tables, drop_added, narrow, shapes, widen
from northstar.warehouse import db, turn_lock
from northstar.warehouse.published.described import DescribedTable
from northstar.warehouse.published.kept import require_kept
from northstar.warehouse.published.limited import ensure_policies
from northstar.warehouse.published.marks import RECORDED
from northstar.warehouse.published.past import ensure_past_views
from northstar.warehouse.published.values import PARTS, count_values, ensure_view
from northstar.warehouse.rows import Connection, Publication, Run, as_shape, fetch_one

PUBLISHER_LOCK = 7_041_776
# a table of so many rows needs no statistics: Postgres plans a new one as if it had a few hundred
FEW_ROWS = 1_000
ALL = sql.SQL("true")
PUBLICATIONS = DescribedTable(
    "publications", "Each published version: when it was published, from what, how much changed, what was checked.",
    {
        "published_version": ("bigint", "the version"),
        "run_id": ("bigint", "the run that published it; null for a rollback"),
        "as_of": ("timestamptz not null", "the logical time of its numbers, exclusive: later events are not included"),
        "mode": ("text not null", "nightly (everything rebuilt), hourly (changes only), or rollback"),
        "started_at": ("timestamptz not null", "when its run started"),
        "published_at": ("timestamptz not null default clock_timestamp()", "when readers could see it first"),
        "rows_changed": ("bigint not null", "number of rows added to or removed from all marts"),
        "checks_run": ("integer not null", "number of checks in the audit"),
        "checks_passed": ("integer not null", "number of checks that passed; the others were warnings"),
        "row_counts": ("jsonb not null", "rows by mart"),
        "source_totals": ("jsonb not null", "by entity: rows read, landed, replaced, in quarantine, refused"),
        "restores_version": ("bigint", "the version that a rollback put back; null otherwise"),
        "code_version": ("text", "a digest of models, macros, seeds and rules"),
    },
    ("published_version",),
)  # fmt: skip

DESCRIBED = (PUBLICATIONS, RESTATEMENTS, CERTIFICATES, RECORDED)


class CheckCounts(TypedDict):
    """How many checks of a run there were, how many passed, and how many failed as errors."""

    run: int
    passed: int
    failed: int


def publish_candidate(
    settings: Settings, run_id: int, progress: Progress = print, allowed_restatements: int | None = None
) -> int:
    """Merge the candidate marts into `marts` as a new version; returns its number.

    allowed_restatements: how many values of complete periods a full run may restate without an approval; None: any number.
    Raises ApprovalNeeded for more, and NorthstarError when an error-level check of the run failed, none ran, or another publisher is at work.
    """
    added: dict[str, list[str]] = {}
    try:
        return _publish_candidate(settings, run_id, progress, allowed_restatements, added)
    except ApprovalNeeded:
        # readers wait for somebody's answer, and not with a column that nothing fills
        drop_added(settings, added, progress)
        raise


def _publish_candidate(
    settings: Settings,
    run_id: int,
    progress: Progress,
    allowed_restatements: int | None,
    added: dict[str, list[str]],
) -> int:
    """added: receives the columns that the marts are given, by mart."""
    published = marts(settings)
    landed = _landed_part(settings, run_id)
    with db.connect(settings, "publisher") as connection:
        turn_lock.keep(connection, run_id)
        require_no_hold(connection)
        checks = _passed_checks(connection, run_id)
        # widen commits, and the turn is kept only until a transaction ends
        added |= widen(connection, settings, published, DESCRIBED)
        # in transactions of its own: the publication would keep readers of all tables waiting
        ensure_policies(connection, settings)
        connection.commit()
        turn_lock.keep(connection, run_id)
        _lock(connection)
        run = as_shape(Run, fetch_one(connection.execute("select * from audit.runs where run_id = %s", [run_id])))
        connection.execute("set local maintenance_work_mem = '1GB'")
        connection.execute("set local work_mem = '256MB'")
        for table in DESCRIBED:
            table.ensure(connection)
        newest_version = fetch_one(connection.execute("select max(published_version) as v from marts.publications"))[
            "v"
        ]
        version = (newest_version or 0) + 1
        row = connection.execute(
            "select * from marts.publications where published_version = %s", [newest_version]
        ).fetchone()
        previous_publication = None if row is None else as_shape(Publication, row)
        compare_all = run["is_full"] or (
            previous_publication is not None and previous_publication["restores_version"] is not None
        )
        previous_outputs = _previous_outputs(connection, newest_version)
        columns_by_mart = _create_missing_tables(connection, published)
        if stores_every_period(connection):
            _carry_over(connection, published)
        changed = 0
        counts: dict[str, int] = {}
        outputs: dict[str, Content] = {}
        for mart in published:
            started = time.monotonic()
            before_merge = None
            if (
                mart.name == PARTS["points"]
                and previous_publication is not None
                and run["as_of"] >= previous_publication["as_of"]
            ):
                # a run for an earlier as_of shows an earlier time; that is no restatement
                is_backfill = _is_backfill(connection, run_id)
                before_merge = partial(
                    record_restatements,
                    connection,
                    settings,
                    mart,
                    version,
                    previous_publication,
                    run["code_version"],
                    is_backfill,
                )
            names = columns_by_mart[mart.name]
            compares_all = compare_all or not mart.is_logged
            more_keys = None
            if mart.name == PARTS["points"] and not compares_all:
                more_keys = points_of_changed_stretches(connection, mart)
            rows = _merge(connection, mart, names, version, compares_all, before_merge, more_keys)
            # a home that published before this release, or an earlier model, has not got them all
            _make_lookups(connection, mart)
            if before_merge and previous_publication and run["is_full"] and allowed_restatements is not None:
                require_approval(connection, settings, run, version, previous_publication, allowed_restatements)
            previous_output = None if compare_all else previous_outputs.get(mart.name)
            # what nothing was added to or removed from is what it was
            outputs[mart.name] = (
                previous_output if previous_output and not rows else _output(connection, mart, names, previous_output)
            )
            counts[mart.name] = outputs[mart.name]["rows"]
            changed += rows
            if time.monotonic() - started > 2:
                progress(f"    {time.monotonic() - started:7.2f} s  {rows} rows of {mart.name}")
        counts["metric_values"] = count_values(connection)
        _record(connection, run, version, changed, checks, counts)
        record_certificate(connection, settings, run, version, landed, outputs)
        record_marks(connection, run, version, newest_version)
        for view in views(settings):
            ensure_view(connection, settings, view)
        ensure_past_views(connection, settings)
        ensure_policies(connection, settings)
    narrow(settings, published, progress)
    try:
        _clear_traces(settings, run_id)
    except (NorthstarError, psycopg.Error) as exc:
        # the version is published, and the next build only computes a little more
        progress(f"    the build's traces could not be cleared: {' '.join(str(exc).split())[:200]}")
    return version


def rollback(settings: Settings, to_version: int | None = None, turn: int | None = None) -> tuple[int, int]:
    """Put the marts back as they were at `to_version` (default: the version before); returns (new version, restored one).

    The restored state becomes a new version, so that no published version is lost. turn: the number of the turn in which this happens
    (northstar.runs.turns.command_turn). Raises NorthstarError for a version that was never published, or is not kept any more.
    """
    with db.connect(settings, "publisher") as connection:
        turn_lock.keep(connection, turn)
        _lock(connection)
        if fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"] is None:
            raise NorthstarError("nothing has been published yet; start a run with `northstar run`")
        versions = [
            r["published_version"]
            for r in connection.execute("select published_version from marts.publications order by 1").fetchall()
        ]
        if not versions:
            raise NorthstarError("nothing has been published yet; start a run with `northstar run`")
        if to_version is None:
            if len(versions) < 2:
                raise NorthstarError(f"version {versions[-1]} is the first one; there is none before it")
            to_version = versions[-2]
        if to_version not in versions:
            raise NorthstarError(f"version {to_version} was never published; there are {versions[0]} to {versions[-1]}")
        require_kept(connection, to_version)
        version = versions[-1] + 1
        names = [
            r["table_name"]
            for r in connection.execute(
                "select table_name from information_schema.tables where table_schema = 'marts_history' order by 1"
            ).fetchall()
        ]
        changed = sum(_restore(connection, name, to_version, version) for name in names)
        connection.execute(
            "insert into marts.publications (published_version, run_id, as_of, mode, started_at, rows_changed, checks_run, "
            "checks_passed, row_counts, source_totals, restores_version, code_version) "
            "select %s, run_id, as_of, 'rollback', clock_timestamp(), %s, checks_run, checks_passed, row_counts, "
            "source_totals, published_version, code_version from marts.publications where published_version = %s",
            [version, changed, to_version],
        )
        CERTIFICATES.ensure(connection)
        copy_certificate(connection, version, to_version)
        record_rollback(connection, version)
    return version, to_version


def _landed_part(settings: Settings, run_id: int) -> Landed:
    """The certificate's part about the landed rows: their hashes, and the rows that no number is made of."""
    with db.connect(settings, "transformer") as connection:
        run = as_shape(Run, fetch_one(connection.execute("select * from audit.runs where run_id = %s", [run_id])))
        previous_certificate = None
        if fetch_one(connection.execute("select to_regclass('marts.certificates') as t"))["t"] is not None:
            row = connection.execute(
                "select published_version, run_id, built_batch_id, inputs from marts.certificates order by published_version desc limit 1"
            ).fetchone()
            previous_certificate = None if row is None else as_shape(PreviousCertificate, row)
        if previous_certificate and in_place_changes(connection, previous_certificate["published_version"]):
            # rows were changed in place, and no batch shows it: compute the hashes from all rows
            previous_certificate = None
        return {
            "inputs": input_contents(connection, previous_certificate, run["built_batch_id"] or 0),
            "left_out": count_left_out(connection, run["as_of"]),
        }


def _is_backfill(connection: Connection, run_id: int) -> bool:
    is_backfill: bool = fetch_one(
        connection.execute("select exists (select 1 from audit.backfills where run_id = %s) as is_backfill", [run_id])
    )["is_backfill"]
    return is_backfill


def _previous_outputs(connection: Connection, version: int | None) -> dict[str, Content]:
    row = connection.execute(
        "select outputs from marts.certificates where published_version = %s", [version]
    ).fetchone()
    return row["outputs"] if row else {}


def _output(connection: Connection, mart: Mart, names: dict[str, str], previous: Content | None) -> Content:
    """The mart's rows and hash after the merge: from the content before it (`previous`) and what the merge moved, or from all rows."""
    if previous is None or fetch_one(connection.execute("select to_regclass('pg_temp.removed') as t"))["t"] is None:
        return update_content(connection, sql.Identifier("marts", mart.name), names, None)
    content = update_content(connection, sql.SQL("pg_temp.removed"), names, previous, -1)
    return update_content(connection, sql.SQL("pg_temp.added"), names, content)


def _lock(connection: Connection) -> None:
    if not fetch_one(connection.execute("select pg_try_advisory_xact_lock(%s) as ok", [PUBLISHER_LOCK]))["ok"]:
        raise NorthstarError("another publisher is working on this warehouse; run again when it is done")


def _passed_checks(connection: Connection, run_id: int) -> CheckCounts:
    checks = fetch_one(connection.execute(
        "select count(*) as run, count(*) filter (where success) as passed, "
        "count(*) filter (where not success and severity = 'error') as failed from audit.checks where run_id = %s",
        [run_id],
    ))  # fmt: skip
    if checks["failed"]:
        raise NorthstarError(f"{checks['failed']} error-level checks of run {run_id} failed; the last version stays up")
    if not checks["run"]:
        raise NorthstarError(f"run {run_id} was not audited; only an audited candidate is published")
    return as_shape(CheckCounts, checks)


def _create_missing_tables(connection: Connection, published: list[Mart]) -> dict[str, dict[str, str]]:
    """Create the tables of the marts that have none; returns {mart: {column: type}}, without columns that are about to be dropped."""
    shape_by_mart = shapes(connection, published)
    for mart in published:
        if not shape_by_mart[mart.name].table:
            create_tables(connection, mart, shape_by_mart[mart.name].model)
    return {name: shape.common or shape.model for name, shape in shape_by_mart.items()}


def _merge(
    connection: Connection,
    mart: Mart,
    columns_of_mart: dict[str, str],
    version: int,
    compare_all: bool,
    before_merge: Callable[[], object] | None = None,
    more_keys: sql.Identifier | None = None,
) -> int:
    """Replace the rows of a mart that differ; returns how many rows were removed or added.

    before_merge: called when the temp tables removed and added hold the differences, before they are merged. more_keys: a table of keys to
    compare besides those that the build logged.
    """
    names = {
        "mart": sql.Identifier(mart.name),
        "columns": sql.SQL(", ").join(map(sql.Identifier, columns_of_mart)),
        "key": sql.SQL(", ").join(map(sql.Identifier, mart.key)),
        "condition": sql.SQL(mart.condition),
        "same_key": sql.SQL(" and ").join(
            sql.SQL("m.{0} = d.{0}").format(sql.Identifier(column)) for column in mart.key
        ),
    }
    connection.execute("drop table if exists pg_temp.removed, pg_temp.added")
    if compare_all:
        candidate = sql.SQL(" union all ").join(
            sql.SQL("select {columns} from {part} where {condition}").format(part=sql.Identifier(*part), **names)
            for part in mart.parts
        )
        if mart.whole:
            candidate = sql.SQL("select {columns} from {whole}").format(whole=sql.Identifier(*mart.whole), **names)
        published = sql.SQL("select {columns} from marts.{mart}").format(**names)
    else:
        logs = {part: log for part in mart.parts if (log := _changed_keys_table(connection, part)) is not None}
        other_logs = [more_keys] if more_keys else []
        candidate = sql.SQL(" union all ").join(
            _rows_of_logged_keys(
                sql.Identifier(*part),
                ([log] if (log := logs.get(part)) else []) + other_logs,
                names,
                names["condition"],
            )
            for part in mart.parts
        )
        # the mart is read once for the keys of all its parts
        published = _rows_of_logged_keys(sql.Identifier("marts", mart.name), [*logs.values(), *other_logs], names)
    is_first = not fetch_one(
        connection.execute(sql.SQL("select exists (select 1 from marts.{mart}) as has_rows").format(**names))
    )["has_rows"]
    if is_first:
        added_count = connection.execute(
            sql.SQL(
                "insert into marts.{mart} ({columns}, _version) select {columns}, {version} from ({candidate}) as c"
            ).format(candidate=candidate, version=sql.Literal(version), **names)
        ).rowcount
        _make_indexes(connection, mart)
        return added_count
    differences = 0
    for table, rows, other_rows in (("removed", published, candidate), ("added", candidate, published)):
        row_count = connection.execute(
            sql.SQL("create temp table {table} on commit drop as ({rows}) except ({other_rows})").format(
                table=sql.Identifier(table), rows=rows, other_rows=other_rows
            )
        ).rowcount
        if row_count > FEW_ROWS:
            # without statistics the joins on the key would be planned as if the table were small
            connection.execute(sql.SQL("analyze {}").format(sql.Identifier(table)))
        differences += row_count
    if before_merge:
        before_merge()
    if not differences:
        return 0
    removed_count = connection.execute(
        sql.SQL(
            "with removed_rows as (delete from marts.{mart} as m using removed as d where {same_key} returning m.*) "
            "insert into marts_history.{mart} ({columns}, _from_version, _to_version) "
            "select {columns}, _version, {version} from removed_rows"
        ).format(version=sql.Literal(version), **names)
    ).rowcount
    added_count = connection.execute(
        sql.SQL("insert into marts.{mart} ({columns}, _version) select {columns}, {version} from added").format(
            version=sql.Literal(version), **names
        )
    ).rowcount
    return removed_count + added_count


def _make_indexes(connection: Connection, mart: Mart) -> None:
    names = {
        "mart": sql.Identifier("marts", mart.name),
        "key": sql.SQL(", ").join(map(sql.Identifier, mart.key)),
        "unique": sql.Identifier(f"{mart.name}_key"),
        "version": sql.Identifier(f"{mart.name}_version"),
    }
    connection.execute(sql.SQL("create unique index if not exists {unique} on {mart} ({key})").format(**names))
    connection.execute(sql.SQL("create index if not exists {version} on {mart} using brin (_version)").format(**names))
    _make_lookups(connection, mart)
    connection.execute(sql.SQL("analyze {mart}").format(**names))


def _make_lookups(connection: Connection, mart: Mart) -> None:
    """Make the indexes that the mart lacks, of those by which readers look its rows up."""
    for lookup in mart.lookups:
        by = sql.SQL(", ").join(map(sql.Identifier, lookup))
        name, table = f"{mart.name}_by_{lookup[0]}", sql.Identifier("marts", mart.name)
        found = connection.execute("select 1 from pg_indexes where schemaname = 'marts' and indexname = %s", [name])
        if found.fetchone() is None:
            connection.execute(sql.SQL("create index {} on {} ({})").format(sql.Identifier(name), table, by))


def _carry_over(connection: Connection, published: list[Mart]) -> None:
    parts = [mart for mart in published if mart.name in PARTS.values()]
    carry_over(connection)
    for mart in parts:
        _make_indexes(connection, mart)


def _changed_keys_table(connection: Connection, part: tuple[str, str]) -> sql.Identifier | None:
    """The table of the changed keys of `part`, which the build wrote; None if there is none."""
    schema, table = part
    log = f"_changed__{table}"
    log_table = fetch_one(connection.execute("select to_regclass(%s) as t", [f"{schema}.{log}"]))["t"]
    return None if log_table is None else sql.Identifier(schema, log)


def _rows_of_logged_keys(
    relation: sql.Identifier,
    logs: list[sql.Identifier],
    names: Mapping[str, sql.Composable],
    condition: sql.Composable = ALL,
) -> sql.Composed:
    """The rows of `relation` whose keys are in the logs."""
    if not logs:
        return sql.SQL("select {columns} from {relation} where false").format(relation=relation, **names)
    keys = sql.SQL(" union all ").join(sql.SQL("select {key} from {log}").format(log=log, **names) for log in logs)
    return sql.SQL("select {columns} from {relation} where ({key}) in ({keys}) and {only}").format(
        relation=relation, keys=keys, only=condition, **names
    )


def _restore(connection: Connection, name: str, to_version: int, version: int) -> int:
    names = sql.SQL(", ").join(map(sql.Identifier, columns(connection, "marts", name)))
    values = {
        "mart": sql.Identifier(name),
        "columns": names,
        "to": sql.Literal(to_version),
        "new": sql.Literal(version),
    }
    # the rows to restore are read from the history before the rows that they replace move there
    connection.execute("drop table if exists pg_temp.restored")
    connection.execute(
        sql.SQL(
            "create temp table restored on commit drop as select {columns} from marts_history.{mart} "
            "where _from_version <= {to} and _to_version > {to}"
        ).format(**values)
    )
    removed_count = connection.execute(
        sql.SQL(
            "with removed_rows as (delete from marts.{mart} where _version > {to} returning *) "
            "insert into marts_history.{mart} ({columns}, _from_version, _to_version) "
            "select {columns}, _version, {new} from removed_rows"
        ).format(**values)
    ).rowcount
    added_count = connection.execute(
        sql.SQL("insert into marts.{mart} ({columns}, _version) select {columns}, {new} from restored").format(**values)
    ).rowcount
    return removed_count + added_count


def _record(
    connection: Connection, run: Run, version: int, changed: int, checks: CheckCounts, counts: dict[str, int]
) -> None:
    totals = connection.execute(
        "select entity, sum(rows_read) as read, sum(rows_inserted) as inserted, sum(rows_updated) as updated, "
        "sum(rows_unchanged) as unchanged, sum(rows_quarantined) as quarantined, sum(rows_refused) as refused "
        "from audit.landing_batches where run_id = %s group by entity",
        [run["run_id"]],
    ).fetchall()
    source_totals = {r.pop("entity"): {k: int(v) for k, v in r.items()} for r in totals}
    connection.execute(
        "insert into marts.publications (published_version, run_id, as_of, mode, started_at, rows_changed, checks_run, "
        "checks_passed, row_counts, source_totals, code_version) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [version, run["run_id"], run["as_of"], run["mode"], run["started_at"], changed, checks["run"], checks["passed"],
         Jsonb(counts), Jsonb(source_totals), run["code_version"]],
    )  # fmt: skip
    connection.execute("update audit.runs set published_version = %s where run_id = %s", [version, run["run_id"]])


def _clear_traces(settings: Settings, run_id: int) -> None:
    """Empty the changed keys and the touched times of the build, which are no longer needed.

    It keeps the run's turn, because the tables may already belong to a run that has taken over.
    """
    with db.connect(settings, "transformer") as connection:
        turn_lock.keep(connection, run_id)
        logs = connection.execute(
            "select format('%I.%I', schemaname, tablename) as name from pg_tables "
            "where schemaname in ('core', 'marts_candidate') and tablename like '\\_changed\\_\\_%'"
        ).fetchall()
        tables = ["core.touched", "core.touched_periods", *[r["name"] for r in logs]]
        connection.execute(f"truncate {', '.join(tables)}")

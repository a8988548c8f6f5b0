"""`marts.certificates`: what each published version is made of, so that it can be made again to the same bytes.

The hash of an input or output is the sum of its rows' hashes (64 bits of md5 each, modulo 2^64). The sum does not depend on order, and it is
cheap to update: new rows are added, removed rows subtracted. `northstar verify` makes a version again from the landed rows and compares.
"""

import subprocess
from collections.abc import Sequence
from datetime import datetime
from typing import NotRequired, TypedDict

from psycopg import sql
from psycopg.types.json import Jsonb

from northstar.base.settings import Settings
from northstar.contract import entities
from northstar.warehouse import db
from northstar.warehouse.published.described import DescribedTable
from northstar.warehouse.published.values import NEWEST_AS_OF, values_query
from northstar.warehouse.rows import Connection, Row, Run, fetch_one

MODULUS = 2**64
# optional columns that the contract has got since rows were first certified: rows that have no value there keep their hashes
ADDED_COLUMNS = {"accounts": ("legal_entity",), "charges": ("legal_entity",)}
COLUMNS = {
    "published_version": ("bigint primary key", "the version to which the evidence belongs"),
    "run_id": ("bigint not null", "the run that made it"),
    "as_of": ("timestamptz not null", "the run's logical time, exclusive"),
    "code_version": ("text not null", "a digest of models, macros, seeds and rules"),
    "code_commit": ("text", "the git commit of the checkout, null outside one; a '+' behind it means uncommitted changes"),
    "rules": ("jsonb not null", "the business rules of the home, and in `own_seeds` the text of its own funnels.csv and targets.csv"),
    "built_batch_id": ("bigint not null", "the newest landed batch that is in it"),
    "inputs": ("jsonb not null", "for each landed entity, the number of rows and the hash of their content"),
    "outputs": ("jsonb not null", "for each mart, the number of rows and the hash of their content"),
    "checks": ("jsonb not null", "every check and identity of the audit: boundary, severity, whether it passed, what was observed"),
    "model_tests": ("bigint not null", "dbt data tests that passed in the build"),
    "coverage": ("jsonb not null", "by metric, in months (else quarters or weeks): first and last complete period, nulls by reason; `not_measured`: what is lacking, by application"),
    "left_out": ("jsonb not null", "number of landed rows from which no number is computed, by rule"),
}  # fmt: skip
INTERCOMPANY = (
    "exists (select 1 from core.run_context cross join lateral jsonb_array_elements_text(coalesce(rules -> 'intercompany_accounts', '[]')) as given "
    "where account_id = given or (right(given, 1) = '*' and starts_with(account_id, left(given, -1))))"
)
LEFT_OUT = {
    "subscription rows of companies of the group": f"subscriptions where {INTERCOMPANY}",
    "charges of companies of the group": f"charges where {INTERCOMPANY}",
    "refunds of companies of the group": f"refunds where charge_id in (select charge_id from staging.charges where {INTERCOMPANY})",
    "tickets that are spam, deleted or merged": "tickets where status in ('spam', 'deleted', 'merged')",
    "subscription rows in a status without MRR": (
        "subscriptions where status not in ('active', 'past_due') "
        "or (status = 'past_due' and (select rules ->> 'count_past_due' from core.run_context) = 'never')"
    ),
    "metered subscription rows": "subscriptions where is_metered",
    "subscription rows that overlap": "subscriptions where _is_overlapping",
    "charges that failed": "charges where status = 'failed'",
    "refunds that did not succeed": "refunds where status != 'succeeded'",
}


CERTIFICATES = DescribedTable("certificates", "The evidence for each published version.", COLUMNS)


class Content(TypedDict):
    """The content of an input or output: how many rows, and the sum of their hashes as a decimal number."""

    rows: int
    hash: str


class PreviousCertificate(TypedDict):
    """The columns of the last certificate that the next one starts from."""

    published_version: int
    run_id: int
    built_batch_id: int
    inputs: dict[str, Content]


# landed rows that no number is made of
LeftOut = TypedDict(
    "LeftOut",
    {"quarantined": dict[str, int], "accepted": list[Row], "not yet": dict[str, int], "by rule": dict[str, int]},
)


class Landed(TypedDict):
    """The part of a certificate about the landed rows."""

    inputs: dict[str, Content]
    left_out: LeftOut


class Certificate(TypedDict):
    """A row of marts.certificates: the columns that are needed to make the version again."""

    published_version: int
    as_of: datetime
    code_version: str
    code_commit: str | None
    built_batch_id: int
    inputs: dict[str, Content]
    outputs: dict[str, Content]


class Coverage(TypedDict):
    """The coverage of a metric: the days on which its first and its last complete period begin, and how many values are null, by reason.

    A metric without values has no days. not_measured: {application: what was never seen there and the metric stands on}, if there are such.
    """

    grain: str
    first: str | None
    last_complete: str | None
    nulls: dict[str, int]
    not_measured: NotRequired[dict[str, str]]


def input_contents(connection: Connection, previous: PreviousCertificate | None, batch_id: int) -> dict[str, Content]:
    """{entity: its content} as of a batch, computed from the certificate `previous` and the rows that changed since; None: from all rows."""
    contents: dict[str, Content] = {}
    for name in entities():
        relation, row = sql.Identifier("staging", name), _content_hash(name)
        since = previous["built_batch_id"] if previous else None
        previous_content = (previous["inputs"].get(name) if previous else None) or Content(rows=0, hash="0")
        arrived_rows = sql.SQL("select {row} as h from {relation} as r where _batch_id <= {batch}").format(
            row=row, relation=relation, batch=sql.Literal(batch_id)
        )
        if since is None:
            contents[name] = _add_hashes(connection, arrived_rows, previous_content, 1)
            continue
        contents[name] = _add_hashes(
            connection, arrived_rows + sql.SQL(" and _batch_id > {}").format(sql.Literal(since)), previous_content, 1
        )
        replaced_rows = sql.SQL(
            "select {row} as h from staging._replaced as o, jsonb_populate_record(null::{relation}, o.row) as r "
            "where o.entity = {name} and o.batch_id > {since} and r._batch_id <= {since}"
        ).format(row=row, relation=relation, name=sql.Literal(name), since=sql.Literal(since))
        contents[name] = _add_hashes(connection, replaced_rows, contents[name], -1)
    return contents


def landed_as_of(name: str, batch_id: int) -> sql.Composable:
    """A query for the rows of a landed entity as they were after a batch, in the table's own columns."""
    return sql.SQL(
        "select * from {relation} where _batch_id <= {batch} union all "
        "select r.* from staging._replaced as o, jsonb_populate_record(null::{relation}, o.row) as r "
        "where o.entity = {name} and o.batch_id > {batch} and r._batch_id <= {batch}"
    ).format(relation=sql.Identifier("staging", name), name=sql.Literal(name), batch=sql.Literal(batch_id))


def count_left_out(connection: Connection, as_of: datetime) -> LeftOut:
    """How many rows no number is made of: quarantined rows, rows at or after as_of, and rows that a rule leaves out."""
    quarantined = connection.execute(
        "select entity, count(*) as rows from quarantine.rows where resolved_at is null group by entity"
    ).fetchall()
    parts = " union all ".join(
        f"select '{e.name}' as entity, count(*) as rows from staging.{e.name} where {e.own_time} >= %(as_of)s"
        for e in entities().values()
    )
    later = connection.execute(f"select * from ({parts}) as p where rows > 0", {"as_of": as_of}).fetchall()
    rules = {
        rule: fetch_one(connection.execute(f"select count(*) as rows from staging.{where}"))["rows"]
        for rule, where in LEFT_OUT.items()
    }
    accepted = connection.execute(
        "select entity, accepted_by as by, accepted_because as because, min(accepted_at)::text as at, count(*) as rows from quarantine.rows "
        "where resolved_at is null and accepted_at is not null group by 1, 2, 3 order by 1, 4"
    ).fetchall()
    return {
        "quarantined": {r["entity"]: r["rows"] for r in quarantined},
        "accepted": accepted,
        "not yet": {r["entity"]: r["rows"] for r in later},
        "by rule": {rule: rows for rule, rows in rules.items() if rows},
    }


def update_content(
    connection: Connection, relation: sql.Composable, columns: dict[str, str], previous: Content | None, sign: int = 1
) -> Content:
    """The content `previous` with a relation's rows added to it (sign 1) or subtracted from it (-1)."""
    query = sql.SQL("select {row} as h from {relation} as r").format(row=_row_hash(columns), relation=relation)
    return _add_hashes(connection, query, previous or {"rows": 0, "hash": "0"}, sign)


def record_certificate(
    connection: Connection, settings: Settings, run: Run, version: int, landed: Landed, outputs: dict[str, Content]
) -> None:
    """Write the certificate of a version, in the transaction that publishes it.

    landed: {'inputs': ..., 'left_out': ...}, read before by the transformer, because the publisher may not read landed rows.
    """
    checks = connection.execute(
        "select suite || '.' || check_name as name, boundary, severity, success, observed from audit.checks where run_id = %s "
        "order by 1", [run["run_id"]],
    ).fetchall()  # fmt: skip
    tests = fetch_one(
        connection.execute(
            "select count(*) as n from audit.model_runs where run_id = %s and resource_type = 'test' and status = 'pass'",
            [run["run_id"]],
        )
    )["n"]
    values = {
        "published_version": version, "run_id": run["run_id"], "as_of": run["as_of"], "code_version": run["code_version"],
        "code_commit": code_commit(settings), "rules": Jsonb(settings.rules.model_dump(mode="json") | {"own_seeds": dict(settings.own_seeds)}), "built_batch_id": run["built_batch_id"] or 0,
        "inputs": Jsonb(landed["inputs"]), "outputs": Jsonb(outputs),
        "checks": Jsonb({c.pop("name"): c for c in checks}), "model_tests": tests, "coverage": Jsonb(_coverage(connection, settings)),
        "left_out": Jsonb(landed["left_out"]),
    }  # fmt: skip
    names = ", ".join(values)
    places = ", ".join(f"%({name})s" for name in values)
    connection.execute(f"insert into marts.certificates ({names}) values ({places})", values)


def certificate_digest(connection: Connection, version: int) -> str:
    """The SHA-256 of a version's certificate, as hexadecimal text."""
    digest: str = fetch_one(connection.execute(
        "select encode(sha256(convert_to(to_jsonb(c)::text, 'UTF8')), 'hex') as digest from marts.certificates as c where published_version = %s",
        [version],
    ))["digest"]  # fmt: skip
    return digest


def copy_certificate(connection: Connection, version: int, restored_version: int) -> None:
    """Write the certificate of a rollback's version: a copy of the certificate of the version that it restored."""
    other_columns = ", ".join(name for name in COLUMNS if name != "published_version")
    connection.execute(
        f"insert into marts.certificates (published_version, {other_columns}) select %s, {other_columns} from marts.certificates "
        "where published_version = %s",
        [version, restored_version],
    )


def code_commit(settings: Settings) -> str | None:
    """The checkout's git commit, followed by '+' if files differ from it; None outside a checkout."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(settings.root), *words], capture_output=True, text=True)

    # git would also find a checkout of something else in which an installation's virtual environment is
    if not (settings.root / ".git").exists():
        return None
    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except FileNotFoundError:
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _coverage(connection: Connection, settings: Settings) -> dict[str, Coverage]:
    rows = connection.execute(
        "select metric_id, grain, min(period_start) as first, max(period_start) filter (where is_complete) as last, "
        "count(*) filter (where value is null) as nulls, null_reason "
        f"from ({values_query(settings, 'marts', NEWEST_AS_OF)}) as v join (select metric_id, case when 'month' = any(g) then 'month' when 'quarter' = any(g) "
        "then 'quarter' when 'week' = any(g) then 'week' when 'day' = any(g) then 'day' else g[1] end as grain "
        "from (select metric_id, string_to_array(replace(grains, ' ', ''), ',') as g from marts.metrics) as m) as shapes "
        "using (metric_id, grain) group by metric_id, grain, null_reason order by metric_id"
    ).fetchall()
    coverage_by_metric: dict[str, Coverage] = {}
    for row in rows:
        coverage = coverage_by_metric.setdefault(
            row["metric_id"], {"grain": row["grain"], "first": None, "last_complete": None, "nulls": {}}
        )
        coverage["first"] = min(filter(None, (coverage["first"], f"{row['first']:%Y-%m-%d}")))
        if row["last"]:
            coverage["last_complete"] = max(filter(None, (coverage["last_complete"], f"{row['last']:%Y-%m-%d}")))
        if row["nulls"]:
            coverage["nulls"][row["null_reason"]] = row["nulls"]
    for row in connection.execute(
        "select c.metric_id, c.application, c.lacking, case when m.grains like '%month%' then 'month' when m.grains like '%quarter%' then 'quarter' "
        "when m.grains like '%week%' then 'week' when m.grains like '%day%' then 'day' else m.grains end as grain from marts.metric_coverage as c join marts.metrics as m using (metric_id) "
        "where c.lacking is not null order by 1, 2"
    ).fetchall():
        coverage = coverage_by_metric.setdefault(
            row["metric_id"], {"grain": row["grain"], "first": None, "last_complete": None, "nulls": {}}
        )
        coverage.setdefault("not_measured", {})[row["application"]] = row["lacking"]
    return coverage_by_metric


def _add_hashes(connection: Connection, query: sql.Composable, content: Content, sign: int) -> Content:
    # the text of a time is that of UTC in every certificate
    zone = connection.info.parameter_status("TimeZone") or "UTC"
    db.count_days_in(connection, "UTC")
    sums = fetch_one(
        connection.execute(
            sql.SQL("select count(*) as rows, coalesce(sum(h), 0) as total from ({}) as hashed").format(query)
        )
    )
    db.count_days_in(connection, zone)
    return {
        "rows": content["rows"] + sign * sums["rows"],
        "hash": str((int(content["hash"]) + sign * int(sums["total"])) % MODULUS),
    }


def _content_hash(name: str) -> sql.Composable:
    """The hash of a landed row's content: what the source said, not when and how it landed."""
    entity, added = entities()[name], ADDED_COLUMNS.get(name, ())
    columns = {c.name: c.postgres_type for c in entity.stored_columns.values() if c.name not in added} | {
        "_extra": "json"
    }
    if name == "subscriptions":
        columns["_is_overlapping"] = "boolean"
    return _row_hash(columns, added)


def _row_hash(columns: dict[str, str], added: Sequence[str] = ()) -> sql.Composable:
    """The hash of a row, as SQL. Equal values are made equal texts: numbers without trailing zeros, JSON with ordered keys.

    added: columns of text that count only where they have a value.
    """
    parts = []
    for name, kind in columns.items():
        form = "r.{}"
        if kind.startswith("numeric"):
            form = "trim_scale(r.{})"
        elif kind == "json":
            form = "r.{}::jsonb"
        parts.append(sql.SQL(form).format(sql.Identifier(name)))
    named = [
        sql.SQL(" || coalesce(' ' || {} || ' ' || r.{}, '')").format(sql.Literal(name), sql.Identifier(name))
        for name in added
    ]
    return sql.SQL("('x' || left(md5(row({})::text{}), 16))::bit(64)::bigint").format(
        sql.SQL(", ").join(parts), sql.SQL("").join(named)
    )


def in_place_changes(connection: Connection, version: int) -> list[str]:
    """The reasons why landed rows differ from those that a version was made of, though no batch shows it: they were changed in place."""
    # a rollback's version is made of the rows of the version that it restored
    original = fetch_one(connection.execute(
        "select min(o.published_version) as version, min(o.published_at) as at, min(o.run_id) as run from marts.publications as v "
        "join marts.publications as o using (run_id) where v.published_version = %s", [version],
    ))  # fmt: skip
    erasures = connection.execute(
        "select erasure_id, finished_at from audit.erasures where published_version > %s order by 1",
        [original["version"]],
    ).fetchall()
    # this includes a rotation that was killed before it published
    rotations = connection.execute(
        "select generation, since from audit.pii_keys where generation > 1 and since > %s order by 1", [original["at"]]
    ).fetchall()
    emptied = connection.execute(
        "select entity, sum(rows) as rows from audit.details_forgotten where run_id > %s group by entity order by entity",
        [original["run"]],
    ).fetchall()
    return [
        *(f"erasure {e['erasure_id']} of {e['finished_at']:%Y-%m-%d} renamed its subject" for e in erasures),
        *(f"key {r['generation']} of {r['since']:%Y-%m-%d} hashed identifiers anew" for r in rotations),
        *(f"retention emptied {r['rows']:,} rows of {r['entity']}" for r in emptied),
    ]

"""The differences between what is published and what a preview built: metric values, and rows and columns of the other marts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from psycopg import sql

from northstar.build.lineage import ROWS
from northstar.build.manifest import Manifest, Node
from northstar.runs.preview.scratch import SCHEMA, Scratch
from northstar.warehouse.published.values import PARTS, render_values
from northstar.warehouse.rows import Connection, Row, fetch_all_as, fetch_one

VALUES_MACRO = "macro.northstar.metric_values_of"
SERIES_KEY = ("metric_id", "grain", "application", "segment", "segment_value")
KEY = ("metric_id", "grain", "period_start", "application", "segment", "segment_value")
MEASURED = ("numerator", "denominator", "value", "null_reason", "is_complete")
# the marts that metric_values is made of: their differences are those of values
VALUE_MARTS = ("metric_points", "metric_series")
SHOWN = 5


class ChangedValue(TypedDict):
    """A metric value that differs: where it is, and the old and the new one."""

    metric_id: str
    grain: str
    period_start: datetime
    application: str
    segment: str
    segment_value: str
    old_value: Decimal | None
    new_value: Decimal | None
    is_complete: bool


class ChangedMetric(TypedDict):
    """What differs about a metric. values: how many values; parts: how many that have the same value from another numerator or denominator, or
    another reason for none; complete: how many of the values are of complete periods; appeared, vanished: values on one side only."""

    metric_id: str
    values: int
    parts: int
    complete: int
    appeared: int
    vanished: int
    grains: list[str]
    applications: list[str]
    segments: list[str]
    first_period: datetime
    last_period: datetime


@dataclass
class MartDifference:
    """What differs about a mart: its columns, how many rows, and in how many of them each column.

    rows_changed: None where the key or a column's type is another, so that rows cannot be matched.
    """

    mart: str
    columns_added: list[str] = field(default_factory=list)
    columns_removed: list[str] = field(default_factory=list)
    types_changed: dict[str, str] = field(default_factory=dict)
    rows_added: int = 0
    rows_removed: int = 0
    rows_changed: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    is_new: bool = False
    is_removed: bool = False

    @property
    def is_different(self) -> bool:
        """Whether anything differs."""
        return bool(
            self.is_new or self.is_removed or self.columns_added or self.columns_removed or self.types_changed
            or self.rows_added or self.rows_removed or self.rows_changed
        )  # fmt: skip

    @property
    def differing_columns(self) -> dict[str, int | None]:
        """{column: in how many rows it differs, None where that is not counted}; ROWS stands for rows that are added or removed, which every column has."""
        columns: dict[str, int | None] = dict(self.columns)
        columns |= dict.fromkeys([*self.columns_removed, *self.types_changed])
        if self.is_new or self.is_removed or self.rows_added or self.rows_removed:
            columns[ROWS] = self.rows_added + self.rows_removed
        return columns


def compare_values(connection: Connection, scratch: Scratch) -> list[ChangedMetric]:
    """Make the temp table changed_values (KEY, old_value, new_value, is_complete, is_value) and return what differs, by metric."""
    _new_relations(connection, scratch)
    _find_keys(connection, scratch)
    for side, manifest, relations, version in (
        ("old", scratch.old.manifest, _base_relations(scratch), scratch.base),
        ("new", scratch.new, {part: f"pg_temp.new_{part}" for part in PARTS}, scratch.version),
    ):
        as_of = _as_of(version)
        points = f"(select * from {relations['points']} where (series_id, period_start) in (table pg_temp.differing))"
        text = render_values(manifest["macros"][VALUES_MACRO]["macro_sql"], relations | {"points": points}, as_of)
        connection.execute(
            f"create temp table {side}_values as select every.* from ({text}) as every join places using ({', '.join(KEY)})"
        )
        connection.execute(f"analyze {side}_values")
    # what only became complete since an older version is no difference
    compared = [name for name in MEASURED if not (scratch.is_against_older and name == "is_complete")]
    both = ", ".join(
        f"o.{name} as old_{name}, n.{name} as new_{name}" for name in ("value", "numerator", "denominator")
    )
    connection.execute(
        f"create temp table changed_values as select {', '.join(KEY)}, {both}, coalesce(n.is_complete, o.is_complete) as is_complete, "
        "o.metric_id is null as has_appeared, n.metric_id is null as has_vanished, "
        "o.value is distinct from n.value or o.metric_id is null or n.metric_id is null as is_value "
        f"from old_values as o full join new_values as n using ({', '.join(KEY)}) "
        f"where ({', '.join(f'o.{c}' for c in compared)}) is distinct from ({', '.join(f'n.{c}' for c in compared)})"
    )
    # each metric's are looked through by themselves
    connection.execute("create index on changed_values (metric_id)")
    connection.execute("analyze changed_values")
    return fetch_all_as(
        ChangedMetric,
        connection.execute(
            "select metric_id, count(*) filter (where is_value) as values, count(*) filter (where not is_value) as parts, "
            "count(*) filter (where is_value and is_complete) as complete, count(*) filter (where has_appeared) as appeared, "
            "count(*) filter (where has_vanished) as vanished, array_agg(distinct grain order by grain) as grains, "
            "array_agg(distinct application order by application) as applications, "
            "array_agg(distinct segment order by segment) as segments, min(period_start) as first_period, max(period_start) as last_period "
            "from changed_values group by 1 order by 2 desc, 1"
        ),
    )


def largest_and_newest(connection: Connection, metric_id: str) -> tuple[list[ChangedValue], list[ChangedValue]]:
    """The values of a metric that differ most, and the newest that differ; of these those of the company and the longest periods first."""
    found = []
    for order in (
        "abs(coalesce(new_value, 0) - coalesce(old_value, 0)) desc, is_complete desc, period_start desc",
        "is_complete desc, period_start desc, abs(coalesce(new_value, 0) - coalesce(old_value, 0)) desc",
    ):
        query = (
            f"select {', '.join(KEY)}, old_value, new_value, is_complete from changed_values where metric_id = %s "
            f"order by is_value desc, {order}, array_position(array['month', 'quarter', 'year', 'week', 'day', 'hour'], grain), application, segment, "
            f"segment_value limit {SHOWN}"
        )
        found.append(fetch_all_as(ChangedValue, connection.execute(query, [metric_id])))
    return found[0], found[1]


def _new_relations(connection: Connection, scratch: Scratch) -> None:
    """Views of what metric_values would be made of: what was built, and otherwise what is published."""
    for part, name in PARTS.items():
        if part != "points":
            connection.execute(f"create temp view new_{part} as select * from {scratch.schema_of(name)}.{name}")
    built = [node for node in _value_parts(scratch.new) if node["name"] in scratch.built]
    if "metric_points" in scratch.built:
        # where small groups are withheld, only the union knows which points are
        connection.execute(
            f"create temp view new_points as select series_id, metric_id, period_start, numerator, denominator, value, null_reason from {SCHEMA}.metric_points"
        )
        return
    queries = [
        f"select series_id, metric_id, period_start, numerator, denominator, value, null_reason from {SCHEMA}.{node['alias']} where is_point"
        for node in built
    ]
    queries.append(
        "select p.series_id, s.metric_id, p.period_start, p.numerator, p.denominator, p.value, p.null_reason from marts.metric_points as p "
        "join (select distinct series_id, metric_id from marts.metric_series) as s using (series_id)"
        + (" where s.metric_id <> all (select distinct metric_id from (" + " union all ".join(
            f"select metric_id from {SCHEMA}.{node['alias']}" for node in built) + ") as built)" if built else "")
    )  # fmt: skip
    connection.execute(f"create temp view new_points as {' union all '.join(queries)}")


def _find_keys(connection: Connection, scratch: Scratch) -> None:
    """Make the temp tables differing (series_id, period_start), of points that differ and all periods of series or metrics that do, and places,
    the same by KEY."""
    connection.execute("create temp table differing (series_id bigint, period_start timestamptz)")
    metrics, base = _remade_metrics(connection, scratch), scratch.base_schema
    compared = "series_id, period_start, numerator, denominator, value, null_reason"
    if metrics:
        connection.execute(
            f"create temp table remade_series as select distinct series_id from (select series_id, metric_id from {base}.metric_series "
            "union all select series_id, metric_id from new_series) as s where metric_id = any(%s)",
            [metrics],
        )
        connection.execute(
            f"create temp table remade_points as select {compared} from new_points where metric_id = any(%s)", [metrics]
        )
        connection.execute("analyze remade_series; analyze remade_points")
        connection.execute(
            f"create temp table published_points as select {compared} from {base}.metric_points "
            "where series_id in (select series_id from remade_series)"
        )
        connection.execute(
            "insert into differing select distinct series_id, period_start from ((table published_points except table remade_points) "
            "union all (table remade_points except table published_points)) as d"
        )
    changed_series = []
    if "metric_series" in scratch.built or scratch.is_against_older:
        names = "series_id, metric_id, grain, application, segment, segment_value, state, holds_from, holds_until"
        changed_series.append(
            f"select series_id from ((select {names} from {base}.metric_series except select {names} from new_series) "
            f"union all (select {names} from new_series except select {names} from {base}.metric_series)) as d"
        )
    shape = "metric_id, kind, unit, window_days"
    if "metrics" in scratch.built or scratch.is_against_older:
        changed_series.append(
            f"select series_id from (select series_id, metric_id from {base}.metric_series union all select series_id, metric_id from new_series) as s "
            f"where metric_id in (select metric_id from ((select {shape} from {base}.metrics except select {shape} from new_metrics) "
            f"union all (select {shape} from new_metrics except select {shape} from {base}.metrics)) as d)"
        )
    texts = [m["macros"][VALUES_MACRO]["macro_sql"] for m in (scratch.old.manifest, scratch.new)]
    if texts[0] != texts[1]:
        changed_series.append(
            f"select series_id from new_series where metric_id in ({_metrics_told_differently(scratch, texts)})"
        )
    every_series = (
        f"(select series_id, grain, metric_id, holds_from from {base}.metric_series "
        "union select series_id, grain, metric_id, holds_from from new_series)"
    )
    every_period = (
        f"(select grain, period_start from {base}.dim_periods union select grain, period_start from new_periods)"
    )
    period = "grain, period_start"
    in_scope = "s.metric_id = any(%s)" if scratch.is_against_older else "true"
    chosen = [metrics] if scratch.is_against_older else []
    if changed_series:
        connection.execute(
            f"insert into differing select distinct s.series_id, p.period_start from {every_series} as s join {every_period} as p "
            f"on p.grain = s.grain and p.period_start >= s.holds_from where s.series_id in ({' union all '.join(changed_series)}) and {in_scope}",
            chosen,
        )
    if scratch.is_against_older:
        connection.execute(
            f"insert into differing select distinct s.series_id, p.period_start from {every_series} as s "
            f"join ((select {period} from new_periods except select {period} from {base}.dim_periods) union all "
            f"(select {period} from {base}.dim_periods except select {period} from new_periods)) as p on p.grain = s.grain and p.period_start >= s.holds_from where {in_scope}",
            chosen,
        )
    connection.execute("create index on differing (series_id, period_start)")
    names = ", ".join(SERIES_KEY)
    connection.execute(
        f"create temp table places as select distinct {', '.join(KEY)} from differing join (select series_id, {names} from {base}.metric_series "
        f"union select series_id, {names} from new_series) as s using (series_id)"
    )
    connection.execute("analyze differing; analyze places")


def _metrics_told_differently(scratch: Scratch, texts: list[str]) -> str:
    """SQL for the metrics of which the two texts of metric_values make different values from what is published: sums of the rows' hashes differ."""
    relations = _base_relations(scratch)
    sums = [
        f"select metric_id, sum(hashtextextended(row(every.*)::text, 0)::numeric) as hash "
        f"from ({render_values(text, relations, _as_of(scratch.base))}) as every group by metric_id"
        for text in texts
    ]
    return f"select metric_id from ({sums[0]}) as o full join ({sums[1]}) as n using (metric_id) where o.hash is distinct from n.hash"


def _base_relations(scratch: Scratch) -> dict[str, str]:
    """What metric_values was made of in the version that is compared with."""
    return {part: f"{scratch.base_schema}.{name}" for part, name in PARTS.items()}


def _as_of(version: Row) -> str:
    return f"timestamptz '{version['as_of'].isoformat()}'"


def _remade_metrics(connection: Connection, scratch: Scratch) -> list[str]:
    """The metrics whose points were built anew, or whose model is gone; beside an older version all that are selected."""
    if scratch.is_against_older:
        return _all_metrics(connection, scratch)
    queries = [
        f"select metric_id from {SCHEMA}.{node['alias']}"
        for node in _value_parts(scratch.new)
        if node["name"] in scratch.built
    ]
    old_parts = _value_parts(scratch.old.manifest)
    queries += [
        f"select metric_id from {node['schema']}.{node['alias']}"
        for node in old_parts
        if node["name"] in scratch.built or node["name"] in scratch.removed
    ]
    if not queries:
        return []
    rows = connection.execute(
        f"select distinct metric_id from ({' union all '.join(queries)}) as m order by 1"
    ).fetchall()
    return [row["metric_id"] for row in rows]


def _all_metrics(connection: Connection, scratch: Scratch) -> list[str]:
    """The metrics that either side has; of these, the ones that selected models make."""
    rows = connection.execute(
        f"select distinct metric_id from (select metric_id from {scratch.base_schema}.metric_series union all select metric_id from new_series) as s order by 1"
    ).fetchall()
    parts = [node for node in _value_parts(scratch.new) if scratch.selected is None or node["name"] in scratch.selected]
    return [
        row["metric_id"]
        for row in rows
        if scratch.selected is None or any(f"'{row['metric_id']}':" in part["raw_code"] for part in parts)
    ]


def _value_parts(manifest: Manifest) -> list[Node]:
    return [
        node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and (node["config"].get("meta") or {}).get("mart") == "metric_points"
    ]


def compare_marts(connection: Connection, scratch: Scratch) -> list[MartDifference]:
    """What differs about each built mart, except those that metric_values is made of; marts that are gone included. Beside an older version all
    selected marts are compared, except those that `unknown_in_history` names."""
    if scratch.is_against_older:
        nodes = [n for n in scratch.new["nodes"].values() if scratch.selected is None or n["name"] in scratch.selected]
    else:
        nodes = list(scratch.built.values())
    unknown = {*VALUE_MARTS, *unknown_in_history(connection, scratch)}
    differences = [
        _compare_mart(connection, scratch, node)
        for node in sorted(nodes, key=lambda n: str(n["name"]))
        if is_mart(scratch.new, node["name"]) and node["alias"] not in unknown
    ]
    old_manifest = scratch.old.manifest if scratch.base_manifest is None else scratch.base_manifest
    names = {node["name"] for node in scratch.new["nodes"].values()}
    differences += [
        MartDifference(node["alias"], is_removed=True)
        for node in old_manifest["nodes"].values()
        if node["name"] not in names and is_mart(old_manifest, node["name"]) and scratch.selected is None
    ]
    return [difference for difference in differences if difference.is_different]


def unknown_in_history(connection: Connection, scratch: Scratch) -> list[str]:
    """The marts, and the columns of others (mart.column), that an older version had and of which its rows are not known any more."""
    if not scratch.is_against_older or scratch.base_manifest is None:
        return []
    unknown = []
    for node in scratch.base_manifest["nodes"].values():
        if is_mart(scratch.base_manifest, node["name"]) and (
            scratch.selected is None or node["name"] in scratch.selected
        ):
            kept = _columns(connection, scratch.base_schema, node["alias"])
            unknown += (
                [f"{node['alias']}.{c}" for c in _published_columns(node) if c not in kept] if kept else [node["alias"]]
            )
    return sorted(unknown)


def _published_columns(node: Node) -> list[str]:
    return (node["config"].get("meta") or {}).get("columns") or list(node["columns"])


def is_mart(manifest: Manifest, name: str) -> bool:
    """Whether a model is a published table."""
    node = next((n for n in manifest["nodes"].values() if n["name"] == name and n["resource_type"] == "model"), None)
    meta = (node["config"].get("meta") or {}) if node else {}
    # in a preview's manifest everything has the preview's schema: the configured one tells marts from core
    is_published = node is not None and node["config"].get("schema") == "marts_candidate"
    return is_published and not meta.get("is_view")


def _compare_mart(connection: Connection, scratch: Scratch, node: Node) -> MartDifference:
    name, old_schema, new_schema = node["alias"], scratch.base_schema, scratch.schema_of(node["name"])
    difference = MartDifference(name)
    old_columns, new_columns = _columns(connection, old_schema, name), _columns(connection, new_schema, name)
    if scratch.is_against_older and scratch.base_manifest is not None:
        # history has a column that is younger than the version as well, without its values
        before = scratch.base_manifest["nodes"].get(node["unique_id"])
        old_columns = {c: kind for c, kind in old_columns.items() if before and c in _published_columns(before)}
    if not old_columns:
        difference.is_new = True
        difference.rows_added = fetch_one(connection.execute(f'select count(*) as n from {new_schema}."{name}"'))["n"]
        return difference
    published = (node["config"].get("meta") or {}).get("columns")
    if published:
        new_columns = {c: kind for c, kind in new_columns.items() if c in published}
    difference.columns_added = [c for c in new_columns if c not in old_columns]
    difference.columns_removed = [c for c in old_columns if c not in new_columns]
    difference.types_changed = {
        c: f"{old_columns[c]} -> {kind}"
        for c, kind in new_columns.items()
        if c in old_columns and old_columns[c] != kind
    }
    common = [c for c in old_columns if c in new_columns and c not in difference.types_changed]
    key = node["config"].get("unique_key") or (node["config"].get("meta") or {}).get("key") or []
    key = [key] if isinstance(key, str) else list(key)
    names = {
        "columns": sql.SQL(", ").join(map(sql.Identifier, common)),
        "old": sql.Identifier(old_schema, name), "new": sql.Identifier(new_schema, name),
        "key": sql.SQL(", ").join(map(sql.Identifier, key)),
    }  # fmt: skip
    connection.execute("drop table if exists pg_temp.old_rows, pg_temp.new_rows")
    for table, one, other in (("old_rows", "old", "new"), ("new_rows", "new", "old")):
        connection.execute(
            sql.SQL(
                "create temp table {table} as select {columns} from {one} except select {columns} from {other}"
            ).format(table=sql.Identifier(table), columns=names["columns"], one=names[one], other=names[other])
        )
    if not key or not set(key) <= set(common):
        difference.rows_removed = fetch_one(connection.execute("select count(*) as n from old_rows"))["n"]
        difference.rows_added = fetch_one(connection.execute("select count(*) as n from new_rows"))["n"]
        return difference
    counts = [
        sql.SQL("count(*) filter (where {matched} and o.{c} is distinct from n.{c}) as {c}").format(
            c=sql.Identifier(c), matched=sql.SQL("o.here and n.here")
        )
        for c in common
    ]
    row: Row = fetch_one(connection.execute(
        sql.SQL(
            "select jsonb_build_object('added', count(*) filter (where o.here is null), 'removed', count(*) filter (where n.here is null), "
            "'changed', count(*) filter (where o.here and n.here)) as _rows, {counts} "
            "from (select *, true as here from old_rows) as o full join (select *, true as here from new_rows) as n using ({key})"
        ).format(counts=sql.SQL(", ").join(c for c, n in zip(counts, common, strict=True) if n not in key) if len(common) > len(key) else sql.SQL("1 as _one"), key=names["key"])
    ))  # fmt: skip
    rows: Mapping[str, int] = row.pop("_rows")
    difference.rows_added, difference.rows_removed, difference.rows_changed = (
        rows["added"],
        rows["removed"],
        rows["changed"],
    )
    difference.columns = {c: n for c, n in row.items() if n and c != "_one"}
    return difference


def _columns(connection: Connection, schema: str, name: str) -> dict[str, str]:
    rows = connection.execute(
        "select attname, format_type(atttypid, atttypmod) as type from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 "
        "and not attisdropped and attname !~ '^_' order by attnum",
        [f'{schema}."{name}"'],
    ).fetchall()
    return {row["attname"]: row["type"] for row in rows}


def compare_zones(connection: Connection, scratch: Scratch) -> list[Row]:
    """The targets whose newest judged value lies in another zone."""
    if "metric_status" not in scratch.built and not scratch.is_against_older:
        return []
    return connection.execute(
        f"select target_id, coalesce(n.metric_id, o.metric_id) as metric_id, coalesce(n.application, o.application) as application, "
        "coalesce(n.segment, o.segment) as segment, coalesce(n.segment_value, o.segment_value) as segment_value, "
        "o.zone as old_zone, n.zone as new_zone, o.value as old_value, n.value as new_value "
        f"from {scratch.base_schema}.metric_status as o full join {scratch.schema_of('metric_status')}.metric_status as n using (target_id) "
        "where o.zone is distinct from n.zone order by 2, 3, 1"
    ).fetchall()


def compare_alerts(connection: Connection, scratch: Scratch) -> list[Row]:
    """The alerts that would open or close: those that are open on one side only."""
    if "alerts" not in scratch.built and not scratch.is_against_older:
        return []
    return connection.execute(
        "select case when o.alert_id is null then 'opens' else 'closes' end as what, coalesce(n.alert_id, o.alert_id) as alert_id, "
        "coalesce(n.metric_id, o.metric_id) as metric_id, coalesce(n.application, o.application) as application, "
        "coalesce(n.opened_at, o.opened_at) as opened_at, coalesce(n.action, o.action) as action "
        f"from (select * from {scratch.base_schema}.alerts where closed_at is null) as o "
        f"full join (select * from {scratch.schema_of('alerts')}.alerts where closed_at is null) as n using (alert_id) "
        "where o.alert_id is null or n.alert_id is null order by 1, 3, 4"
    ).fetchall()

"""`marts.metric_restatements`: every published value of a complete period that a later run changed, and why.

It is a record of publications, so it only grows: a rollback takes nothing out of it.
"""

from psycopg import sql

from northstar.base.settings import DERIVED_SEGMENTS, Settings
from northstar.build.differences import (
    CATALOGUE,
    DEFINITION,
    SETTING,
    Causes,
    Differences,
    certificate_rules,
    compare,
    read_code,
    rule_values,
    upstream,
)
from northstar.build.manifest import Manifest, read_manifest
from northstar.publish.catalogue import Mart
from northstar.warehouse.published.described import DescribedTable
from northstar.warehouse.rows import Connection, Publication, fetch_one

COLUMNS = {
    "metric_id": ("text not null", "the metric"),
    "grain": ("text not null", "hour, day, week, month, quarter or year"),
    "period_start": ("timestamptz not null", "the complete period whose value changed, or the first of them"),
    "application": ("text not null", "the company's product; 'all' is the company"),
    "segment": ("text not null", "the segment; '' is the total"),
    "segment_value": ("text not null", "the segment's value"),
    "old_value": ("numeric", "the value published before; null where there was none"),
    "new_value": ("numeric", "the value published now; null where there is none any more"),
    "old_version": ("bigint not null", "the first version that showed the old value as complete"),
    "new_version": ("bigint not null", "the version that changed it"),
    "reason": (
        "text not null",
        "the first of `reasons`: correction (a row was replaced), late_rows, erasure (rows lost a person's name), setting (a rule or a file of the home), definition (models, seeds or catalogue) or backfill (built again from the same rows)",
    ),
    "periods": (
        "bigint not null default 1",
        "number of complete periods; for a series that begins earlier or later, vanishes, changes its state or has periods that begin on another day, all of them, and period_start is the first",
    ),
    "reasons": (
        "text[]",
        "every reason that applies, in the order in which `reason` lists them; null in rows from before it was recorded",
    ),
}
IMPLIED_VALUE = """
    case when {s}.state = 'measured' and ({m}.kind in ('sum', 'count', 'distinct') or {m}.kind = 'snapshot' and {m}.unit != 'percent')
    then case when {m}.unit = 'money' then 0.00 else 0 end end
"""
# a metric's segments without those that follow from a home's rules
_CATALOGUE_SEGMENTS = f"regexp_replace({{}}.segments, ';({'|'.join(DERIVED_SEGMENTS)})\\M', '', 'g')"
KEY = ("metric_id", "grain", "period_start", "application", "segment", "segment_value")


# periods of the last version that the candidate cuts otherwise, because they begin on another day or at another hour; `dim_periods` may be merged already
OTHER_PERIODS = """
    create temp table other_periods on commit drop as
    with gone as materialized (
        select grain, period_start, period_end from (
            select grain, period_start, period_end from marts.dim_periods
            union all select grain, period_start, period_end from marts_history.dim_periods where _to_version = {version}
        ) as published
        where (grain, period_start) not in (select grain, period_start from marts_candidate.dim_periods)
            and period_start < (select max(period_start) from marts_candidate.dim_periods where grain = 'day')
    )
    -- a history that begins later has fewer hours, days and months, and no others
    select * from gone
    where grain in ('week', 'quarter', 'year') or exists (
        select 1 from marts_candidate.dim_periods as other
        where other.grain = gone.grain and other.period_start < gone.period_end and other.period_end > gone.period_start
    )
"""
# and then all that readers had: without the periods that are new in the other periods' place
SHOWN_PERIODS = """
    create temp table shown_periods on commit drop as
    select grain, period_start, period_end from marts.dim_periods
    where not (grain in (select grain from other_periods) and _version = {version})
        and (grain, period_start) not in (select grain, period_start from other_periods)
    union all select grain, period_start, period_end from other_periods
"""
# restated points: in a complete period of a series that exists before and after, the value appeared, disappeared or changed
POINTS = f"""
    select k.series_id, o.metric_id, o.grain, k.period_start, o.application, o.segment, o.segment_value,
        case when r.series_id is not null then r.value else {IMPLIED_VALUE.format(s="o", m="om")} end as old_value,
        case when a.series_id is not null then a.value else {IMPLIED_VALUE.format(s="n", m="nm")} end as new_value,
        published._version as written_version,
        p.period_end, p.period_end + om.window_days * interval '24 hours' as complete_at, 1::bigint as periods
    from (select series_id, period_start from removed union select series_id, period_start from added) as k
    join marts.metric_series as o on o.series_id = k.series_id and o.holds_from <= k.period_start
        and (o.holds_until is null or k.period_start < o.holds_until)
    join marts_candidate.metric_series as n on n.series_id = k.series_id and n.state = o.state and n.holds_from <= k.period_start
        and (n.holds_until is null or k.period_start < n.holds_until)
    join marts.metrics as om on om.metric_id = o.metric_id
    join marts_candidate.metrics as nm on nm.metric_id = o.metric_id
    join {{periods}} as p on p.grain = o.grain and p.period_start = k.period_start
    left join removed as r on r.series_id = k.series_id and r.period_start = k.period_start
    left join added as a on a.series_id = k.series_id and a.period_start = k.period_start
    left join marts.metric_points as published on r.series_id is not null
        and published.series_id = k.series_id and published.period_start = k.period_start
    where p.period_end + om.window_days * interval '24 hours' <= {{as_of}}
        and (o.grain, k.period_start) not in (select grain, period_start from other_periods)
        and case when r.series_id is not null then r.value else {IMPLIED_VALUE.format(s="o", m="om")} end
        is distinct from case when a.series_id is not null then a.value else {IMPLIED_VALUE.format(s="n", m="nm")} end
"""
# restated series, but none of a segment that a changed rule brings: one that begins earlier or later, vanishes, changes its state or has other periods; one row, with the values of the first period that differs
SERIES = f"""
    with published_series as (
        select series_id, state, holds_from, holds_until from marts.metric_series
    ),
    candidate_series as (
        select series_id, state, holds_from, holds_until from marts_candidate.metric_series
    ),
    changed_series as (
        (select series_id from (table published_series except table candidate_series) as removed_states)
        union (select series_id from (table candidate_series except table published_series) as added_states)
        union
        select o.series_id from marts.metric_series as o join marts.metrics as om on om.metric_id = o.metric_id
        join marts_candidate.metrics as nm on nm.metric_id = o.metric_id
        where {IMPLIED_VALUE.format(s="o", m="om")} is distinct from {IMPLIED_VALUE.format(s="o", m="nm")}
        union
        select series_id from marts.metric_series where grain in (select grain from other_periods)
    ),
    affected_series as (
        select distinct on (series_id) series_id, metric_id, grain, application, segment, segment_value, first_from
        from (
            select *, min(holds_from) over (partition by series_id) as first_from from (
                select * from (select series_id, metric_id, grain, application, segment, segment_value, holds_from from marts.metric_series) as o
                union all
                select series_id, metric_id, grain, application, segment, segment_value, holds_from from marts_candidate.metric_series
            ) as both_versions
            where series_id in (select series_id from changed_series)
        ) as all_states
        order by series_id
    ),
    differences as (
        select affected_series.*, p.period_start, p.period_end, p.period_end + om.window_days * interval '24 hours' as complete_at,
            case when v.series_id is not null then v.value else {IMPLIED_VALUE.format(s="o", m="om")} end as old_value,
            case when other.grain is not null or n.state is null or n.state = 'small_group' then null when a.series_id is not null then a.value
                when v.series_id is not null and r.series_id is null then v.value else {IMPLIED_VALUE.format(s="n", m="nm")} end as new_value,
            v._version
        from affected_series
        join marts.metrics as om on om.metric_id = affected_series.metric_id
        left join marts_candidate.metrics as nm on nm.metric_id = affected_series.metric_id
        join {{periods}} as p on p.grain = affected_series.grain and p.period_start >= affected_series.first_from
        left join published_series as o on o.series_id = affected_series.series_id and o.holds_from <= p.period_start
            and (o.holds_until is null or p.period_start < o.holds_until)
        left join candidate_series as n on n.series_id = affected_series.series_id and n.holds_from <= p.period_start
            and (n.holds_until is null or p.period_start < n.holds_until)
        left join marts.metric_points as v on v.series_id = affected_series.series_id and v.period_start = p.period_start and o.state is not null
        left join removed as r on r.series_id = affected_series.series_id and r.period_start = p.period_start
        left join added as a on a.series_id = affected_series.series_id and a.period_start = p.period_start
        left join other_periods as other on other.grain = p.grain and other.period_start = p.period_start
        where (affected_series.segment not in ({", ".join(f"'{name}'" for name in DERIVED_SEGMENTS)})
            or (affected_series.metric_id, affected_series.segment) in (select metric_id, segment from marts.metric_series))
            and p.period_end + om.window_days * interval '24 hours' <= {{as_of}} and (other.grain is not null
            and case when v.series_id is not null then v.value else {IMPLIED_VALUE.format(s="o", m="om")} end is not null or o.state is distinct from n.state or v.series_id is null
            and a.series_id is null and {IMPLIED_VALUE.format(s="o", m="om")} is distinct from {IMPLIED_VALUE.format(s="n", m="nm")})
    )
    select series_id, metric_id, grain, min(period_start), application, segment, segment_value,
        (array_agg(old_value order by period_start))[1], (array_agg(new_value order by period_start))[1],
        (array_agg(_version order by period_start))[1], max(period_end), min(complete_at), count(*)
    from differences group by series_id, metric_id, grain, application, segment, segment_value
"""


RESTATEMENTS = DescribedTable(
    "metric_restatements",
    "Published values of complete periods that a later run changed.",
    COLUMNS,
    (*KEY, "new_version"),
)


def record_restatements(
    connection: Connection,
    settings: Settings,
    mart: Mart,
    version: int,
    previous_publication: Publication,
    code_version: str,
    is_backfill: bool = False,
) -> int:
    """Record the restatements of a merge: compare the points that it removes and adds (temp tables removed, added), and the series.

    Called before points and series are merged. previous_publication: the last publication. code_version: of the run that built the candidate.
    is_backfill: then a change that no changed row explains gets the reason `backfill`. Returns how many values were restated; a series counts
    as one.
    """
    connection.execute(
        "drop table if exists pg_temp.restated, pg_temp.first_shown, pg_temp.other_periods, pg_temp.shown_periods"
    )
    connection.execute(OTHER_PERIODS.format(version=version))
    connection.execute("analyze other_periods")
    periods = "marts.dim_periods"
    if fetch_one(connection.execute("select exists (select from other_periods) as any"))["any"]:
        connection.execute(SHOWN_PERIODS.format(version=version))
        connection.execute("analyze shown_periods")
        periods = "shown_periods"
    as_of = f"timestamptz '{previous_publication['as_of'].isoformat()}'"
    connection.execute(f"create temp table restated on commit drop as {POINTS.format(as_of=as_of, periods=periods)}")
    if periods == "shown_periods":
        # where every day is another one these are millions of periods; the planner expects hundreds, and looks each up: minutes instead of seconds
        connection.execute("set local enable_nestloop = off")
    connection.execute(f"insert into restated {SERIES.format(as_of=as_of, periods=periods)}")
    connection.execute("set local enable_nestloop = on")
    restated_count: int = fetch_one(connection.execute("select count(*) as n from restated"))["n"]
    if not restated_count:
        return 0
    # for each time, the first version whose as_of is at or after it
    connection.execute(
        "create temp table first_shown on commit drop as select as_of, min(published_version) over (order by as_of desc) as version "
        "from marts.publications"
    )
    connection.execute("create index on first_shown (as_of)")
    # a value without a point is as old as the removal of the point before it
    connection.execute(
        "update restated as r set written_version = h.version from (select series_id, period_start, max(_to_version) as version "
        "from marts_history.metric_points where (series_id, period_start) in (select series_id, period_start from restated "
        "where written_version is null) group by 1, 2) as h where r.series_id = h.series_id and r.period_start = h.period_start "
        "and r.written_version is null"
    )
    fallback = _find_causes(connection, settings, mart, previous_publication, code_version)
    within = _reasons(
        ("correction", "late_rows", "erasure"), "c.changed_hour >= r.period_start and c.changed_hour < r.period_end"
    )
    redefined = _reasons((SETTING, DEFINITION), "c.changed_hour is null and (not c.is_segmented or r.segment != '')")
    # what stands at a period's end is also made of what happened before it
    before = _reasons(("correction", "late_rows", "erasure"), "c.changed_hour < r.period_start")
    connection.execute(
        f"insert into marts.metric_restatements ({', '.join(COLUMNS)}) select {', '.join(KEY)}, old_value, new_value, "
        "greatest(r.written_version, shown.version), %s, reasons.named[1], periods, reasons.named from restated as r "
        "cross join lateral (select version from first_shown where as_of >= r.complete_at order by as_of limit 1) as shown "
        f"cross join lateral (select {within} || {redefined} as named) as nearest "
        f"cross join lateral (select {before} as named) as earlier "
        "cross join lateral (select case when nearest.named != '{}' then nearest.named when %s then array['backfill'] "
        "when earlier.named != '{}' then earlier.named else array[%s] end as named) as reasons",
        [version, is_backfill, fallback],
    )
    return restated_count


def _reasons(kinds: tuple[str, ...], condition: str) -> str:
    """SQL for an array of those kinds of causes, in their order, that a row `r` of restated has under a condition on the causes `c`."""
    cases = ", ".join(
        f"case when exists (select 1 from causes as c where c.metric_id = r.metric_id and c.kind = '{kind}' and {condition}) then '{kind}' end"
        for kind in kinds
    )
    return f"array_remove(array[{cases}]::text[], null)"


def _find_causes(
    connection: Connection, settings: Settings, mart: Mart, previous_publication: Publication, code_version: str
) -> str:
    """Make the temp table causes (metric_id, kind, changed_hour, is_segmented) of what restated metrics are made from: changed rows of the
    landed entities by hour, and changed definitions and settings, which have no hour. is_segmented: the cause is one of segments alone.

    Returns the reason of a value that none of them explains.
    """
    manifest = read_manifest(settings)
    relations = {
        (n["schema"], n["alias"]): unique_id
        for unique_id, n in manifest["nodes"].items()
        if n["resource_type"] == "model"
    }
    connection.execute("drop table if exists pg_temp.causes")
    connection.execute(
        "create temp table causes (metric_id text, kind text, changed_hour timestamptz, is_segmented boolean not null default false) on commit drop"
    )
    differences = code_differences(connection, settings, previous_publication, code_version)
    for part in mart.parts:
        nodes = upstream(manifest, relations[part])
        entities = sorted(name.rsplit(".", 1)[1] for name in nodes if name.startswith("source."))
        metrics = [
            row["metric_id"]
            for row in connection.execute(
                sql.SQL("select distinct metric_id from {} where metric_id in (select metric_id from restated)").format(
                    sql.Identifier(*part)
                )
            ).fetchall()
        ]
        connection.execute(
            "insert into causes select m.metric_id, h.kind, h.changed_hour from unnest(%s::text[]) as m (metric_id) cross join "
            "(select distinct kind, changed_hour from core.changed_hours where entity = any(%s)) as h",
            [metrics, entities],
        )
        if differences is not None:
            causes = {metric: _code_causes(differences, manifest, nodes, metric) for metric in metrics}
            # a rule that only adds segments changes nothing else
            of_segments = bool(differences.rules) and differences.rules <= set(DERIVED_SEGMENTS.values())
            connection.cursor().executemany(
                "insert into causes (metric_id, kind, is_segmented) values (%s, %s, %s)",
                [(metric, kind, of_segments and kind == SETTING) for metric, kinds in causes.items() for kind in kinds],
            )
    if differences is not None:
        _insert_catalogue_causes(connection)
        if "suppress_below" in differences.rules:
            connection.execute(
                "insert into causes select distinct metric_id, %s, null::timestamptz, true from restated", [SETTING]
            )
    connection.execute("create index on causes (metric_id, kind, changed_hour)")
    connection.execute("analyze causes")
    if previous_publication["code_version"] == code_version:
        return "late_rows"
    if differences is None or any(DEFINITION in causes for causes in differences.nodes.values()):
        return DEFINITION
    return SETTING if differences.rules or differences.nodes else DEFINITION


def code_differences(
    connection: Connection, settings: Settings, previous_publication: Publication, code_version: str
) -> Differences | None:
    """What the run's code builds differently from that of the last publication; None where it is the same, or the other was not kept."""
    previous_code_version = previous_publication["code_version"]
    if previous_code_version is None or previous_code_version == code_version:
        return None
    rules, own_seeds = certificate_rules(connection, previous_publication["published_version"])
    old = read_code(settings, connection, previous_code_version, rules)
    new = read_code(settings, connection, code_version, rule_values(settings))
    if old is None or new is None:
        return None
    return compare(old, new, own_seeds | settings.own_seeds.keys())


def _code_causes(differences: Differences, manifest: Manifest, nodes: set[str], metric_id: str) -> Causes:
    """Whether definitions or settings changed in the nodes that a metric is made from."""
    causes: Causes = frozenset()
    for unique_id in nodes & differences.nodes.keys():
        if manifest["nodes"][unique_id]["name"] == CATALOGUE:
            continue
        if metric_id in differences.metrics.get(unique_id, (metric_id,)):
            causes |= differences.nodes[unique_id]
    return causes


def _insert_catalogue_causes(connection: Connection) -> None:
    """A definition for each restated metric whose row of the catalogue decides other values than before."""
    connection.execute(
        "insert into causes (metric_id, kind) select coalesce(o.metric_id, n.metric_id), %s from marts.metrics as o "
        "full join marts_candidate.metrics as n on n.metric_id = o.metric_id "
        f"where (o.kind, o.unit, o.window_days, o.grains, {_CATALOGUE_SEGMENTS.format('o')}) "
        f"is distinct from (n.kind, n.unit, n.window_days, n.grains, {_CATALOGUE_SEGMENTS.format('n')}) "
        "and coalesce(o.metric_id, n.metric_id) in (select metric_id from restated)",
        [DEFINITION],
    )

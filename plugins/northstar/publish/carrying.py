"""Carry published values over to points and series, once, in homes of a release that stored a row for every period.

Up to 5e1421c `marts.metric_values` was a table, and `marts_history.metric_values` had its replaced rows. After the change every version reads
the same as before. A row that says more than that nothing happened becomes a point, in the versions that had the row. The first period of a
series becomes its beginning, version by version. The periods are those that had been published by each as_of.
"""

from psycopg import sql

from northstar.warehouse.published.past import drop_past_view
from northstar.warehouse.rows import Connection

# every row with the versions in which it was valid, and the state of its series, which says what the period has without a point
ROWS = """
create temp table old_rows on commit drop as
select {series_id} as series_id, r.*, m.kind, m.unit, coalesce(i.state, 'measured') as state from (
    select metric_id, grain, period_start, application, segment, segment_value, numerator, denominator, value, null_reason,
        _version as from_version, null::bigint as to_version from marts.metric_values
    union all
    select metric_id, grain, period_start, application, segment, segment_value, numerator, denominator, value, null_reason,
        _from_version, _to_version from marts_history.metric_values
) as r
join (
    select metric_id, kind, unit from marts.metrics
    union
    select distinct on (metric_id) metric_id, kind, unit from marts_history.metrics as h
    where metric_id not in (select metric_id from marts.metrics) order by metric_id, kind, unit
) as m using (metric_id)
left join (
    select metric_id, mode() within group (order by state) as state from marts_candidate.metric_series where state not in ('small_group', 'not_measured') group by 1
) as i using (metric_id)
"""
SERIES_ID = "('x' || left(md5(row(r.metric_id, r.grain, r.application, r.segment, r.segment_value)::text), 16))::bit(64)::bigint"
COUNTS = "(kind in ('sum', 'count', 'distinct') or kind = 'snapshot' and unit != 'percent')"
SAYS_SOMETHING = f"""
    numerator is distinct from case when {COUNTS} or kind in ('ratio', 'mean') then 0 end or denominator != 0
    or value is distinct from case when {COUNTS} and state = 'measured' then 0 end
    or null_reason is distinct from case when state != 'measured' then state when not {COUNTS} then 'empty_base' end
"""
# the ranges of versions in which a period was the first of its series: the versions that had it, without those that had an earlier one
BEGINNINGS = """
create temp table old_beginnings on commit drop as
select series_id, period_start, lower(versions) as from_version, upper(versions) as to_version from (
    select series_id, period_start, unnest(present_in - coalesce(
        range_agg(present_in) over (partition by series_id order by period_start rows between unbounded preceding and 1 preceding), '{}'
    )) as versions
    from (
        select series_id, period_start, range_agg(int8range(from_version, to_version)) as present_in from old_rows group by 1, 2
    ) as periods
) as first_periods
"""
# versions grouped into sequences in which as_of only grew: in each, a period exists once as_of has passed its beginning
RUNS = """
create temp table old_versions on commit drop as
select published_version, as_of, sum(is_back) over (order by published_version) as run
from (
    select published_version, as_of, coalesce(as_of < lag(as_of) over (order by published_version), false)::int as is_back from marts.publications
) as v
"""
PERIODS = """
create temp table old_periods on commit drop as
with grains as (
    select grain, min(period_start) as first_start from old_rows group by grain
),
ends as (
    select run, max(as_of) as last_as_of, lead(min(published_version)) over (order by run) as to_version
    from old_versions group by run
)
select g.grain, p as period_start, p + step as period_end, shown.published_version as from_version, ends.to_version
from grains as g
cross join lateral (select case g.grain when 'quarter' then interval '3 months' else ('1 ' || g.grain)::interval end as step) as s
cross join ends
cross join lateral generate_series(g.first_start, ends.last_as_of - interval '1 microsecond', step) as p
cross join lateral (
    select published_version from old_versions as v where v.run = ends.run and v.as_of > p order by v.as_of limit 1
) as shown
"""
TARGET_TABLES = {
    "metric_points": (
        "series_id, period_start, numerator, denominator, value, null_reason",
        f"select series_id, period_start, numerator, denominator, value, null_reason, from_version, to_version from old_rows where {SAYS_SOMETHING}",
    ),
    "metric_series": (
        "series_id, metric_id, grain, application, segment, segment_value, begins_at, state, holds_from, holds_until",
        "select b.series_id, n.metric_id, n.grain, n.application, n.segment, n.segment_value, b.period_start as begins_at, n.state, b.period_start as holds_from, "
        "null::timestamptz as holds_until, b.from_version, b.to_version from old_beginnings as b join (select distinct on (series_id) * from old_rows order by "
        "series_id) as n using (series_id)",
    ),
    "dim_periods": (
        "grain, period_start, period_end",
        "select grain, period_start, period_end, from_version, to_version from old_periods",
    ),
}  # fmt: skip


def stores_every_period(connection: Connection) -> bool:
    """Whether the published values are still a table of every period."""
    relation = connection.execute(
        "select relkind from pg_class where oid = to_regclass('marts.metric_values')"
    ).fetchone()
    return relation is not None and relation["relkind"] == "r"


def carry_over(connection: Connection) -> None:
    """Fill the published points, series and periods, and their history, from the table of every period, and drop that table's history.

    The tables to fill exist and are empty. The old table itself is dropped when the view takes its name (northstar.warehouse.published.values).
    """
    connection.execute(sql.SQL(ROWS).format(series_id=sql.SQL(SERIES_ID)))
    connection.execute("analyze old_rows")
    connection.execute(BEGINNINGS)
    connection.execute(RUNS)
    connection.execute("create index on old_versions (run, as_of)")
    connection.execute(PERIODS)
    for name, (columns, query) in TARGET_TABLES.items():
        connection.execute(
            f"insert into marts.{name} ({columns}, _version) select {columns}, from_version from ({query}) as q where to_version is null"
        )
        connection.execute(
            f"insert into marts_history.{name} ({columns}, _from_version, _to_version) select {columns}, from_version, to_version "
            f"from ({query}) as q where to_version is not null"
        )
    for schema in ("marts", "marts_history"):
        connection.execute(
            f"update {schema}.metrics as m set window_days = coalesce(c.window_days, 0) from {schema}.metrics as o "
            "left join marts_candidate.metrics as c using (metric_id) where m.metric_id = o.metric_id and m.window_days is null"
        )
    drop_past_view(connection, "metric_values")
    connection.execute("drop table marts_history.metric_values")

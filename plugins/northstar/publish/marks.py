"""What a publication records for charts: changed definitions, restatements above a size, backfills, and what kept publications from happening."""

from northstar.warehouse.published.marks import ensure_marks
from northstar.warehouse.rows import Connection, Run

# the least change of a total of a metric of level 1 or 2 that is a mark: 1 % of the value
SMALLEST_CHANGE = 0.01
# runs that failed and holds that ended longer ago are not looked for
DAYS = 90
RECORD = (
    "insert into marts.recorded_marks (mark_id, kind, marked_at, ended_at, application, metrics, title, details, by_whom, recorded_version) "
    "{query} on conflict (mark_id) do nothing"
)
# the metrics of which this version restated a total, by whether models or settings did it; of an own reason each, so that none is told twice
RESTATED = """
    with changed as (
        select r.metric_id, r.application, r.period_start, r.reasons && array['definition', 'setting'] as is_definition,
            bool_or(m.level <= 2 and r.segment = '' and (
                r.old_value is null or r.new_value is null or abs(r.new_value - r.old_value) >= %(least)s * abs(r.old_value))
            ) over (partition by r.metric_id) as is_large
        from marts.metric_restatements as r join marts.metrics as m using (metric_id)
        where r.new_version = %(version)s
    ),
    restated as (
        select is_definition, array_agg(distinct metric_id order by metric_id) as metrics,
            array_agg(distinct metric_id order by metric_id) filter (where is_large) as large, count(*) as rows,
            case when count(distinct application) filter (where application != 'all') = 1 then max(application) filter (where application != 'all') else 'all' end as application,
            min(period_start)::date as since
        from changed group by is_definition
    )
"""
DEFINITIONS = (
    RESTATED
    + """
    select 'definition:' || n.published_version, 'definition_change', %(as_of)s::timestamptz, null::timestamptz, coalesce(r.application, 'all'),
        coalesce(r.metrics, '{}'), case when n.rules is distinct from o.rules and n.code_version is not distinct from o.code_version
            then 'settings changed: ' || (
                select string_agg(replace(name, '_', ' '), ', ' order by name) from (select key as name from jsonb_each(n.rules) union select key from jsonb_each(o.rules)) as names
                where n.rules -> name is distinct from o.rules -> name)
            else 'models changed' end,
        case when r.metrics is null then 'no complete value is restated' else cardinality(r.metrics) || case when cardinality(r.metrics) = 1 then ' metric' else ' metrics' end || ' restated, from ' || r.since || ' on' end,
        null::text, n.published_version
    from marts.certificates as n join marts.certificates as o on o.published_version = %(previous)s left join restated as r on r.is_definition
    where n.published_version = %(version)s and (n.code_version is distinct from o.code_version or n.rules is distinct from o.rules)
"""
)
RESTATEMENTS = (
    RESTATED
    + """
    select 'restatement:' || %(version)s::bigint, case when b.backfill_id is null then 'restatement' else 'backfill' end, %(as_of)s::timestamptz, null::timestamptz, coalesce(r.application, 'all'),
        case when b.backfill_id is null then r.large else coalesce(r.metrics, '{}') end,
        case when b.backfill_id is null then cardinality(r.large) || case when cardinality(r.large) = 1 then ' metric' else ' metrics' end || ' restated by 1 %% or more'
            else 'backfill of ' || b.from_at::date || ' to ' || b.to_at::date end,
        coalesce(b.reason || ': ', '') || coalesce(r.rows, 0) || ' values restated' || coalesce(', from ' || r.since || ' on', ''), b.asked_by, %(version)s::bigint
    from (select 1) as always left join restated as r on not r.is_definition left join audit.backfills as b on b.run_id = %(run)s
    where b.backfill_id is not null or r.large is not null
"""
)
KEPT_BACK = """
    select 'run:' || run_id, 'failed_publication', as_of, null::timestamptz, 'all', null::text[], 'run ' || run_id || ' failed in ' || coalesce(stage, 'its beginning'), null::text, null::text, %(version)s::bigint
    from audit.runs where state = 'failed' and started_at > clock_timestamp() - %(days)s * interval '1 day'
    union all
    select 'hold:' || hold_id, 'hold', began_at, ended_at, 'all', null, 'publishing was held', because, by_whom, %(version)s::bigint
    from audit.holds where ended_at > clock_timestamp() - %(days)s * interval '1 day'
"""  # fmt: skip
ROLLBACK = """
    select 'rollback:' || %(version)s::bigint, 'rollback', as_of, null::timestamptz, 'all', null::text[], 'version ' || restores_version || ' was put back', null::text, null::text, %(version)s::bigint
    from marts.publications where published_version = %(version)s
"""


def record_marks(connection: Connection, run: Run, version: int, previous: int | None) -> None:
    """Record what the publication of a version did, in its transaction and after its certificate. previous: the version before it, if there is one."""
    ensure_marks(connection)
    values = {
        "run": run["run_id"], "as_of": run["as_of"], "version": version, "previous": previous, "least": SMALLEST_CHANGE, "days": DAYS,
    }  # fmt: skip
    for query in (DEFINITIONS, RESTATEMENTS, KEPT_BACK):
        connection.execute(RECORD.format(query=query), values)


def record_rollback(connection: Connection, version: int) -> None:
    """Record that a version was put back as a new one."""
    ensure_marks(connection)
    connection.execute(RECORD.format(query=ROLLBACK), {"version": version})

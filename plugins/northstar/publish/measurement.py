"""What becomes of stored points where a metric begins to be measured earlier or later, or no longer.

The build logs the points that it changed. The points of a stretch that was not measured and now is, or the reverse, need not be among them: their
values stand as they were, and it is the series' state that decides whether they are published.
"""

from psycopg import sql

from northstar.publish.catalogue import Mart
from northstar.warehouse.rows import Connection, fetch_one

CHANGED_STRETCHES = """
create temp table changed_stretches on commit drop as
with published as (select series_id, holds_from, holds_until from marts.metric_series where state = 'not_measured'),
candidate as (select series_id, holds_from, holds_until from marts_candidate.metric_series where state = 'not_measured')
(table published except table candidate) union (table candidate except table published)
"""
POINTS_IN_THEM = """
select p.series_id, p.period_start from {relation} as p join changed_stretches as s on s.series_id = p.series_id
    and s.holds_from <= p.period_start and (s.holds_until is null or p.period_start < s.holds_until) where {is_point}
"""


def points_of_changed_stretches(connection: Connection, mart: Mart) -> sql.Identifier | None:
    """A temp table of the keys of the points, published and candidate, in stretches that began or ceased to be not measured; None without any.

    mart: that of the points. Called before the series are merged.
    """
    connection.execute("drop table if exists pg_temp.changed_stretches, pg_temp.points_in_changed_stretches")
    connection.execute(CHANGED_STRETCHES)
    if not fetch_one(connection.execute("select exists (select 1 from changed_stretches) as has_rows"))["has_rows"]:
        return None
    connection.execute("analyze changed_stretches")
    points = sql.SQL(" union ").join(
        sql.SQL(POINTS_IN_THEM).format(relation=sql.Identifier(*relation), is_point=sql.SQL(is_point))
        for relation, is_point in [(("marts", mart.name), "true"), *((part, "p.is_point") for part in mart.parts)]
    )
    connection.execute(sql.SQL("create temp table points_in_changed_stretches on commit drop as {}").format(points))
    connection.execute("analyze points_in_changed_stretches")
    return sql.Identifier("points_in_changed_stretches")

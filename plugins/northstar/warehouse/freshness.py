"""What the freshness promises are judged by: the newest version and the newest landings."""

from datetime import datetime

from northstar.base.freshness import Freshness, Judgement, NewestVersion, judge
from northstar.warehouse.rows import Connection, fetch_one

# landings that changed something: a source that is read and has nothing new is not fresh
LANDINGS = """
    select coalesce(source || '.' || entity, source) as name, max(finished_at) as at from audit.landing_batches
    where rows_inserted + rows_updated > 0 and source = any(%s) group by grouping sets ((source), (source, entity))
"""


def judge_freshness(connection: Connection, promises: Freshness, now: datetime) -> list[Judgement]:
    """The judgement of each promise at a moment, by what the warehouse holds. The connection is one of a role that reads `audit` and `marts`."""
    version = None
    if fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"] is not None:
        row = connection.execute(
            "select as_of, published_at from marts.publications order by published_version desc limit 1"
        ).fetchone()
        version = None if row is None else NewestVersion(row["as_of"], row["published_at"])
    landings = {}
    if promises.sources:
        names = [name.partition(".")[0] for name in promises.sources]
        landings = {r["name"]: r["at"] for r in connection.execute(LANDINGS, [names])}
    return judge(promises, version, landings, now)

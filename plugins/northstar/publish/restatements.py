"""`marts.metric_restatements`: every published value of a complete period that a later run changed, and why.

It is a record of publications, so it only grows: a rollback takes nothing out of it.
"""

from psycopg import sql

from northstar.manifest import read_manifest
from northstar.publish.catalogue import Mart
from northstar.publish.described import DescribedTable
from northstar.settings import Settings

COLUMNS = {
    "metric_id": ("text not null", "the metric"),
    "grain": ("text not null", "hour, day, week, month or quarter"),
    "period_start": ("timestamptz not null", "the complete period whose value changed"),
    "application": ("text not null", "the company's product; 'all' is the company"),
    "segment": ("text not null", "the segment; '' is the whole"),
    "segment_value": ("text not null", "the segment's value"),
    "old_value": ("numeric", "as published before; null where it had none"),
    "new_value": ("numeric", "as published now; null where it has none any more"),
    "old_version": ("bigint not null", "the version that wrote the row with the old value"),
    "new_version": ("bigint not null", "the version that changed it"),
    "reason": (
        "text not null",
        "late_rows, correction (a row was replaced), definition (models or rules changed) or backfill (built again from the same rows)",
    ),
}
KEY = ("metric_id", "grain", "period_start", "application", "segment", "segment_value")


RESTATEMENTS = DescribedTable(
    "metric_restatements",
    "Published values of complete periods that a later run changed.",
    COLUMNS,
    (*KEY, "new_version"),
)


def record_restatements(
    connection, settings: Settings, mart: Mart, version: int, is_redefined: bool, is_backfill: bool = False
) -> int:
    """Compare the rows that the merge of metric_values is about to take away with those it brings (temp tables removed, added).

    is_redefined: the models or rules are not those of the last version. is_backfill: what no changed row explains was wrong before. Returns how many values were restated.
    """
    key = ", ".join(KEY)
    connection.execute("drop table if exists pg_temp.restated")
    found = connection.execute(
        f"create temp table restated on commit drop as select {key}, removed.value as old_value, added.value as new_value, "
        "published._version as old_version, removed.period_start + case removed.grain when 'quarter' then interval '3 months' "
        "else ('1 ' || removed.grain)::interval end as period_end "
        f"from removed join marts.metric_values as published using ({key}) left join added using ({key}) "
        "where removed.is_complete and removed.value is distinct from added.value"
    ).rowcount
    if not found:
        return 0
    _causes(connection, settings, mart)
    cause = (
        "exists (select 1 from causes as c where c.metric_id = r.metric_id and c.kind = '{kind}' "
        "and c.changed_hour < r.period_end{within})"
    )
    within = " and c.changed_hour >= r.period_start"
    connection.execute(
        f"insert into marts.metric_restatements select {key}, old_value, new_value, old_version, %s, "
        f"case when %s then 'definition' when {cause.format(kind='correction', within=within)} then 'correction' "
        f"when {cause.format(kind='late_rows', within=within)} then 'late_rows' "
        f"when {cause.format(kind='correction', within='')} then 'correction' "
        f"when %s and not {cause.format(kind='late_rows', within='')} then 'backfill' else 'late_rows' end from restated as r",
        [version, is_redefined, is_backfill],
    )
    return found


def _causes(connection, settings: Settings, mart: Mart) -> None:
    """Temp table causes (metric_id, kind, changed_hour): what changed in the landed entities that restated metrics are made of."""
    manifest = read_manifest(settings)
    relations = {
        (n["schema"], n["alias"]): name for name, n in manifest["nodes"].items() if n["resource_type"] == "model"
    }
    connection.execute("drop table if exists pg_temp.causes")
    connection.execute("create temp table causes (metric_id text, kind text, changed_hour timestamptz) on commit drop")
    for part in mart.parts:
        entities = sorted(_sources(manifest["parent_map"], relations[part]))
        connection.execute(
            sql.SQL("insert into causes select m.metric_id, h.kind, h.changed_hour from (select distinct metric_id from {} "
                    "where metric_id in (select metric_id from restated)) as m cross join "
                    "(select distinct kind, changed_hour from core.changed_hours where entity = any(%s)) as h"
                    ).format(sql.Identifier(*part)),
            [entities],
        )  # fmt: skip
    connection.execute("create index on causes (metric_id, kind, changed_hour)")
    connection.execute("analyze causes")


def _sources(parents: dict, node: str) -> set:
    found, seen, queue = set(), set(), [node]
    while queue:
        for parent in parents.get(queue.pop(), []):
            if parent.startswith("source."):
                found.add(parent.rsplit(".", 1)[1])
            elif parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return found

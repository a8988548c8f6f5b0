"""The unchanged models, which an hourly run need not build because nothing that they are made of has changed.

A model with `time_dependent=false` has the same rows at any `as_of` as long as nothing new is landed and no landed row comes into existence
(tests/dbt_project/test_incremental.py builds them six weeks later and compares). Of these, the models that read no changed entity, directly or
through other models, need not be built. Where `as_of` is that of the last publication (a second run in the same hour), this holds for the other
models too, as long as the calendar begins where it began.
"""

from functools import cache

from psycopg import sql

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.build.dbt_connections import count_days_in
from northstar.build.manifest import Manifest, Node
from northstar.contract import Entity, entities
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, Row, Run, fetch_one


def unchanged_nodes(settings: Settings, run: Run, manifest: Manifest) -> dict[str, Node]:
    """{unique_id: node} of the models that the open run need not build, and of their tests; {} in a full run.

    run: its row of audit.runs. manifest: dbt's manifest of the code that built the existing tables. It is {} also for a backfill and an erasure:
    they build everything that they were started for.
    """
    if run["is_full"]:
        return {}
    with db.connect(settings, "transformer") as connection:
        context = fetch_one(connection.execute("select * from core.run_context where run_id = %s", [run["run_id"]]))
        if context["restate_from"] is not None or run["trigger"].startswith("erasure "):
            return {}
        changed = _found_entities(connection, _CHANGED_ENTITY, context)
        days = settings.rules.count_past_due
        if isinstance(days, int) and connection.execute(_PAST_DUE_TOO_LONG, context | {"days": days}).fetchone():
            changed.add("subscriptions")
        has_time_passed = context["as_of"] > context["previous_as_of"] or _may_move_calendar(
            settings, connection, context
        )
        changed_nodes = {f"source.northstar.staging.{name}" for name in changed} | _missing_tables(connection, manifest)
    return _unaffected_nodes(manifest, changed_nodes, has_time_passed)


def _missing_tables(connection: Connection, manifest: Manifest) -> set[str]:
    """The unique_id of each model whose table somebody has dropped."""
    rows = connection.execute("select schemaname as schema, tablename as name from pg_tables")
    tables = {(row["schema"], row["name"]) for row in rows}
    return {
        unique_id
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] == "model"
        and node["config"].get("materialized") not in ("view", "ephemeral")
        and (node["schema"], node["alias"]) not in tables
    }


def _found_entities(connection: Connection, condition: str, values: Row) -> set[str]:
    """The entities for which a condition of SQL holds, made from its texts {entity}, {own_time} and {times}."""
    query = " union all ".join(
        f"select '{e.name}' as entity where {condition.format(entity=e.name, own_time=e.own_time, times=_time_conditions(e))}"
        for e in entities().values()
    )
    return {row["entity"] for row in connection.execute(query, values)}


def _may_move_calendar(settings: Settings, connection: Connection, context: Row) -> bool:
    """Whether a row that landed or was replaced since the last publication may decide when the calendar begins."""
    for statement in count_days_in(settings.rules.reporting_time_zone):
        connection.execute(statement)
    begins = fetch_one(connection.execute("select min(period_start) as begins from core.periods where grain = 'hour'"))[
        "begins"
    ]
    return begins is None or bool(_found_entities(connection, _EARLIEST_ROW, context | {"begins": begins}))


def not_rebuilt_nodes(manifest: Manifest, models: list[str]) -> dict[str, Node]:
    """{unique_id: node} of what a rebuild of some models leaves as it is: all but these models and what is made from them.

    Raises NorthstarError for a model that the manifest does not have.
    """
    nodes = manifest["nodes"]
    asked = {
        unique_id for unique_id, node in nodes.items() if node["resource_type"] == "model" and node["name"] in models
    }
    if missing := set(models) - {nodes[unique_id]["name"] for unique_id in asked}:
        raise NorthstarError(f"the published version has no model {sorted(missing)[0]!r}")

    @cache
    def follows(unique_id: str) -> bool:
        return unique_id in asked or any(
            map(follows, nodes[unique_id]["depends_on"].get("nodes", []) if unique_id in nodes else [])
        )

    return {unique_id: node for unique_id, node in nodes.items() if not follows(unique_id)}


def create_empty_logs(settings: Settings, unchanged: dict[str, Node]) -> None:
    """Create an empty table of changed keys for each unchanged model that has none: the audit and publishing read it."""
    logs = [
        sql.SQL("create table if not exists {log} as select {key} from {table} where false").format(
            log=sql.Identifier(node["schema"], f"_changed__{node['alias']}"),
            key=sql.SQL(", ").join(map(sql.Identifier, _key(node))),
            table=sql.Identifier(node["schema"], node["alias"]),
        )
        for node in unchanged.values()
        if node["resource_type"] == "model" and _key(node)
    ]
    with db.connect(settings, "transformer") as connection:
        for log in logs:
            connection.execute(log)


def _key(node: Node) -> list[str]:
    key = node["config"].get("unique_key") or []
    return [key] if isinstance(key, str) else key


# SQL: whether changed_rows (dbt_project/macros/incremental/incremental.sql) would find rows of an entity: landed since the last publication,
# replaced since, or come into existence since
_CHANGED_ENTITY = (
    "exists (select 1 from staging.{entity} where _batch_id > %(since_batch_id)s) "
    "or exists (select 1 from staging._replaced where entity = '{entity}' and batch_id > %(since_batch_id)s) {times}"
)

# SQL: whether an entity has a new row from before the calendar, or had one in its first hour that was replaced
_EARLIEST_ROW = (
    "exists (select 1 from staging.{entity} where _batch_id > %(since_batch_id)s and {own_time} < %(begins)s) "
    "or exists (select 1 from staging._replaced where entity = '{entity}' and batch_id > %(since_batch_id)s "
    "and (row ->> '{own_time}')::timestamptz < %(begins)s + interval '1 hour')"
)

# SQL: whether a subscription stops counting, without a row that says so, because it has been past due for as many days as the setting says
_PAST_DUE_TOO_LONG = (
    "select 1 from staging.subscriptions where status = 'past_due' and valid_from >= %(previous_as_of)s - %(days)s * interval '1 day' "
    "and valid_from < %(as_of)s - %(days)s * interval '1 day' limit 1"
)


def _time_conditions(entity: Entity) -> str:
    return " ".join(
        f"or exists (select 1 from staging.{entity.name} where {column} >= %(previous_as_of)s and {column} < %(as_of)s)"
        for column in (entity.own_time, *entity.later_times)
    )


def _unaffected_nodes(manifest: Manifest, changed: set[str], has_time_passed: bool) -> dict[str, Node]:
    nodes = manifest["nodes"]

    @cache
    def is_affected(unique_id: str) -> bool:
        if unique_id in changed or unique_id not in nodes:
            return unique_id in changed
        # every entity decides when the calendar begins, but a changed calendar changes no rows of the models that read it
        if nodes[unique_id]["config"].get("is_calendar"):
            return False
        return any(map(is_affected, nodes[unique_id]["depends_on"].get("nodes", [])))

    def is_of_this_run(node: Node) -> bool:
        """Whether a model is about the run itself, or is the calendar, which any entity may change."""
        return bool(node["config"].get("is_about_run") or node["config"].get("is_calendar"))

    models = {
        unique_id: node
        for unique_id, node in nodes.items()
        if node["resource_type"] == "model"
        and node["config"].get("materialized") != "view"
        and not is_affected(unique_id)
        and (node["config"].get("time_dependent") is False or not (has_time_passed or is_of_this_run(node)))
    }
    tests = {
        unique_id: node
        for unique_id, node in nodes.items()
        if node["resource_type"] == "test" and not models.keys().isdisjoint(node["depends_on"]["nodes"])
    }
    return models | tests

"""The results of a build: which nodes dbt has built, compared with those that it had to build."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Required, TypedDict

from northstar.base.errors import BuildFailed, BuildIncomplete, NorthstarError, OutOfDisk
from northstar.base.files import read_json
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.base.third_parties import is_full_disk
from northstar.build.manifest import Manifest, Node, dbt_target, read_manifest
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, fetch_one

# the resource types that are recorded; dbt's results contain its hooks too
BUILT_TYPES = ("model", "seed", "test")


class RunResult(TypedDict, total=False):
    """A node in dbt's results: the fields that are read here."""

    unique_id: Required[str]
    status: Required[str]
    execution_time: Required[float]
    message: str | None
    # Any: a database adapter's answer to a statement
    adapter_response: dict[str, Any]
    compiled_code: str | None


def record_build(
    settings: Settings, run_id: int, progress: Progress = print, unchanged: Mapping[str, Node] = MappingProxyType({})
) -> dict[str, float]:
    """Write dbt's results to audit.model_runs and compare them with the manifest; returns {model name: seconds}.

    unchanged: {unique_id: node} of what need not be built (northstar.build.unchanged); it is recorded with the status `unchanged`.
    Raises NorthstarError naming the first failed node, or the nodes of the manifest that were not built.
    """
    results_file = dbt_target(settings) / "run_results.json"
    run_results = read_json(results_file)
    if run_results is None:
        raise NorthstarError(
            f"dbt left no complete results in {results_file.parent}: nothing was built (its log: {settings.logs / 'dbt.log'})"
        )
    manifest = read_manifest(settings)
    results: list[RunResult] = [
        result for result in run_results["results"]
        if result["unique_id"].split(".")[0] in BUILT_TYPES
    ]  # fmt: skip
    for result in run_results["results"]:
        # a hook of dbt_project.yml, such as the question whether the engine reckons as the models need it
        if result["unique_id"].startswith("operation.") and result["status"] == "error":
            message = (
                " ".join((result.get("message") or "").split())
                .partition(" failed, error: ")[2]
                .partition(" CONTEXT: ")[0]
            )
            raise BuildFailed(result["unique_id"].rsplit(".", 1)[1], f"nothing was built: {message[:1000]}")
    with db.connect(settings, "transformer") as connection:
        run = fetch_one(connection.execute("select is_full, code_version from audit.runs where run_id = %s", [run_id]))
        if run["is_full"]:
            store_definitions(connection, run["code_version"], results)
    required_nodes = {i: node for i, node in _required_nodes(manifest, run["is_full"]).items() if i not in unchanged}
    rows: list[tuple[int, str, str, str, str, float, int | None, str]] = [
        (run_id, unique_id, node["name"], node["resource_type"], "unchanged", 0, None, "")
        for unique_id, node in unchanged.items()
    ]
    for result in results:
        node = required_nodes.get(result["unique_id"], {})
        affected = result.get("adapter_response", {}).get("rows_affected")
        rows.append(
            (run_id, result["unique_id"], node.get("name", result["unique_id"]), result["unique_id"].split(".")[0],
             result["status"], round(result["execution_time"], 3), affected if affected != -1 else None,
             (result.get("message") or "")[:2000])
        )  # fmt: skip
    with db.connect(settings, "transformer") as connection:
        connection.cursor().executemany(
            "insert into audit.model_runs values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (run_id, unique_id) "
            "do update set status = excluded.status, seconds = excluded.seconds, rows = excluded.rows, message = excluded.message",
            rows,
        )
    for row in sorted(rows, key=lambda r: -r[5])[:12]:
        progress(f"    {row[5]:7.2f} s  {row[4]:8} {row[2]}")
    if unchanged:
        # a full run leaves models out only when it was asked to rebuild others
        reason = "they were not asked for" if run["is_full"] else "what they read has not changed"
        progress(f"    {len(unchanged)} of {len(rows)} models and tests were not rebuilt: {reason}")
    failed_rows = [r for r in rows if r[4] not in ("success", "pass", "warn", "skipped", "unchanged")]
    if failed_rows:
        message = " ".join(failed_rows[0][7].split())
        if is_full_disk(message):
            raise OutOfDisk(f", where {failed_rows[0][3]} {failed_rows[0][2]} was built")
        more = f" and {len(failed_rows) - 1} more" if len(failed_rows) > 1 else ""
        raise BuildFailed(failed_rows[0][2], f"{failed_rows[0][3]} {failed_rows[0][2]} failed{more}: {message[:600]}")
    missing_nodes = sorted(set(required_nodes) - {r[1] for r in rows if r[4] in ("success", "pass", "warn")})
    if missing_nodes:
        raise BuildIncomplete(
            missing_nodes,
            f"the build is not complete: {len(missing_nodes)} of {len(required_nodes)} nodes were not built, first {missing_nodes[0]}",
        )
    return {r[2]: r[5] for r in rows if r[3] in ("model", "seed")}


def _required_nodes(manifest: Manifest, is_full: bool) -> dict[str, Node]:
    """The nodes that a run has to build: all of them, or in an incremental run those that change with rows, and their tests."""
    nodes = {
        unique_id: node for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] in BUILT_TYPES and node["config"].get("materialized") != "ephemeral"
    }  # fmt: skip
    if is_full:
        return nodes
    static_nodes = {i for i, node in nodes.items() if node["config"].get("materialized") in ("view", "seed")}
    return {
        i: node for i, node in nodes.items()
        if i not in static_nodes and (node["resource_type"] != "test" or static_nodes.isdisjoint(node["depends_on"]["nodes"]))
    }  # fmt: skip


def store_definitions(connection: Connection, code_version: str, results: list[RunResult]) -> None:
    """Keep the compiled models of a full build, which explain every number that this code version publishes.

    results: dbt's run results. Models that were kept already are not changed.
    """
    models = [
        (code_version, r["unique_id"].rsplit(".", 1)[1], r["compiled_code"])
        for r in results
        if r["unique_id"].startswith("model.") and r.get("compiled_code")
    ]
    connection.cursor().executemany(
        "insert into audit.definitions (code_version, model, sql) values (%s, %s, %s) on conflict do nothing", models
    )


def read_definitions(connection: Connection, code_version: str) -> dict[str, str]:
    """{model: compiled SQL} of a version of the code, as `store_definitions` kept it."""
    rows = connection.execute("select model, sql from audit.definitions where code_version = %s", [code_version])
    return {row["model"]: row["sql"] for row in rows.fetchall()}

"""The working tree's models, built beside the published ones: only those that are compiled to other SQL, and what is made from them.

They are built in the schema `marts_preview`, which no reader sees, and read what they need and is unchanged from `core`. No turn is taken: core
has to be that of the published version, before and after, and the preview gives way to a run that begins meanwhile.
"""

import csv
import json
import os
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from northstar.base.collector import uncollected
from northstar.base.errors import NorthstarError
from northstar.base.files import write_private
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.build.beside import ParsedProject
from northstar.build.dbt import dbt_env
from northstar.build.dbt_connections import Handle, reuse_connections
from northstar.build.definitions import RELATION
from northstar.build.differences import (
    CATALOGUE,
    DEFINITION,
    SETTING,
    TIME_ZONE,
    Causes,
    Code,
    RuleValues,
    causes_of,
    certificate_rules,
    changed_rules,
    is_same_sql,
    keeps_rows,
    read_code,
    rule_values,
)
from northstar.build.manifest import TEMPLATES, Manifest, Node, dbt_target, find_manifest
from northstar.build.own_seeds import check_own_seeds, project_directory, write_project
from northstar.use.explain.explanation import current_version
from northstar.warehouse import db
from northstar.warehouse.published.past import SCHEMA as PAST_SCHEMA
from northstar.warehouse.published.past import read_version
from northstar.warehouse.rights import act_as_owner
from northstar.warehouse.rows import Connection, Row, fetch_one

SCHEMA = "marts_preview"
PREVIEW_LOCK = 7_041_779
POLL_SECONDS = 0.5
# resource types that are built; the change log of landed rows serves publishing alone
BUILT_TYPES = ("model", "seed")
NOT_PREVIEWED = ("changed_hours",)
# what decides which groups are withheld; it is no text of a model (macros/metrics/small_groups.sql)
SMALL_GROUPS = ("suppress_below", "macro.northstar.find_small_groups", "macro.northstar.small_rows")
# the model of the catalogue's rows by grain and segment, which every metric model reads, and the columns that decide values
SHAPES = "metric_shapes"
SHAPE_COLUMNS = ("unit", "kind", "grains", "segments", "window_days")
WITHHOLDING_MODELS = ("series_states", "metric_points")


@dataclass
class Scratch:
    """The built models. version: the publication whose rows core holds; old, new: the two versions of the code.

    base: the publication that they are compared with, which is `version` or an older one; base_manifest: what it was built by, None if that is not kept.
    selected: the names of what is needed for the selected models and metrics, None if nothing was selected.
    changed: {name: causes} of the models and seeds that build something else; built: {name: node} of these and what is made from them; removed:
    the published models that the working tree lacks; compiled: {name: SQL} of what was built.
    project: the dbt project's directory.
    """

    version: Row
    base: Row
    base_manifest: Manifest | None
    old: Code
    new: Manifest
    project: Path
    changed: dict[str, Causes] = field(default_factory=dict)
    built: dict[str, Node] = field(default_factory=dict)
    removed: dict[str, Node] = field(default_factory=dict)
    compiled: dict[str, str] = field(default_factory=dict)
    selected: set[str] | None = None

    @property
    def is_against_older(self) -> bool:
        """Whether the version that is compared with is not the published one."""
        return bool(self.base["published_version"] != self.version["published_version"])

    @property
    def base_schema(self) -> str:
        """The schema in which the rows of the version that is compared with are."""
        return PAST_SCHEMA if self.is_against_older else "marts"

    def schema_of(self, name: str, published: str = "marts") -> str:
        """The schema in which the new rows of a mart are."""
        return SCHEMA if name in self.built else published


@contextmanager
def build_beside(
    settings: Settings, against: int | None = None, select: Iterable[str] = (), progress: Progress = print
) -> Iterator[Scratch]:
    """Build what the working tree changes; the scratch schema is empty again when the context ends.

    against: the published version to compare with, if not the newest. select: models or metrics to which the preview is limited. Raises NorthstarError when
    nothing is published, `against` cannot be read, core is not that of the published version, another preview is at work, a model fails, or a run begins meanwhile.
    """
    check_own_seeds(settings)
    _ensure_schema(settings)
    with db.connect(settings, "transformer", autocommit=True) as guard:
        if not fetch_one(guard.execute("select pg_try_advisory_lock(%s) as ok", [PREVIEW_LOCK]))["ok"]:
            raise NorthstarError("another preview is at work in this home; preview again when it has ended")
        version = current_version(guard)
        base = version if against is None else _find_version(guard, settings, against)
        _require_nothing_landed(guard, version)
        empty_scratch(guard)
        try:
            yield _build(settings, guard, version, base, tuple(select), progress)
            _require_same_version(guard, version)
        except (NorthstarError, psycopg.Error) as exc:
            # a run that replaces what is being read shows as a table that is gone, or as a deadlock: a reader of a view locks the view and then its
            # tables, and whoever drops a table locks it and then the views on it
            if not _is_same_version(guard, version):
                raise _interrupted() from exc
            raise
        finally:
            empty_scratch(guard)


def _find_version(connection: Connection, settings: Settings, number: int) -> Row:
    read_version(connection, settings, number, is_local=False)
    return fetch_one(connection.execute("select * from marts.publications where published_version = %s", [number]))


def _build(
    settings: Settings, connection: Connection, version: Row, base: Row, select: tuple[str, ...], progress: Progress
) -> Scratch:
    rules, own_seeds = certificate_rules(connection, version["published_version"])
    old = read_code(settings, connection, version["code_version"], rules)
    if old is None:
        raise NorthstarError(
            f"how version {version['published_version']} was built is not kept; the next nightly run records it"
        )
    place = settings.home / "dbt" / "preview"
    (place / "state").mkdir(parents=True, exist_ok=True)
    project = place / "project" if settings.own_seeds else project_directory(settings)
    write_project(settings, project)
    write_private(place / "state" / "manifest.json", _state(connection, version["code_version"]))
    with _context(settings, connection, project), _give_way(settings, version):
        dbt = ParsedProject(place, project, dbt_target(settings) / TEMPLATES)
        new = dbt.parse()
        base_manifest = old.manifest if base == version else find_manifest(settings, base["code_version"])
        scratch = Scratch(version, base, base_manifest, old, new, project)
        names = {node["name"] for node in _nodes(new).values()}
        scratch.removed = {node["name"]: node for node in _nodes(old.manifest).values() if node["name"] not in names}
        scratch.changed = _changed(dbt, old, new, rule_values(settings), own_seeds | settings.own_seeds.keys())
        unaffected = _unaffected_parts(connection, scratch)
        scratch.built = _with_children(new, scratch.changed, scratch.removed, old.manifest, unaffected)
        if select:
            scratch.selected = _needed(new, select)
            scratch.built = {name: node for name, node in scratch.built.items() if name in scratch.selected}
        if scratch.built:
            progress(f"building {len(scratch.built)} models, of which {len(scratch.changed)} changed ...")
            scratch.compiled = dbt.build(scratch.built)
    return scratch


def _nodes(manifest: Manifest) -> dict[str, Node]:
    """{unique_id: node} of what a preview may build."""
    return {
        unique_id: node
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] in BUILT_TYPES
        and node["name"] not in NOT_PREVIEWED
        and node["config"].get("enabled", True)
    }


def _changed(
    dbt: ParsedProject, old: Code, new: Manifest, rules: RuleValues, own_seeds: frozenset[str] | set[str]
) -> dict[str, Causes]:
    """{name: causes} of the models and seeds that build something else than the published version did."""
    rules_with_another_value = changed_rules(old.rules, rules)
    changed: dict[str, Causes] = {}
    suspects: dict[str, Causes] = {}
    for unique_id, node in _nodes(new).items():
        before = old.manifest["nodes"].get(unique_id)
        if before is None or _shape(before) != _shape(node):
            changed[node["name"]] = frozenset({DEFINITION})
        elif node["resource_type"] == "seed":
            if before["checksum"] != node["checksum"]:
                changed[node["name"]] = frozenset({SETTING if node["name"] in own_seeds else DEFINITION})
        elif TIME_ZONE in rules_with_another_value and keeps_rows(node):
            changed[node["name"]] = frozenset({SETTING})
        elif causes := causes_of(node, old.manifest, new, rules_with_another_value):
            suspects[node["name"]] = causes
    changed |= _withholding(old.manifest, new, old.rules, rules)
    if suspects := {name: causes for name, causes in suspects.items() if name not in changed}:
        compiled = dbt.compile(suspects)
        changed |= {
            name: causes
            for name, causes in suspects.items()
            if not is_same_sql(_without_schemas(old.compiled.get(name, "")), _without_schemas(compiled.get(name, "")))
        }
    return changed


def _shape(node: Node) -> dict[str, object]:
    """What besides its SQL decides a node's table."""
    names = (
        "materialized",
        "alias",
        "schema",
        "unique_key",
        "meta",
        "column_types",
        "quote_columns",
        "pre-hook",
        "post-hook",
    )
    return {name: node["config"].get(name) for name in names}


def _withholding(old: Manifest, new: Manifest, old_rules: RuleValues, rules: RuleValues) -> dict[str, Causes]:
    """The models whose small groups are withheld by another rule, or by a macro that was changed."""
    rule, *macros = SMALL_GROUPS
    causes = {SETTING} if old_rules.get(rule) != rules.get(rule) else set()
    if any(old["macros"].get(m, {}).get("macro_sql") != new["macros"].get(m, {}).get("macro_sql") for m in macros):
        causes.add(DEFINITION)
    if not causes or not (old_rules.get(rule) or rules.get(rule)):
        return {}
    rows = new["macros"].get(macros[1], {}).get("macro_sql", "")
    return dict.fromkeys((*WITHHOLDING_MODELS, *re.findall(r"'(\w+)':", rows)), frozenset(causes))


def _with_children(
    new: Manifest, changed: Mapping[str, Causes], removed: Mapping[str, Node], old: Manifest, unaffected: set[str]
) -> dict[str, Node]:
    """{name: node} of the changed models and seeds and everything that is made from them. unaffected: the names of models that read the
    catalogue and none of its rows that have changed."""
    nodes = _nodes(new)
    catalogue = {unique_id for unique_id, node in nodes.items() if node["name"] in (CATALOGUE, SHAPES)}
    children: dict[str, list[str]] = {}
    for unique_id in nodes:
        for parent in new["parent_map"].get(unique_id, []):
            if not (parent in catalogue and nodes[unique_id]["name"] in unaffected):
                children.setdefault(parent, []).append(unique_id)
    queue = [unique_id for unique_id, node in nodes.items() if node["name"] in changed]
    gone = {node["unique_id"] for node in removed.values()}
    queue += [i for i in nodes if i in old["nodes"] and gone & set(old["parent_map"].get(i, []))]
    visited = set(queue)
    while queue:
        for child in children.get(queue.pop(), []):
            if child not in visited:
                visited.add(child)
                queue.append(child)
    return {nodes[unique_id]["name"]: nodes[unique_id] for unique_id in visited}


def _unaffected_parts(connection: Connection, scratch: Scratch) -> set[str]:
    """The names of the metric models that define no metric whose row of the catalogue decides other values than before."""
    nodes = _nodes(scratch.new).values()
    if CATALOGUE not in scratch.changed or SHAPES in scratch.changed:
        return set()
    names = ("metric_id", *SHAPE_COLUMNS)
    rows = connection.execute(f"select {', '.join(f'{name}::text' for name in names)} from core.{CATALOGUE}").fetchall()
    before = {tuple(row[name] or "" for name in names) for row in rows}
    with (scratch.project / "seeds" / f"{CATALOGUE}.csv").open() as file:
        now = {tuple(row.get(name) or "" for name in names) for row in csv.DictReader(file)}
    redefined = {row[0] for row in before ^ now}
    parts = (n for n in nodes if (n["config"].get("meta") or {}).get("mart") == "metric_points")
    return {part["name"] for part in parts if not any(_defines(part, metric_id) for metric_id in redefined)}


def _needed(new: Manifest, select: tuple[str, ...]) -> set[str]:
    """The names of the selected models, those of the selected metrics, and what they are made from."""
    nodes = _nodes(new)
    by_name = {node["name"]: unique_id for unique_id, node in nodes.items()}
    queue = []
    for name in select:
        makers = [i for i, node in nodes.items() if _defines(node, name)]
        if name not in by_name and not makers:
            raise NorthstarError(f"there is no model, seed or metric {name!r} to preview")
        queue += [by_name[name]] if name in by_name else makers
    needed = set(queue)
    while queue:
        for parent in new["parent_map"].get(queue.pop(), []):
            if parent in nodes and parent not in needed:
                needed.add(parent)
                queue.append(parent)
    return {nodes[unique_id]["name"] for unique_id in needed}


def _defines(node: Node, metric_id: str) -> bool:
    return (node["config"].get("meta") or {}).get("mart") == "metric_points" and f"'{metric_id}':" in node["raw_code"]


def _without_schemas(text: str) -> str:
    return RELATION.sub(r"\1", text)


def _state(connection: Connection, code_version: str) -> str:
    """The manifest of the published version, from which dbt takes the names of what need not be built."""
    row = connection.execute("select manifest from audit.manifests where code_version = %s", [code_version]).fetchone()
    if row is None:
        raise NorthstarError("the published version's manifest is not kept; the next nightly run records it")
    return zlib.decompress(row["manifest"]).decode()


@contextmanager
def _context(settings: Settings, connection: Connection, project: Path) -> Iterator[None]:
    """The environment in which dbt builds: the home's warehouse, and the published run's context with the working tree's rules."""
    run = fetch_one(
        connection.execute(
            "select run_id, 'nightly' as mode, as_of::text, previous_as_of::text, since_batch_id, true as is_full, restate_from::text, "
            "restate_to::text from core.run_context"
        )
    )
    values = dbt_env(settings) | {
        "DBT_PROJECT_DIR": str(project),
        "NORTHSTAR_RUN_CONTEXT": json.dumps(run | {"rules": dict(rule_values(settings))}),
    }
    previous_values = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        with uncollected():
            yield
    finally:
        for name, value in previous_values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _give_way(settings: Settings, version: Row) -> Iterator[list[Handle]]:
    """Cancel what dbt is doing as soon as a run or a rollback begins, which then waits for no lock of the preview; gives dbt's connections.

    Raises NorthstarError if that has happened.
    """
    is_over, has_yielded = threading.Event(), threading.Event()
    with reuse_connections(None, settings.rules.reporting_time_zone) as handles:

        def watch() -> None:
            with db.connect(settings, "transformer", autocommit=True) as connection:
                while not is_over.wait(POLL_SECONDS):
                    if not _is_same_version(connection, version):
                        has_yielded.set()
                    if has_yielded.is_set():
                        for handle in handles:
                            if not handle.closed:
                                handle.cancel()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield handles
        except NorthstarError as exc:
            if has_yielded.is_set():
                raise _interrupted() from exc
            raise
        finally:
            is_over.set()
            watcher.join()
    if has_yielded.is_set():
        raise _interrupted()


def _is_same_version(connection: Connection, version: Row) -> bool:
    row = fetch_one(
        connection.execute(
            "select (select run_id from core.run_context) as run_id, (select max(published_version) from marts.publications) as published_version"
        )
    )
    return (row["run_id"], row["published_version"]) == (version["run_id"], version["published_version"])


def _require_same_version(connection: Connection, version: Row) -> None:
    if not _is_same_version(connection, version):
        raise _interrupted()


def _interrupted() -> NorthstarError:
    return NorthstarError(
        "a run began to rebuild core while the preview read it; preview again when it has ended (`northstar status` shows it)"
    )


def _require_nothing_landed(connection: Connection, version: Row) -> None:
    """Raise NorthstarError when rows have landed of which the published version does not know: the preview would count them as differences."""
    row = fetch_one(
        connection.execute(
            "select count(*) as batches from audit.landing_batches where rows_inserted + rows_updated > 0 and batch_id > "
            "(select built_batch_id from audit.runs where run_id = %s)",
            [version["run_id"]],
        )
    )
    if row["batches"]:
        raise NorthstarError(
            f"rows have landed since version {version['published_version']} was built; preview again when a run has published them"
        )


def _ensure_schema(settings: Settings) -> None:
    """Create the scratch schema in a home that was set up before there was one. Raises NorthstarError when nothing was ever published."""
    with db.connect(settings, "transformer") as connection:
        row = fetch_one(
            connection.execute(
                "select to_regclass('marts.publications') as published, to_regnamespace(%s) as scratch", [SCHEMA]
            )
        )
    if row["published"] is None:
        raise NorthstarError("nothing has been published yet; start a run with `northstar run`")
    if row["scratch"] is None:
        db.require_administrator(settings, "the first preview")
        role = sql.Identifier(db.role_name(settings, "transformer"))
        with db.connect(
            settings, "owner", autocommit=True, database=None if settings.warehouse_url else db.DATABASE
        ) as owner:
            owner.execute(
                sql.SQL("create schema if not exists {} authorization {}").format(sql.Identifier(SCHEMA), role)
            )


def drop_previews(connection: Connection) -> None:
    """Empty the scratch schema in a transaction of the administrator, if there is one: what a killed preview left names people as core does."""
    if fetch_one(connection.execute("select to_regnamespace(%s) as t", [SCHEMA]))["t"] is not None:
        act_as_owner(connection, SCHEMA)
        empty_scratch(connection)
        connection.execute("reset role")


def empty_scratch(connection: Connection) -> None:
    """Drop what is in the scratch schema, also what a killed preview left. The connection has to be that of its owner."""
    relations = connection.execute(
        "select relname as name, case relkind when 'v' then 'view' else 'table' end as kind from pg_class "
        "where relnamespace = %s::regnamespace and relkind in ('r', 'v') order by relkind desc, relname",
        [SCHEMA],
    ).fetchall()
    for row in relations:
        name = sql.Identifier(SCHEMA, row["name"])
        connection.execute(sql.SQL(f"drop {row['kind']} if exists {{}} cascade").format(name))

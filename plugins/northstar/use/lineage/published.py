"""The lineage of the published version's code. It is read from the compiled SQL once for a version of the code, and kept in the home."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

from northstar.base.errors import NorthstarError
from northstar.base.files import read_json, write_private
from northstar.base.settings import Settings
from northstar.build import lineage as module
from northstar.build.lineage import Column, Lineage, Origin, read_lineage, relation_name
from northstar.build.manifest import Manifest, find_manifest
from northstar.build.results import read_definitions
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, as_shape

# how many versions' files are kept
KEPT = 3


@dataclass(frozen=True)
class PublishedLineage:
    """The lineage of a published version, with dbt's manifest of its code."""

    version: int
    code_version: str
    lineage: Lineage
    manifest: Manifest


def published_lineage(settings: Settings, connection: Connection) -> PublishedLineage:
    """The lineage of the newest published version. Raises NorthstarError if nothing is published, or its compiled models were not kept."""
    version = connection.execute(
        "select published_version, code_version from marts.publications order by published_version desc limit 1"
    ).fetchone() if connection.execute("select to_regclass('marts.publications') as t").fetchone() else None  # fmt: skip
    if version is None:
        raise NorthstarError("nothing has been published yet; start a run with `northstar run`")
    code_version = version["code_version"]
    manifest = find_manifest(settings, code_version)
    if manifest is None:
        raise NorthstarError(
            f"the manifest of version {version['published_version']} was not kept; the next nightly run writes one"
        )
    return PublishedLineage(
        version["published_version"],
        code_version,
        _kept_or_read(settings, connection, code_version, manifest),
        manifest,
    )


def keep_lineage(settings: Settings) -> None:
    """Read the published version's lineage now, if it is not kept yet, so that the pages have it. Raises as `published_lineage` does."""
    with db.translate_driver_errors(settings), db.connect(settings, "transformer") as connection:
        published_lineage(settings, connection)


def kept_lineage(settings: Settings, code_version: str) -> Lineage | None:
    """The lineage of a version of the code as far as this home has kept it, for who may not read how models were compiled."""
    path = _path(settings, code_version)
    return _read(path, path.stat().st_mtime_ns) if path.exists() else None


@lru_cache(maxsize=1)
def _read(path: Path, changed_at: int) -> Lineage | None:
    kept = read_json(path)
    return None if kept is None else _unpack(as_shape(_Kept, kept))


def _kept_or_read(settings: Settings, connection: Connection, code_version: str, manifest: Manifest) -> Lineage:
    path = _path(settings, code_version)
    kept = kept_lineage(settings, code_version)
    if kept is not None:
        return kept
    compiled = read_definitions(connection, code_version)
    if not compiled:
        raise NorthstarError(
            "no build has recorded yet how the models were compiled; the next nightly run does (`northstar run` or the DAG)"
        )
    lineage = read_lineage(compiled, *relations_of(connection, manifest))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    write_private(path, json.dumps(_pack(lineage)))
    for old in sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    return lineage


def relations_of(connection: Connection, manifest: Manifest) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
    """({model: `schema.name`}, {what no model makes: its columns}, the calendars) of a manifest and the warehouse."""
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    relations = {node["name"]: relation_name(node["schema"], node["alias"]) for node in models}
    made = set(relations.values())
    rows = connection.execute(
        "select n.nspname || '.' || c.relname as relation, array_agg(a.attname::text order by a.attnum) as columns from pg_attribute as a "
        "join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace "
        "where n.nspname in ('staging', 'core', 'audit') and c.relkind in ('r', 'p', 'v') and a.attnum > 0 and not a.attisdropped group by 1"
    ).fetchall()
    calendars = {relations[node["name"]] for node in models if node["config"].get("is_calendar")}
    # what is made of a calendar alone is one
    calendars |= {
        relations[node["name"]]
        for node in models
        if node["depends_on"]["nodes"] and all(
            relations.get(name.rsplit(".", 1)[1]) in calendars for name in node["depends_on"]["nodes"]
        )
    }  # fmt: skip
    return (
        relations,
        {row["relation"]: row["columns"] for row in rows if row["relation"] not in made},
        sorted(calendars),
    )


def _path(settings: Settings, code_version: str) -> Path:
    # with the code that reads the SQL: another release may follow more of it
    source = Path(module.__file__).read_bytes()
    digest = hashlib.sha256(code_version.encode() + source).hexdigest()[:32]
    return settings.home / "dbt" / "lineage" / f"{digest}.json"


class _Kept(TypedDict):
    """A lineage with each column's name written once: (name, values, rows) of each column, by the names' places."""

    names: list[tuple[str, str]]
    columns: list[tuple[int, list[int], list[int]]]
    not_followed: dict[str, list[str]]


def _pack(lineage: Lineage) -> _Kept:
    names = sorted({o for name, column in lineage.columns.items() for o in (name, *column.values, *column.rows)})
    place = {origin: n for n, origin in enumerate(names)}
    columns = [
        (place[name], sorted(place[o] for o in column.values), sorted(place[o] for o in column.rows))
        for name, column in sorted(lineage.columns.items())
    ]
    return {"names": list(names), "columns": columns, "not_followed": lineage.not_followed}


def _unpack(kept: _Kept) -> Lineage:
    names = [Origin(relation, column) for relation, column in kept["names"]]
    columns = {
        names[name]: Column(frozenset(names[n] for n in values), frozenset(names[n] for n in rows))
        for name, values, rows in kept["columns"]
    }
    return Lineage(columns, kept["not_followed"])

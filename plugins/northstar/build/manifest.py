"""dbt's manifest, which describes what dbt built. It is in the home that built last, and in `audit.manifests` for other machines."""

import json
import shutil
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

from northstar.base.errors import NorthstarError
from northstar.base.files import read_json, read_word, write_private
from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import as_shape

# the files of a home's target directory: dbt's own two, those that say of which version they are, and what Jinja compiled (northstar.build.lean)
MANIFEST, PARSE, CODE, PROJECT = "manifest.json", "partial_parse.msgpack", "code_version", "project_version"
TEMPLATES = "templates"

# a node of dbt's manifest. Any: it has too many fields to describe, and they change with dbt's versions
Node = dict[str, Any]


class Manifest(TypedDict):
    """dbt's manifest: the fields that are read here. parent_map: {unique_id: the unique_ids of what it reads}."""

    nodes: dict[str, Node]
    macros: dict[str, Node]
    exposures: dict[str, Node]
    metrics: dict[str, Node]
    semantic_models: dict[str, Node]
    parent_map: dict[str, list[str]]


def dbt_target(settings: Settings) -> Path:
    """The directory in which dbt writes its manifest and results for this home."""
    return settings.home / "dbt" / "target"


def read_manifest(settings: Settings) -> Manifest:
    """dbt's manifest for the code of the last run that was opened. It is cached: do not change it. Raises NorthstarError if nothing was built."""
    with db.connect(settings, "transformer") as connection:
        run = connection.execute("select code_version from audit.runs order by run_id desc limit 1").fetchone()
    manifest = None if run is None else find_manifest(settings, run["code_version"])
    if manifest is None:
        raise NorthstarError("there is no complete manifest: nothing was built yet; start a run")
    return manifest


def find_manifest(settings: Settings, code_version: str) -> Manifest | None:
    """dbt's manifest for a version of the code, from whichever machine built with it; None if none has."""
    if is_current(settings, code_version):
        return _read_own(settings)
    return _read_shared(settings, code_version)


def _read_own(settings: Settings) -> Manifest | None:
    path = dbt_target(settings) / MANIFEST
    if not path.exists():
        return None
    state = path.stat()
    return _parse(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _parse(path: Path, changed_at: int, size: int) -> Manifest | None:
    manifest = read_json(path)
    return None if manifest is None else as_shape(Manifest, manifest)


@lru_cache(maxsize=1)
def _unpack(packed: bytes) -> Manifest:
    manifest: Manifest = json.loads(zlib.decompress(packed))
    return manifest


def _read_shared(settings: Settings, code_version: str) -> Manifest | None:
    with db.connect(settings, "transformer") as connection:
        row = connection.execute(
            "select manifest from audit.manifests where code_version = %s", [code_version]
        ).fetchone()
    return None if row is None else _unpack(row["manifest"])


def is_current(settings: Settings, code_version: str) -> bool:
    """Whether the manifest in the home is the one that `record_versions` recorded for this version of the code."""
    is_recorded = read_word(dbt_target(settings) / CODE) == f"{code_version} {_times(settings, MANIFEST)}"
    return is_recorded and _read_own(settings) is not None


def is_parsed(settings: Settings, project_version: str) -> bool:
    """Whether the manifest and the parse in the home are those recorded for this version of the project, by whatever rules it was built."""
    is_recorded = read_word(dbt_target(settings) / PROJECT) == f"{project_version} {_times(settings, MANIFEST, PARSE)}"
    return is_recorded and _read_own(settings) is not None


def record_versions(settings: Settings, code_version: str, project_version: str) -> None:
    """Record to which version of the code, and of the project alone, the manifest and the parse in the home belong."""
    write_private(dbt_target(settings) / CODE, f"{code_version} {_times(settings, MANIFEST)}")
    write_private(dbt_target(settings) / PROJECT, f"{project_version} {_times(settings, MANIFEST, PARSE)}")


def copy_parse(origin: Path, target: Path) -> None:
    """Copy what dbt and Jinja made of a project from one home's target directory to another's. Both parse the same project, in a database of the same name."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (PARSE, MANIFEST, CODE, PROJECT, TEMPLATES):
        # what Jinja compiled could perhaps not be kept
        if (origin / name).exists():
            # with its time, which the versions' files name
            shutil.copy2(origin / name, target / name)


def share_manifest(settings: Settings, code_version: str) -> None:
    """Store the home's manifest in the warehouse, for a machine that publishes what this one built."""
    with db.connect(settings, "transformer", autocommit=True) as connection:
        shared_row = connection.execute(
            "select 1 from audit.manifests where code_version = %s", [code_version]
        ).fetchone()
        if not shared_row:
            packed = zlib.compress((dbt_target(settings) / MANIFEST).read_bytes())
            connection.execute(
                "insert into audit.manifests (code_version, manifest) values (%s, %s) on conflict do nothing",
                [code_version, packed],
            )


def _times(settings: Settings, *names: str) -> str:
    # whoever calls dbt writes these files too
    paths = [dbt_target(settings) / name for name in names]
    return " ".join(str(path.stat().st_mtime_ns if path.exists() else None) for path in paths)

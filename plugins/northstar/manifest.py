"""What dbt built, as its artefacts in a home tell it."""

import json
from functools import lru_cache
from pathlib import Path

from northstar.errors import NorthstarError
from northstar.settings import Settings


def dbt_target(settings: Settings) -> Path:
    """Where dbt writes its manifest and results for this home."""
    return settings.home / "dbt" / "target"


def read_manifest(settings: Settings) -> dict:
    """dbt's manifest of the last build; nobody may change it. Raises NorthstarError when nothing was built."""
    path = dbt_target(settings) / "manifest.json"
    if not path.exists():
        raise NorthstarError(f"no manifest in {path.parent}: nothing was built; start a run")
    state = path.stat()
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _read(path: Path, changed_at: int, size: int) -> dict:
    return json.loads(path.read_text())


def is_current(settings: Settings, code_version: str) -> bool:
    """Whether the manifest that lies there is the one that `note_version` noted for this version of the code."""
    mark = _mark(settings)
    return mark.exists() and mark.read_text() == _noted(settings, code_version)


def note_version(settings: Settings, code_version: str) -> None:
    """Note which version of the code the manifest that was just written is of."""
    _mark(settings).write_text(_noted(settings, code_version))


def _mark(settings: Settings) -> Path:
    return dbt_target(settings) / "code_version"


def _noted(settings: Settings, code_version: str) -> str:
    # others write the manifest as well: whoever calls dbt
    path = dbt_target(settings) / "manifest.json"
    return f"{code_version} {path.stat().st_mtime_ns if path.exists() else None}"

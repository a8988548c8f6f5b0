"""What dbt built, as its artefacts in a home tell it."""

from functools import lru_cache
from pathlib import Path

from northstar.errors import NorthstarError
from northstar.files import read_json, read_word, write_private
from northstar.settings import Settings


def dbt_target(settings: Settings) -> Path:
    """Where dbt writes its manifest and results for this home."""
    return settings.home / "dbt" / "target"


def read_manifest(settings: Settings) -> dict:
    """dbt's manifest of the last build; nobody may change it. Raises NorthstarError when nothing was built."""
    found = _whole_manifest(settings)
    if found is None:
        raise NorthstarError(f"no whole manifest in {dbt_target(settings)}: nothing was built; start a run")
    return found


def _whole_manifest(settings: Settings) -> dict | None:
    path = dbt_target(settings) / "manifest.json"
    if not path.exists():
        return None
    state = path.stat()
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _read(path: Path, changed_at: int, size: int) -> dict | None:
    return read_json(path)


def is_current(settings: Settings, code_version: str) -> bool:
    """Whether the manifest that lies there is the one that `note_version` noted for this version of the code."""
    is_noted = read_word(_mark(settings)) == _noted(settings, code_version)
    return is_noted and _whole_manifest(settings) is not None


def note_version(settings: Settings, code_version: str) -> None:
    """Note which version of the code the manifest that was just written is of."""
    write_private(_mark(settings), _noted(settings, code_version))


def _mark(settings: Settings) -> Path:
    return dbt_target(settings) / "code_version"


def _noted(settings: Settings, code_version: str) -> str:
    # others write the manifest as well: whoever calls dbt
    path = dbt_target(settings) / "manifest.json"
    return f"{code_version} {path.stat().st_mtime_ns if path.exists() else None}"

"""The version of the code that decides the numbers."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib.metadata import version

from northstar.base.settings import Settings


def code_version(settings: Settings) -> str:
    """A digest of what decides the numbers: the dbt project, the business rules, the home's own seeds, and the dbt that builds."""
    rules = json.dumps(settings.rules.model_dump(mode="json"), sort_keys=True)
    return _digest([rules.encode(), *_project(settings)])


def project_version(settings: Settings) -> str:
    """A digest of what dbt parses: as `code_version`, without the rules, which the project reads when it is built."""
    return _digest(_project(settings))


def _project(settings: Settings) -> Iterator[bytes]:
    project = settings.root / "dbt_project"
    for package in ("dbt-core", "dbt-postgres"):
        yield f"{package} {version(package)}".encode()
    # hooks, schemas, materializations and the types of seeds
    yield (project / "dbt_project.yml").read_bytes()
    for folder in ("models", "macros", "seeds"):
        for path in sorted((project / folder).rglob("*")):
            # documentation and unit tests decide no number
            if path.is_file() and path.suffix != ".md" and path.name != "_unit_tests.yml":
                yield str(path.relative_to(project)).encode() + path.read_bytes()
    for name, text in sorted(settings.own_seeds.items()):
        yield f"own {name} ".encode() + text.encode()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]

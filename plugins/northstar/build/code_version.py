"""The version of the code that decides the numbers."""

import hashlib
import json
from importlib.metadata import version

from northstar.base.settings import Settings


def code_version(settings: Settings) -> str:
    """A digest of what decides the numbers: the dbt project, the business rules, the home's own seeds, and the dbt that builds."""
    digest = hashlib.sha256(json.dumps(settings.rules.model_dump(mode="json"), sort_keys=True).encode())
    project = settings.root / "dbt_project"
    for package in ("dbt-core", "dbt-postgres"):
        digest.update(f"{package} {version(package)}".encode())
    # hooks, schemas, materializations and the types of seeds
    digest.update((project / "dbt_project.yml").read_bytes())
    for folder in ("models", "macros", "seeds"):
        for path in sorted((project / folder).rglob("*")):
            # documentation and unit tests decide no number
            if path.is_file() and path.suffix != ".md" and path.name != "_unit_tests.yml":
                digest.update(str(path.relative_to(project)).encode() + path.read_bytes())
    for name, text in sorted(settings.own_seeds.items()):
        digest.update(f"own {name} ".encode() + text.encode())
    return digest.hexdigest()[:16]

"""A dbt project of a few models that a test writes, with Northstar's own macros and materializations."""

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from northstar.base.collector import uncollected
from northstar.base.settings import Settings
from northstar.build import lean
from northstar.build.dbt import dbt_env
from tests import parsed_project


@dataclass
class SmallProject:
    """models: where a test writes them, in folders as in the project (`core/days.sql`). build() needs the environment of `environment`."""

    models: Path
    environment: dict[str, str]

    def write(self, name: str, text: str) -> None:
        """Write a model or its YAML."""
        path = self.models / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def build(self, model: str, *words: str) -> str:
        """Build one model; returns what dbt says of it, on one line."""
        from dbt.cli.main import dbtRunner

        kept = Path(os.environ[parsed_project.VARIABLE]) / "small"
        kept.mkdir(exist_ok=True)
        # as a build of a run does
        with uncollected(), lean.without_what_nobody_reads(kept / "templates", "small"):
            done = dbtRunner().invoke(["run", "--select", model, "--quiet", *words])
        assert done.result is not None, done.exception
        return " ".join(next(r.message for r in done.result.results if r.node.name == model).split())


def small_project(warehouse: Settings, directory: Path, context: dict, staging: tuple[str, ...] = ()) -> SmallProject:
    """A project without models, in a warehouse. context: of the run, for the models; staging: the entities whose views it has."""
    project, whole = directory / "checkout" / "dbt_project", warehouse.root / "dbt_project"
    shutil.copytree(whole / "macros", project / "macros")
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(whole / name, project)
    (project / "models").mkdir()
    if staging:
        (project / "models" / "staging").mkdir()
        # what the views' YAML quotes
        shutil.copy(whole / "models" / "columns.md", project / "models")
        for name in ("_staging.yml", *(f"stg_{entity}.sql" for entity in staging)):
            shutil.copy(whole / "models" / "staging" / name, project / "models" / "staging")
    environment = {
        **dbt_env(replace(warehouse, root=directory / "checkout")),
        "NORTHSTAR_RUN_CONTEXT": json.dumps(context),
        "DBT_TARGET_PATH": str(directory / "target"),
    }
    return SmallProject(project / "models", environment)

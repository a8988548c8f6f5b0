"""dbt builds a part of the project in the target `preview`, beside the tables of another version, which it reads for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from northstar.base.collector import uncollected
from northstar.base.errors import NorthstarError
from northstar.base.files import read_json
from northstar.build.dbt import describe_failure
from northstar.build.lean import without_what_nobody_reads
from northstar.build.manifest import Manifest
from northstar.warehouse.rows import as_shape

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest as DbtManifest


@dataclass(frozen=True)
class Result:
    """What dbt did with a node. sql: as a model was compiled, else None."""

    name: str
    status: str
    message: str
    sql: str | None


class ParsedProject:
    """The working tree's project, which dbt parses once and then compiles and builds in parts."""

    def __init__(self, place: Path, directory: Path, templates: Path):
        """place: the directory of dbt's files; `state/manifest.json` in it is the manifest of what stands. directory: the dbt project.

        templates: what Jinja compiled in the home's runs.
        """
        self._place, self._directory, self._templates = place, directory, templates
        self._project: DbtManifest | None = None

    def parse(self) -> Manifest:
        """Parse the project; returns its manifest."""
        self._invoke(["parse"])
        manifest = read_json(self._place / "target" / "manifest.json")
        if manifest is None:
            raise NorthstarError(f"dbt left no manifest in {self._place / 'target'}")
        return as_shape(Manifest, manifest)

    def compile(self, names: Iterable[str]) -> dict[str, str]:
        """{name: SQL} of models as they are compiled now."""
        results = self._invoke(["compile", "--full-refresh", *self._selection(names)])
        return {result.name: result.sql for result in results if result.sql is not None}

    def build(self, names: Iterable[str]) -> dict[str, str]:
        """Build models and seeds; returns {name: SQL} of the models. Raises NorthstarError naming the first that failed."""
        types = [word for kind in ("test", "unit_test", "exposure") for word in ("--exclude-resource-type", kind)]
        results = self._invoke(["build", "--full-refresh", *types, *self._selection(names)])
        failed = [result for result in results if result.status not in ("success", "skipped")]
        if failed:
            raise NorthstarError(f"{failed[0].name} failed: {' '.join(failed[0].message.split())[:600]}")
        return {result.name: result.sql for result in results if result.sql is not None}

    def _selection(self, names: Iterable[str]) -> list[str]:
        state = str(self._place / "state")
        return ["--select", *sorted(names), "--defer", "--favor-state", "--state", state]

    def _invoke(self, words: list[str]) -> list[Result]:
        from dbt.artifacts.schemas.run import RunExecutionResult
        from dbt.cli.main import dbtRunner
        from dbt.contracts.graph.manifest import Manifest as DbtManifest
        from dbt.contracts.graph.nodes import ModelNode

        write = [] if words[0] == "parse" else ["--no-write-json"]
        target = ["--target", "preview", "--target-path", str(self._place / "target")]
        # dbt prints what it compiles
        with redirect_stdout(StringIO()), without_what_nobody_reads(self._templates, "", False), uncollected():
            outcome = dbtRunner(manifest=self._project).invoke([*words, *target, "--quiet", "--no-use-colors", *write])
        if outcome.exception is not None:
            raise NorthstarError(describe_failure(self._directory, str(outcome.exception)))
        if isinstance(outcome.result, DbtManifest):
            self._project = outcome.result
        if not isinstance(outcome.result, RunExecutionResult):
            return []
        return [
            Result(
                result.node.name,
                str(result.status),
                result.message or "",
                result.node.compiled_code if isinstance(result.node, ModelNode) else None,
            )
            for result in outcome.result.results
        ]

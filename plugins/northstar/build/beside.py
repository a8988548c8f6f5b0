"""dbt builds a part of the project in the target `preview`, beside the tables of another version, which it reads for the rest."""

from collections.abc import Iterable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from northstar.base.errors import NorthstarError
from northstar.base.files import read_json
from northstar.build.manifest import Manifest
from northstar.warehouse.rows import as_shape


class ParsedProject:
    """The working tree's project, which dbt parses once and then compiles and builds in parts."""

    def __init__(self, place: Path):
        """place: the directory of dbt's files; `state/manifest.json` in it is the manifest of what stands."""
        self._place = place
        # Any: dbt's parsed project
        self._project: Any = None

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
        return {r.node.name: r.node.compiled_code for r in results if r.node.compiled_code}

    def build(self, names: Iterable[str]) -> dict[str, str]:
        """Build models and seeds; returns {name: SQL} of the models."""
        types = [word for kind in ("test", "unit_test", "exposure") for word in ("--exclude-resource-type", kind)]
        results = self._invoke(["build", "--full-refresh", *types, *self._selection(names)])
        failed = [r for r in results if r.status not in ("success", "skipped")]
        if failed:
            message = " ".join(str(failed[0].message).split())
            raise NorthstarError(f"{failed[0].node.resource_type} {failed[0].node.name} failed: {message[:600]}")
        return {r.node.name: r.node.compiled_code for r in results if r.node.resource_type == "model"}

    def _selection(self, names: Iterable[str]) -> list[str]:
        state = str(self._place / "state")
        return ["--select", *sorted(names), "--defer", "--favor-state", "--state", state]

    # Any: dbt's results have no types
    def _invoke(self, words: list[str]) -> list[Any]:
        from dbt.artifacts.schemas.run import RunExecutionResult
        from dbt.cli.main import dbtRunner

        write = [] if words[0] == "parse" else ["--no-write-json"]
        options = [
            "--target",
            "preview",
            "--target-path",
            str(self._place / "target"),
            "--quiet",
            "--no-use-colors",
            *write,
        ]
        # dbt prints what it compiles
        with redirect_stdout(StringIO()):
            outcome = dbtRunner(manifest=self._project).invoke([*words, *options])
        if outcome.exception is not None:
            raise NorthstarError(f"dbt could not run: {' '.join(str(outcome.exception).split())[:600]}")
        if words[0] == "parse":
            self._project = outcome.result
        return list(outcome.result.results) if isinstance(outcome.result, RunExecutionResult) else []

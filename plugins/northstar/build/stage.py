"""Stage 2, `build`, as the DAGs and the command line call it."""

import socket

from northstar.base.collector import uncollected
from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.build.code_version import code_version
from northstar.build.dbt import OnEvent, context_in_environment, run_dbt
from northstar.build.dbt_connections import reuse_connections
from northstar.build.lean import compile_classes_when_used
from northstar.build.manifest import Node, find_manifest, share_manifest
from northstar.build.own_seeds import unknown_names
from northstar.build.results import read_definitions, record_build
from northstar.build.spot_check import check_drawn
from northstar.build.structure import check_files, check_metrics, check_removals, raise_for
from northstar.build.unchanged import create_empty_logs, not_rebuilt_nodes, unchanged_nodes
from northstar.build.wide import hand_over, handed_over
from northstar.warehouse import db
from northstar.warehouse.rows import Run
from northstar.warehouse.stages import run_stage


def build(
    settings: Settings, run_id: int, progress: Progress = print, callback: OnEvent | None = None
) -> dict[str, float]:
    """Build core and candidate marts with dbt, in this process; returns {model name: seconds}.

    callback: is called with each of dbt's events as it comes.
    Raises NorthstarError when a node fails, when not all nodes that the run has to build were built, or for what northstar.build.structure finds.
    """
    with run_stage(settings, run_id, "build") as run:
        _require_same_code(settings, run)
        unchanged: dict[str, Node] = {}
        # of which a home's own project, if it has one, is links and its own seeds
        project = settings.root / "dbt_project"
        if run["is_full"]:
            with db.connect(settings, "transformer") as connection:
                raise_for(check_files(project) + check_removals(project, connection))
            arguments = ["--full-refresh"]
            if run["rebuilds"] and (manifest := find_manifest(settings, run["code_version"])) is not None:
                unchanged = not_rebuilt_nodes(manifest, run["rebuilds"])
        else:
            manifest = find_manifest(settings, run["code_version"])
            if manifest is not None:
                unchanged = unchanged_nodes(settings, run, manifest)
                create_empty_logs(settings, unchanged)
            # the code is that of the published version, so seeds and views, which depend on code alone, need not be built
            arguments = ["--exclude-resource-type", "seed", "--exclude", "config.materialized:view"]
        command = ["build", "--exclude-resource-type", "unit_test", "--exclude-resource-type", "exposure", *arguments]
        compile_classes_when_used()
        with (
            handed_over(settings, run, progress) as models,
            context_in_environment(settings, models),
            uncollected(),
            reuse_connections(run_id, settings.rules.reporting_time_zone),
        ):
            run_dbt(settings, command, run["code_version"], callback, unchanged)
        share_manifest(settings, run["code_version"])
        if run["is_full"]:
            with db.connect(settings, "transformer") as connection:
                for warning in unknown_names(settings, connection):
                    progress(f"warning: {warning}")
        seconds = record_build(settings, run_id, progress, unchanged)
        if models:
            check_drawn(settings, run, models, progress)
        if run["is_full"]:
            with db.connect(settings, "transformer") as connection:
                raise_for(check_metrics(project, read_definitions(connection, run["code_version"])))
        return seconds


def build_wide_models(settings: Settings, run_id: int, progress: Progress = print) -> list[str]:
    """Have Spark build the models with the tag `wide`, for `build` of the same run, which would do it otherwise; returns the models.

    A stage of its own: where Spark is lost, it can be done again before anything else is built. Raises NorthstarError as `handed_over` does.
    """
    with run_stage(settings, run_id, "spark") as run:
        _require_same_code(settings, run)
        return hand_over(settings, run, progress) if run["is_full"] else []


def _require_same_code(settings: Settings, run: Run) -> None:
    """Raise NorthstarError if this machine has other models or rules than the one that opened the run, or if they have changed since."""
    if (here := code_version(settings)) != run["code_version"]:
        raise NorthstarError(
            f"the models or rules changed since run {run['run_id']} began, or this machine ({socket.gethostname()}) has others than the one "
            f"that opened it ({here}, not {run['code_version']}): bring all to the same release and configuration, then start a new run"
        )

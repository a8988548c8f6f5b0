"""MetricFlow over the published marts: `northstar mf query --metrics mrr --group-by metric_time__month`.

MetricFlow reads `target/semantic_manifest.json` of the directory it runs in, so each home has a directory of its own with links
to the project. With the dbt target `marts` and the role bi_reader it reads only what is published.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.build.dbt import dbt_env
from northstar.warehouse import db
from northstar.warehouse.rows import fetch_one

# its command line would ask the package index for a newer version each time
MF = (
    "import update_checker; update_checker.UpdateChecker.check = lambda *_, **__: None; "
    "from dbt_metricflow.cli.main import cli; cli(prog_name='mf')"
)
LINKED = ("dbt_project.yml", "profiles.yml", "models", "macros", "seeds", "tests")


# Any: `subprocess.run` takes options of many types, and gives bytes or text by them
def metricflow(settings: Settings, arguments: list[str], **options: Any) -> "subprocess.CompletedProcess[Any]":
    """Run MetricFlow's command line on this home's published marts; options go to `subprocess.run`.

    Raises NorthstarError when nothing is published or the project cannot be parsed.
    """
    with db.connect(settings, "bi_reader") as connection:
        if fetch_one(connection.execute("select to_regclass('marts.metric_values') as t"))["t"] is None:
            raise NorthstarError("nothing has been published yet; start a run with `northstar run`")
    directory = _directory(settings)
    environment = os.environ | _environment(settings, directory)
    programs = Path(sys.executable).parent
    parsed = subprocess.run(
        [programs / "dbt", "parse", "--quiet"], cwd=directory, env=environment, capture_output=True, text=True
    )
    if parsed.returncode:
        raise NorthstarError(
            f"dbt could not parse the project: {' '.join((parsed.stdout + parsed.stderr).split())[:400]}"
        )
    return subprocess.run([sys.executable, "-c", MF, *arguments], cwd=directory, env=environment, **options)


def _directory(settings: Settings) -> Path:
    directory = settings.home / "dbt" / "metricflow"
    directory.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        link, place = directory / name, settings.root / "dbt_project" / name
        if place.exists() and not (link.is_symlink() and link.resolve() == place.resolve()):
            link.unlink(missing_ok=True)
            link.symlink_to(place)
    return directory


def _environment(settings: Settings, directory: Path) -> dict[str, str]:
    return dbt_env(settings, "bi_reader") | {
        "NORTHSTAR_DBT_TARGET": "marts",
        "DBT_PROJECT_DIR": str(directory),
        "DBT_PROFILES_DIR": str(directory),
        "DBT_TARGET_PATH": str(directory / "target"),
    }

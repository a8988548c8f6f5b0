"""What pyproject.toml cannot say: a wheel carries the folders at the top of the repository that Northstar runs on, as northstar/_project.

In a checkout northstar.base.settings finds the folders themselves, so an editable installation copies nothing.
"""

from pathlib import Path
from shutil import copyfile, rmtree

from setuptools import setup
from setuptools.command.build_py import build_py

# folders, and files by themselves: Airflow looks for its plugins beside the package, alerts link to their runbook, the pages show the docs of those who read numbers, and `northstar mapping guess` knows the recognised exports
CARRIED = (
    "dags",
    "dbt_project",
    "docs/bi_tools.md",
    "docs/glossary.md",
    "docs/pages_reports_alerts.md",
    "docs/runbooks.md",
    "docs/semantics.md",
    "expectations",
    "mappings",
    "plugins/.airflowignore",
    "plugins/airflow_local_settings.py",
    "plugins/northstar_plugin.py",
)
# what dbt, Python and who works in the checkout leave there
LEFT_OUT = ("dbt_project/target", "dbt_project/logs", "dbt_project/.user.yml")


def carried_files() -> list[str]:
    """The files that a wheel carries, as paths below the top of the repository."""
    found = []
    for name in CARRIED:
        place = Path(name)
        found += [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return sorted(
        str(path) for path in found if "__pycache__" not in path.parts and not any(map(path.is_relative_to, LEFT_OUT))
    )


class BuildWithProject(build_py):
    """Setuptools' step that copies a wheel's files together, with those at the top of the repository."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        # setuptools keeps what an earlier build put there: a module or a model that was removed since would be in the wheel
        rmtree(self.build_lib, ignore_errors=True)
        super().run()
        target = Path(self.build_lib) / "northstar" / "_project"
        for name in carried_files():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            copyfile(name, target / name)

    def get_source_files(self) -> list[str]:
        """What a source distribution holds: a wheel is built from one as well."""
        return [*super().get_source_files(), *carried_files()]


setup(cmdclass={"build_py": BuildWithProject})

"""What is built is what runs: a wheel, installed where there is no checkout, makes a home, publishes and answers."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from northstar.base.settings import ROOT
from tests.project.test_packaging import PROJECT
from tests.support import write_rows

# what a clone has of it; what is made while working there is left out
PARTS = (
    "pyproject.toml",
    "setup.py",
    "README.md",
    "plugins",
    "dags",
    "dbt_project",
    "expectations",
    "mappings",
    "docs",
)
LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.egg-info", "target", "logs", ".user.yml")
PACKAGE, PROJECT_COPY = "northstar/", "northstar/_project/"
CHARGE = {
    "charge_id": "c1", "account_id": "a1", "application": "web", "amount": 100, "currency": "USD", "status": "succeeded",
    "created_at": "2025-03-05T00:00:00Z", "updated_at": "2025-03-05T00:00:00Z",
}  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy that may be built in: a build leaves directories behind."""
    place = tmp_path_factory.mktemp("checkout")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, place / part, ignore=LEFTOVERS)
        else:
            shutil.copy(ROOT / part, place / part)
    return place


@pytest.fixture(scope="module")
def wheel(checkout) -> Path:
    """A wheel of what the source distribution holds, made with what is installed and without the network."""
    # leftovers of work in a checkout, which no wheel may carry
    for leftover in ("dbt_project/target/manifest.json", "dbt_project/.user.yml", "dags/__pycache__/old.pyc"):
        leave(checkout / leftover)
    return build(checkout, checkout / "dist")


def leave(leftover: Path) -> None:
    leftover.parent.mkdir(parents=True, exist_ok=True)
    leftover.write_text("{}")


def build(checkout: Path, target: Path, *options: str) -> Path:
    command = [str(Path(sys.executable).parent / "uv"), "build", "--offline", "--no-build-isolation", "--quiet"]
    command += ["--python", sys.executable, "--out-dir", str(target), *options, str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    [wheel] = target.glob("*.whl")
    return wheel


def environment() -> dict[str, str]:
    """This process' environment without what would lead to the checkout or to a home."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "NORTHSTAR_HOME")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def below(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not {"__pycache__", "target", "logs"} & set(path.parts) and path.name != ".user.yml"
    }


def test_a_wheel_has_every_file_of_the_package_and_of_the_project_and_no_other(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {name.removeprefix(PACKAGE) for name in names if not name.startswith(PROJECT_COPY)}
    assert package == below(ROOT / "plugins" / "northstar")
    carried = {name.removeprefix(PROJECT_COPY) for name in names if name.startswith(PROJECT_COPY)}
    expected = {
        f"{folder}/{name}"
        for folder in ("dags", "dbt_project", "expectations", "mappings")
        for name in below(ROOT / folder)
    }
    beside = {
        "plugins/airflow_local_settings.py",
        "plugins/northstar_plugin.py",
        "plugins/.airflowignore",
        "docs/bi_tools.md",
        "docs/glossary.md",
        "docs/pages_reports_alerts.md",
        "docs/runbooks.md",
        "docs/semantics.md",
    }
    assert carried == expected | beside


def test_a_wheel_that_is_built_in_the_checkout_has_nothing_of_an_earlier_build(wheel, checkout, tmp_path):
    for leftover in ("removed.py", "_project/dbt_project/models/core/removed.sql"):
        leave(checkout / "build" / "lib" / "northstar" / leftover)
    directly = build(checkout, tmp_path, "--wheel")
    assert zipfile.ZipFile(directly).namelist() == zipfile.ZipFile(wheel).namelist()


def test_a_wheel_says_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        about = message_from_bytes(archive.read(name))
    assert set(map(Requirement, about.get_all("Requires-Dist"))) == set(
        map(Requirement, PROJECT["project"]["dependencies"])
    )


@dataclass
class Installation:
    """A virtual environment with the wheel and the packages of this one, and a directory to work in that is no checkout."""

    venv: Path
    directory: Path

    def __call__(self, program: str, *arguments: str) -> subprocess.CompletedProcess:
        command = [str(self.venv / "bin" / program), *arguments]
        return subprocess.run(
            command,
            cwd=self.directory,
            env=environment() | {"HOME": str(self.directory)},
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def installation(wheel):
    # a short path outside pytest's own private directory: the server may run as another user
    with tempfile.TemporaryDirectory(prefix="northstar-wheel-", ignore_cleanup_errors=True) as directory:
        place = Path(directory)
        place.chmod(0o755)
        # somebody else's repository, whose commits say nothing of what is installed in it
        git = ["git", "-C", str(place), "-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        subprocess.run([*git, "init", "--quiet"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "another project"], check=True)
        venv.create(place / "venv", with_pip=False, symlinks=True)
        uv = Path(sys.executable).parent / "uv"
        subprocess.run(
            [str(uv), "pip", "install", "--offline", "--quiet", "--no-deps", "--python", str(place / "venv" / "bin" / "python"), str(wheel)],
            check=True, env=environment(),
        )  # fmt: skip
        packages = place / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        # a directory that a .pth file names comes after the environment's own, and its .pth files, such as the one that leads to the
        # checkout, are not read
        (packages / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (place / "work").mkdir()
        installed = Installation(place / "venv", place / "work")
        yield installed
        installed("northstar", "stop", "--home", str(place / "home"))


def test_an_installed_wheel_runs_without_a_checkout(installation):
    home, venv_place = installation.venv.parent / "home", installation.venv.resolve()
    said = installation(
        "python", "-c", "from northstar.base import settings as s; print(s.__file__, s.ROOT, s.DEFAULT_HOME)"
    )
    module, root, default_home = said.stdout.split()
    assert Path(module).resolve().is_relative_to(venv_place) and Path(root).resolve().is_relative_to(venv_place), said
    assert default_home == "~/.northstar"

    new = installation("northstar", "doctor", "--home", str(home))
    assert new.returncode == 1 and not new.stderr, new
    assert [line.split()[1] for line in new.stdout.splitlines() if line.startswith("WRONG")] == ["server"], new.stdout

    source = write_rows(installation.directory / "source", {"charges": [CHARGE]})
    run = installation(
        "northstar", "run", "--source-dir", str(source), "--as-of", "2025-03-15T00:00:00Z", "--home", str(home)
    )
    assert run.returncode == 0, run.stdout + run.stderr
    answer = installation(
        "northstar", "sql", "select charge_id from fct_payments", "--format", "csv", "--home", str(home)
    )
    assert answer.stdout.split() == ["charge_id", "c1"], answer
    answer = installation(
        "northstar", "sql", "select code_commit is null from certificates", "--format", "csv", "--home", str(home)
    )
    assert answer.stdout.split()[1:] == ["true"], answer
    # the reports' templates and figures, and the rules of alerts, are files of the package
    report = installation("northstar", "report", "monthly", "--html", "report.html", "--home", str(home))
    assert report.returncode == 0 and (installation.directory / "report.html").exists(), report
    alerts = installation("northstar", "alerts", "evaluate", "--home", str(home))
    assert alerts.returncode == 0, alerts
    # nothing is written among the packages, apart from what Python compiles
    record = next(venv_place.rglob("northstar-*.dist-info/RECORD"))
    packages = record.parents[1]
    found = {path for path in (packages / "northstar").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    listed = {line.rsplit(",", 2)[0] for line in record.read_text().splitlines()}
    assert {str(path.relative_to(packages)) for path in found} <= listed

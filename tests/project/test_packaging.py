"""What pyproject.toml declares, what the locks pin and what the code imports are the same."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution, distributions

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from northstar.base.settings import ROOT

OWN = {"northstar", "tests", "benchmarks"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# what runs without being imported by name
CALLED = {
    "adlfs": "fsspec opens abfs:// addresses with it",
    "apache-airflow-providers-postgres": "the form for connections of the type Postgres in Airflow's pages",
    "celery": "Airflow's provider runs it, and 5.7 lacks what that imports",
    "dbt-metricflow": "`northstar mf` runs it in a process of its own",
    "gcsfs": "fsspec opens gs:// addresses with it",
    "gunicorn": "its program serves the pages",
    "psycopg2-binary": "Airflow's and Great Expectations' driver, named in the address of their database",
    "pymysql": "SQLAlchemy's driver of MySQL sources, named in their address",
    "s3fs": "fsspec opens s3:// addresses with it",
    "statsd": "Airflow sends its metrics with it where operations.yml says so",
}
CALLED_BY_TESTS = {
    "import-linter": "`make lint`",
    "localstripe": "the tests start its program as a server that answers like Stripe",
    "mkdocs": "`make docs`; docs/hooks is given to it",
    "mkdocs-material": "`make docs`",
    "mypy": "`make lint`",
    "pytest-timeout": "pytest loads it; pyproject.toml has the timeout",
    "pytest-xdist": "pytest loads it; `make test` runs two processes",
    "ruff": "`make lint`",
    "setuptools": "a test builds a wheel with what is installed",
    "sqlfluff": "`make lint`",
    "types-psutil": "what mypy knows of psutil",
    "types-pyyaml": "what mypy knows of PyYAML",
}
# what tests import by name and production has in any case, since something else needs it
BROUGHT = {"adbc-driver-manager", "anyio", "httpx2", "packaging", "python-dateutil", "setuptools"}
# the distribution that is declared: the parts in which it comes
PARTS = {"apache-airflow": {"apache-airflow-core", "apache-airflow-task-sdk"}}
# imported where it happens to be, and never needed
OPTIONAL = {"atheris"}
# imported by the script that runs in the environment of requirements-spark.txt
APART = {"py4j", "pyspark"}


def declared(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


DEPENDENCIES = declared(PROJECT["project"]["dependencies"])
DEVELOPMENT = declared(PROJECT["dependency-groups"]["dev"])


@cache
def owners() -> dict[str, str]:
    """{an importable file, as a path below site-packages: the distribution that installs it}; several share the folder of a namespace."""
    found = {}
    for installed in distributions():
        for file in installed.files or []:
            if file.suffix in (".py", ".so", ".pyd"):
                found[str(file)] = canonicalize_name(installed.metadata["Name"])
    return found


def owner(module: str) -> str | None:
    """The distribution that an absolute import needs: that of the module's own file, or of the package's where the module is compiled."""
    words = module.split(".")
    for length in range(len(words), 0, -1):
        path = "/".join(words[:length])
        for file in (f"{path}/__init__.py", f"{path}.py"):
            if file in owners():
                return owners()[file]
    within = {name for file, name in owners().items() if file.startswith((f"{words[0]}/", f"{words[0]}."))}
    return within.pop() if len(within) == 1 else None


def imported(*folders: str) -> dict[str, set[str]]:
    """{third-party module that is imported anywhere below the folders, also within a function or by Airflow: the files that do}."""
    found: dict[str, set[str]] = {}
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import():
                    names = [alias.name for alias in node.names]
                case ast.ImportFrom(module=str(module), level=0):
                    names = [module]
                # what Airflow is told to import by its name, an executor for one
                case ast.Constant(value=str(text)) if re.fullmatch(r"airflow(\.\w+)+", text):
                    names = [text]
                case _:
                    continue
            for name in names:
                if name.split(".")[0] not in sys.stdlib_module_names | OWN | OPTIONAL | APART:
                    found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


def needed(*folders: str) -> dict[str, set[str]]:
    """{distribution that the folders import: the files that do}, under the name by which it is declared."""
    whole = {part: name for name, parts in PARTS.items() for part in parts}
    found: dict[str, set[str]] = {}
    for module, files in imported(*folders).items():
        name = owner(module)
        assert name, f"no installed distribution has {module}, which {sorted(files)[0]} imports"
        found.setdefault(whole.get(name, name), set()).update(files)
    return found


@pytest.mark.slow
def test_everything_that_is_imported_is_declared():
    undeclared = {name: sorted(files) for name, files in needed("plugins", "dags").items() if name not in DEPENDENCIES}
    assert not undeclared
    everything = DEPENDENCIES | DEVELOPMENT
    undeclared = {
        name: sorted(files) for name, files in needed("tests", "benchmarks").items() if name not in everything
    }
    assert not undeclared


@pytest.mark.slow
def test_everything_that_is_declared_is_imported_or_has_a_reason():
    assert DEPENDENCIES - needed("plugins", "dags").keys() == CALLED.keys()
    assert DEVELOPMENT - needed("tests", "benchmarks").keys() == CALLED_BY_TESTS.keys()
    assert not DEPENDENCIES & DEVELOPMENT


def test_a_distribution_that_comes_in_parts_brings_them():
    for name, parts in PARTS.items():
        assert parts <= declared(distribution(name).requires), name


def locked(file: str) -> dict[str, set[str]]:
    """{distribution: its pinned versions} of a lock; a version may be that of some Pythons only. Every entry is pinned and hashed."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / file).read_text().strip()):
        requirement, *hashes = re.split(r"\s*\\\n\s*", entry)
        parsed = Requirement(requirement)
        [pin] = parsed.specifier
        assert pin.operator == "==" and "*" not in pin.version, entry
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text) for text in hashes), entry
        found.setdefault(canonicalize_name(parsed.name), set()).add(pin.version)
    return found


@pytest.mark.parametrize(
    ("file", "requirements"),
    [
        ("requirements.txt", PROJECT["project"]["dependencies"]),
        ("requirements-dev.txt", PROJECT["dependency-groups"]["dev"]),
        ("requirements-spark.txt", PROJECT["dependency-groups"]["spark"]),
        ("requirements-uv.txt", PROJECT["dependency-groups"]["uv"]),
    ],
)
def test_a_lock_pins_what_is_declared_within_its_bounds(file, requirements):
    pinned = locked(file)
    for requirement in map(Requirement, requirements):
        versions = pinned.get(canonicalize_name(requirement.name))
        assert versions and all(requirement.specifier.contains(v) for v in versions), f"{requirement}: {versions}"


def test_spark_has_the_versions_of_production_of_what_is_in_both():
    """dbt above all: one project is parsed in both environments."""
    production, spark = locked("requirements.txt"), locked("requirements-spark.txt")
    common = production.keys() & spark.keys()
    assert "dbt-core" in common and "pyspark" not in production
    assert {name: production[name] for name in common} == {name: spark[name] for name in common}


def test_both_locks_pin_the_same_version_of_what_is_in_both():
    production, development = locked("requirements.txt"), locked("requirements-dev.txt")
    common = production.keys() & development.keys()
    assert common and {name: production[name] for name in common} == {name: development[name] for name in common}


def test_what_only_tests_need_is_not_locked_for_production():
    assert len(locked("requirements.txt")) > 100
    assert locked("requirements.txt").keys() & DEVELOPMENT == BROUGHT


def test_one_place_says_which_uv_installs():
    [pinned] = PROJECT["dependency-groups"]["uv"]
    assert {f"uv=={v}" for v in locked("requirements-uv.txt")["uv"]} == {pinned}
    for file in ("Dockerfile", "Makefile", ".ci/audit", ".ci/run"):
        text = (ROOT / file).read_text()
        # neither another version of it nor one that is whatever is newest
        assert not re.search(r"install[^\n&|;]*\suv\b|uv==", text), file
    for file in ("Dockerfile", "Makefile"):
        assert "pip install" in (ROOT / file).read_text() and "-r requirements-uv.txt" in (ROOT / file).read_text()


def test_a_build_needs_nothing_that_is_not_locked():
    """The image builds without isolation: what builds comes from the lock, and is not fetched anew."""
    for requirement in map(Requirement, PROJECT["build-system"]["requires"]):
        for file in ("requirements.txt", "requirements-dev.txt"):
            versions = locked(file)[canonicalize_name(requirement.name)]
            assert all(requirement.specifier.contains(v) for v in versions), f"{file}: {requirement}"


def test_image_and_make_take_the_pythons_that_are_declared():
    wanted = SpecifierSet(PROJECT["project"]["requires-python"])
    [python] = re.findall(r"(?m)^ARG PYTHON_IMAGE=python:(\d+\.\d+)-", (ROOT / "Dockerfile").read_text())
    assert wanted.contains(f"{python}.0")
    [(lowest, highest)] = re.findall(
        r"\((3, \d+)\) <= sys.version_info < \((3, \d+)\)", (ROOT / "Makefile").read_text()
    )
    assert wanted == SpecifierSet(f">={lowest.replace(', ', '.')},<{highest.replace(', ', '.')}")

"""Every setting that the documentation names exists, and every one that exists is named there."""

import re

import pytest

from northstar.base.settings import ROOT, Operations, Rules

DOCS = "\n".join(
    path.read_text()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*"))]
    if path.suffix in (".md", ".yml")
)
CODE = "\n".join(
    path.read_text()
    for folder, pattern in (
        ("plugins", "*.py"),
        ("dags", "*.py"),
        ("dbt_project", "*.yml"),
        (".", "docker-compose.yml"),
        (".", "Makefile"),
        ("tests/containers", "*.py"),
    )
    for path in sorted((ROOT / folder).rglob(pattern) if folder != "." else [ROOT / pattern])
    if "_project" not in path.parts
)
NAME = re.compile(r"NORTHSTAR_[A-Z][A-Z_]*[A-Z]")
# what one part of a process says to another
INTERNAL = {
    "NORTHSTAR_RUN_CONTEXT",
    *(f"NORTHSTAR_PG_{n}" for n in ("HOST", "PORT", "USER", "DBNAME", "SSLMODE", "SSLROOTCERT", "SSLCERT", "SSLKEY")),
}
KINDS = re.compile(r"`(keep_[a-z_]+_days|(?:suppress|reader|job|mapping)_[a-z_]+|retention_days)`")


@pytest.mark.parametrize("name", [*Rules.model_fields, *Operations.model_fields])
def test_a_setting_that_exists_is_named(name):
    assert re.search(rf"`{name}\b|^{name}:|\b{name}: ", DOCS, re.MULTILINE), name


def test_a_setting_that_is_named_exists():
    known = {*Rules.model_fields, *Operations.model_fields}
    assert set(KINDS.findall(DOCS)) >= {"keep_versions_days"}
    assert set(KINDS.findall(DOCS)) - known == set()


def test_variables_of_the_environment_are_named_and_exist():
    read = set(re.findall(r"environ(?:\.get\(|\[)\"(NORTHSTAR_[A-Z_]+)\"", CODE)) - INTERNAL
    assert len(read) > 8
    assert sorted(read - set(NAME.findall(DOCS))) == []
    # one secret has one variable: NORTHSTAR_SECRET_<NAME>
    told = {name for name in NAME.findall(DOCS) if not name.startswith("NORTHSTAR_SECRET")}
    assert sorted(told - set(NAME.findall(CODE))) == []

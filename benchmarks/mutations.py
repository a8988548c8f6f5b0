"""Breaks each rule of the semantics in a copy of the models, one at a time, and looks which test notices.

`python -m benchmarks.mutations [NUMBER ...]` tries all mutations or those, and writes what it saw into docs/mutations.md. A mutation is noticed by, in this order: dbt's unit
tests; a run on 25 random companies, which fails or differs from their own books, now or at an earlier time; the ledgers and
rules of tests/dbt_project.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import yaml

from northstar.audit.worker import start_worker
from northstar.base.errors import NorthstarError
from northstar.base.settings import ROOT, load_settings
from northstar.build.dbt import dbt_env
from northstar.demo.books.truth import truth
from northstar.demo.writing import write_entity
from northstar.runs import job
from northstar.warehouse import embedded
from northstar.warehouse.setup import bootstrap
from tests.demo.test_books import END, PAST, differences, random_companies

MUTATIONS = Path(__file__).with_suffix(".yml")
PARTS = ("dbt_project", "expectations", "plugins", "tests", "pyproject.toml")


def unit_tests(settings, model: str | None = None) -> str | None:
    """The name of the first unit test that fails, of one model's or of all."""
    os.environ.update(dbt_env(settings))
    from dbt.cli.main import dbtRunner

    with redirect_stdout(StringIO()):
        result = dbtRunner().invoke(
            ["test", "--select", f"{model},test_type:unit" if model else "test_type:unit", "--quiet"]
        )
    if result.exception:
        return "dbt refuses the project"
    failed = [r.node.name for r in result.result.results if r.status in ("fail", "error")]
    return f"unit test {failed[0]}" if failed else None


def companies(settings, source: Path, books: dict, worker) -> str | None:
    """What goes wrong with the random companies: the run, or a metric that differs from their books."""
    for as_of, lines in books.items():
        try:
            job.run(settings, "nightly", as_of, str(source), lambda _: None, worker=worker)
        except NorthstarError as exc:
            return "the run: " + str(exc)[:100].replace("|", "/")
        found = differences(lines, settings)
        if found:
            return f"the books: {found[0].split(',')[0].strip('(')[1:-1]} and {len(found) - 1} more lines"
    return None


def ledgers(copy: Path) -> str | None:
    """The first test of tests/dbt_project that fails on the copy."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "tests/dbt_project/test_mrr_bridge.py",
        "tests/dbt_project/test_rules.py",
        "tests/dbt_project/test_mrr_ledgers.py",
    ]
    done = subprocess.run(
        command, cwd=copy, env=os.environ | {"PYTHONPATH": f"{copy}/plugins:{copy}"}, capture_output=True, text=True
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0].split("::")[-1] if failed else None


def lost() -> list[dict]:
    """Mutations whose file does not have any more what is to be broken."""
    models = ROOT / "dbt_project" / "models"
    return [m for m in yaml.safe_load(MUTATIONS.read_text()) if m["was"] not in (models / m["file"]).read_text()]


def main() -> int:
    """Try the mutations that the command line numbers (all without); returns how many nobody noticed."""
    mutations = list(enumerate(yaml.safe_load(MUTATIONS.read_text()), start=1))
    if lost():
        raise SystemExit(f"there is nothing to break any more: {lost()}")
    wanted = set(map(int, sys.argv[1:])) or {number for number, _ in mutations}
    work = Path(tempfile.mkdtemp(prefix="northstar-mutations-"))
    work.chmod(0o755)
    copy, source = work / "copy", work / "source"
    for part in PARTS:
        place = ROOT / part
        shutil.copytree(place, copy / part) if place.is_dir() else shutil.copy(place, copy / part)
    home = load_settings(work / "home")
    settings = replace(home, root=copy)
    seen, worker = {}, None
    try:
        bootstrap(home)
        tables = random_companies(seed=3)
        for entity, table in tables.items():
            write_entity(source / entity, entity, table)
        books = {as_of: truth(tables, as_of) for as_of in (END, PAST)}
        worker = start_worker(home)
        noticed = companies(settings, source, books, worker) or unit_tests(settings)
        if noticed:
            raise SystemExit(f"the models fail before anything is broken: {noticed}")
        for number, mutation in ((n, m) for n, m in mutations if n in wanted):
            path = (copy / "dbt_project" / "models" / mutation["file"]).resolve()
            text = path.read_text()
            path.write_text(text.replace(mutation["was"], mutation["now"]))
            model = path.stem if path.is_relative_to(copy / "dbt_project" / "models") else None
            noticed = unit_tests(settings, model) or companies(settings, source, books, worker) or ledgers(copy)
            path.write_text(text)
            seen[mutation["rule"]] = noticed
            print(f"{number:3} {mutation['rule']}: {noticed or 'NOBODY NOTICED'}", flush=True)
    finally:
        if worker:
            worker.stop()
        embedded.stop(home)
        shutil.rmtree(work, ignore_errors=True)
        write_table([mutation for _, mutation in mutations], seen)
    return sum(not noticed for noticed in seen.values())


def write_table(mutations: list, seen: dict) -> None:
    """Write docs/mutations.md; what was not tried in this run keeps what it said."""
    page = ROOT / "docs" / "mutations.md"
    rows = [line.strip("| ").split(" | ") for line in page.read_text().splitlines()] if page.exists() else []
    known = {row[0]: row[2] for row in rows if len(row) == 3}
    known |= {rule: noticed or "**nobody**" for rule, noticed in seen.items()}
    lines = ["# Mutations: every rule, broken on purpose", "",
             "For each rule of [the semantics](semantics.md), the model in which it was broken on purpose and the first test that noticed; for engineers who "
             "want to know what the tests catch. `python -m benchmarks.mutations` writes this page.",
             "", "| rule | model | noticed by |", "|---|---|---|"]  # fmt: skip
    for mutation in mutations:
        lines.append(
            f"| {mutation['rule']} | {Path(mutation['file']).stem} | {known.get(mutation['rule'], 'not tried yet')} |"
        )
    page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())

"""Previews each broken rule of benchmarks/mutations.yml on the demonstration company, and a change that breaks none.

`python -m benchmarks.previews [--home DIR] [NUMBER ...]` tries all rules or those, and writes what it saw into docs/preview.md. A home with the published
demonstration company may be given (its rows are only read); without one it is made first, which takes minutes.
"""

import argparse
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import yaml

from northstar.base.clock import parse_time
from northstar.base.errors import NorthstarError
from northstar.base.settings import ROOT, load_settings
from northstar.demo.company import simulate
from northstar.runs import job
from northstar.runs.preview.preview import preview
from northstar.warehouse import embedded

MUTATIONS = Path(__file__).with_name("mutations.yml")
PAGE = ROOT / "docs" / "preview.md"
AS_OF = "2026-06-30T00:00:00Z"
COMMENT = "-- a comment changes nothing\n"


@contextmanager
def published_company(home: str | None):
    """Settings of a home with the demonstration company."""
    if home:
        yield load_settings(home)
        return
    with tempfile.TemporaryDirectory(prefix="northstar-previews-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        settings = load_settings(Path(directory) / "home")
        simulate(Path(directory) / "source", end=parse_time(AS_OF), rare_cases=True)
        try:
            job.run(settings, "nightly", parse_time(AS_OF), str(Path(directory) / "source"))
            yield settings
        finally:
            embedded.stop(settings)


def working_tree(directory: Path) -> Path:
    """A copy of the dbt project beside a link to the checks, as a working tree to change."""
    shutil.copytree(ROOT / "dbt_project", directory / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    (directory / "expectations").symlink_to(ROOT / "expectations")
    return directory


def look(settings) -> str:
    """What a preview shows, as cells of the table."""
    started = time.monotonic()
    try:
        shown = preview(settings, progress=lambda _: None)
    except NorthstarError as exc:
        return f"it does not build: {' '.join(str(exc).split())[:90].replace('|', '/')} | | | | {time.monotonic() - started:.0f}"
    values, marts = sum(m.counts["values"] for m in shown.metrics), ", ".join(m.mart for m in shown.marts)
    first = ", ".join(m.counts["metric_id"] for m in shown.metrics[:3]) or ("" if shown.marts else "**nothing**")
    return f"{first} | {len(shown.metrics)} | {values:,} | {marts} | {time.monotonic() - started:.0f}"


def main() -> int:
    """Preview the rules that the command line numbers (all without); returns how many show no difference."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home")
    parser.add_argument("numbers", nargs="*", type=int)
    arguments = parser.parse_args()
    mutations = list(enumerate(yaml.safe_load(MUTATIONS.read_text()), start=1))
    chosen = [(n, m) for n, m in mutations if not arguments.numbers or n in arguments.numbers]
    seen: dict[str, str] = {}
    with published_company(arguments.home) as home, tempfile.TemporaryDirectory() as directory:
        tree = working_tree(Path(directory))
        settings = replace(home, root=tree)
        for number, mutation in chosen:
            path = (tree / "dbt_project" / "models" / mutation["file"]).resolve()
            text = path.read_text()
            path.write_text(text.replace(mutation["was"], mutation["now"]))
            cells = look(settings)
            path.write_text(text)
            seen[mutation["rule"]] = f"| {mutation['rule']} | {path.stem} | {cells} |"
            print(f"{number:3} {seen[mutation['rule']]}", flush=True)
            # a campaign of an hour that is stopped has written what it saw
            write(seen, mutations)
    return sum("**nothing**" in line for line in seen.values())


def write(seen: dict[str, str], mutations: list[tuple[int, dict[str, str]]]) -> None:
    """Replace the lines of the page's table that were seen; the others stay."""
    page = PAGE.read_text()
    head, _, table = page.partition("|---|---|---|---|---|---|---|\n")
    lines = {match[1]: match[0] for match in re.finditer(r"^\| (.+?) \| .*\|$", table, re.MULTILINE)} | seen
    kept = [lines[m["rule"]] for _, m in mutations if m["rule"] in lines]
    PAGE.write_text(f"{head}|---|---|---|---|---|---|---|\n" + "\n".join(kept) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())

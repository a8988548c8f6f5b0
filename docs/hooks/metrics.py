"""MkDocs hooks: a page for each metric, made from the catalogue and the models, and dbt's own docs beside them."""

import atexit
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import jinja2
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "dbt_project"
# what stands behind every metric
GENERAL = ("metric_catalogue", "metric_shapes", "periods")
CHAPTERS = ("Time", "Values", "Activity", "MRR", "Cohorts", "Funnels", "Support", "Percentiles and rates")


@dataclass
class Formula:
    """How a model makes a metric: its two sides over measures, and the measures as aggregates over rows `r` of a relation."""

    model: str
    numerator: str
    denominator: str | None
    measures: dict[str, str] = field(default_factory=dict)
    # the metrics that it is made of, if it is made of metrics
    parts: list[str] = field(default_factory=list)


class _Anything(jinja2.ChainableUndefined):
    """What dbt knows and a page of docs does not: it is called, added to and looped over, and comes to nothing."""

    def __call__(self, *given, **more):
        return self

    def __add__(self, other):
        return self

    __radd__ = __add__

    def __iter__(self):
        return iter(())


def _describe_parts(parts: dict[str, dict[str, str]]) -> dict[str, str]:
    """{column: the metric that it stands for}, of a metric that is made of others."""
    before = {"previous": ", of the period before", "year_before": ", of twelve months before"}
    return {
        name: f"the {part['column'] if part['formula'] in ('numerator', 'denominator') else 'value'} of [{part['metric']}]({part['metric']}.md)"
        + before.get(part["before"], "")
        for name, part in parts.items()
    }


@cache
def formulas() -> dict[str, Formula]:
    """{metric: its formula}, from the calls of `metric_rows`, `metrics_of` and `cube` in the models."""
    found: dict[str, Formula] = {}
    environment = jinja2.Environment(undefined=_Anything, extensions=["jinja2.ext.do"])
    for path in sorted((PROJECT / "models").rglob("*.sql")):
        text = path.read_text()
        if not re.search(r"metric_rows|metrics_of", text):
            continue
        measures: dict[str, str] = {}

        def rows(relation, metrics=None, of=None, path=path, measures=measures):
            for metric, spec in (metrics or {}).items():
                parts = (spec[2] if len(spec) > 2 else {}).get("parts", {})
                found[metric] = Formula(path.stem, str(spec[0]), spec[1], measures | _describe_parts(parts))
                found[metric].parts = list(dict.fromkeys(part["metric"] for part in parts.values()))
            return ""

        def cube(relation, given=None, *more, measures=measures, **others):
            measures.update({name: f"{aggregate} of `{relation}`" for name, aggregate in (given or {}).items()})
            return ""

        def totals(relation, series, given=None, *more, measures=measures, **others):
            measures.update({name: f"the running total of `{relation}`" for name in given or ()})
            return ""

        def whole(relation, series, fact, given, segments, grains, metrics, *more, cube=cube, rows=rows, **others):
            cube(relation, given)
            return rows(relation, metrics)

        environment.from_string(text).render(metric_rows=rows, metrics_of=whole, cube=cube, running_totals=totals)
    return found


@cache
def target() -> Path:
    """A directory with dbt's manifest of the project, made without a warehouse: dbt wants an address, and connects to nothing."""
    place = Path(tempfile.mkdtemp(prefix="northstar-docs-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    dbt("parse", place)
    return place


def dbt(command: str, place: Path) -> None:
    """Call one of dbt's commands. place: its target directory."""
    address = {f"NORTHSTAR_PG_{name}": "none" for name in ("HOST", "USER", "DBNAME")}
    environment = os.environ | address | {
        "NORTHSTAR_PG_PORT": "1", "DBT_ENV_SECRET_PG_PASSWORD": "none", "DBT_TARGET_PATH": str(place), "DBT_LOG_PATH": str(place),
        "DBT_PROJECT_DIR": str(PROJECT), "DBT_PROFILES_DIR": str(PROJECT),
    }  # fmt: skip
    subprocess.run(
        [Path(sys.executable).parent / "dbt", "--quiet", *command.split()], env=environment, check=True, cwd=place
    )


@cache
def read_by() -> dict[str, list[str]]:
    """{model: the models, and the staging views of landed entities, that it reads}."""
    nodes = json.loads((target() / "manifest.json").read_text())["nodes"]
    return {
        node["name"]: [name.rsplit(".", 1)[1] for name in node["depends_on"]["nodes"]]
        for node in nodes.values()
        if node["resource_type"] == "model"
    }


def parents(model: str) -> list[str]:
    """The models that a model reads; its seeds and the calendar, which all of them read, left out."""
    return [name for name in read_by().get(model, []) if name not in GENERAL]


def landed(model: str, seen: set[str] | None = None) -> set[str]:
    """The landed entities that a model is made of in the end."""
    seen = set() if seen is None else seen
    if model in seen:
        return set()
    seen.add(model)
    if model.startswith("stg_"):
        return {model.removeprefix("stg_")}
    return {entity for parent in parents(model) for entity in landed(parent, seen)}


def rows(seed: str) -> list[dict[str, str]]:
    """The rows of one of the project's seeds."""
    with (PROJECT / "seeds" / f"{seed}.csv").open() as file:
        return list(csv.DictReader(file))


def page(metric: dict[str, str], owners: dict[str, str], targets: list[dict[str, str]]) -> str:
    """A metric's page."""
    name, formula = metric["metric_id"], formulas().get(metric["metric_id"])
    segments = [s for s in metric["segments"].split(";") if s]
    grain = "month" if "month" in metric["grains"] else metric["grains"].split(",")[0]
    lines = [
        f"# {name}",
        "",
        re.sub(r"see docs/semantics\.md, (\w+)", _chapter, metric["definition"]),
        "",
        "| property | value |",
        "|---|---|",
        f"| domain, level | {metric['domain']}, {metric['level']} (owner: {owners.get(metric['domain'], 'nobody')}) |",
        f"| unit, kind, better | {metric['unit']}, {metric['kind']}, {metric['direction']} |",
        f"| grains | {metric['grains'].replace(',', ', ')} |",
        f"| segments | {', '.join(segments) or 'none'} |",
        f"| complete | {_completeness(metric['window_days'])} |",
        f"| pages, reports | {metric['dashboards'].replace(';', ', ') or 'no page'}; {metric['reports'].replace(';', ', ') or 'no report'} |",
        f"| requirements | {metric['requirement_refs']} |",
    ]
    if formula:
        lines += ["", "## Formula", "", f"    numerator    {formula.numerator}"]
        if formula.denominator is not None:
            lines.append(f"    denominator  {formula.denominator}")
        used = set(re.findall(r"[a-z_][a-z0-9_]*", f"{formula.numerator} {formula.denominator}"))
        lines += [""] + [f"- `{n}`: {what}" for n, what in formula.measures.items() if n in used]
        behind = [formulas()[part].model for part in formula.parts] or [formula.model]
        entities = sorted({entity for model in behind for entity in landed(model)})
        read = sorted(set(behind)) if formula.parts else parents(formula.model)
        lines += [
            "",
            "## Lineage",
            "",
            f"`metric_values` ← `{formula.model}` ← {', '.join(f'`{p}`' for p in read)}",
            "",
            f"It is computed from the entities {', '.join(f'`{e}`' for e in entities)}. [dbt's docs](../dbt/index.html#!/model/model.northstar.{formula.model}) have the models.",
        ]
    mine = [t for t in targets if t["metric_id"] == name]
    if mine:
        lines += [
            "",
            "## Targets",
            "",
            "| application | segment | grain | target | due | requirement |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {t['application'] or 'all'} | {t['segment'] and t['segment'] + ' ' + t['segment_value']} | {t['grain']} | "
            f"{t['operator']} {t['target']} {t['trend']} | {t['due']} | {t['requirement_ref']} |"
            for t in mine
        ]
    segment = f" --segment {segments[0]}=VALUE" if segments else ""
    lines += [
        "",
        "## How to read it",
        "",
        f"    northstar sql \"select period_start, value, null_reason, is_complete from metric_values where metric_id = '{name}' "
        f"and grain = '{grain}' and application = 'all' and segment = '' order by 1\"",
        f"    northstar explain {name} --grain {grain}{segment}",
        "",
    ]
    return "\n".join(lines)


def _chapter(match: re.Match) -> str:
    title = next((c for c in CHAPTERS if c.lower() == match[1].lower()), None)
    return f"see [docs/semantics.md, {match[1]}](../semantics.md#{title.lower()})" if title else match[0]


def _completeness(window_days: str) -> str:
    days = int(window_days or 0)
    return f"{days} days after the end of its period" if days else "at the end of its period"


def on_files(files, config):
    """Add the pages, and one that lists them by domain."""
    catalogue = rows("metric_catalogue")
    owners = {r["domain"]: r["owner"] for r in rows("metric_owners")}
    targets = rows("targets")
    index = [
        f"# The {len(catalogue)} metrics",
        "",
        "All metrics by domain. Each has a page with its definition, formula, lineage and targets.",
        "",
    ]
    for domain in dict.fromkeys(m["domain"] for m in catalogue):
        index += [f"## {domain}", "", "| metric | definition |", "|---|---|"]
        index += [
            f"| [{m['metric_id']}]({m['metric_id']}.md) | {m['definition']} |"
            for m in catalogue
            if m["domain"] == domain
        ] + [""]
    files.append(File.generated(config, "metrics/index.md", content="\n".join(index)))
    for metric in catalogue:
        files.append(File.generated(config, f"metrics/{metric['metric_id']}.md", content=page(metric, owners, targets)))
    return files


def on_post_build(config):
    """dbt's own docs, in one file."""
    dbt("docs generate --static --no-compile --empty-catalog", target())
    place = Path(config["site_dir"]) / "dbt"
    place.mkdir(exist_ok=True)
    shutil.copy(target() / "static_index.html", place / "index.html")

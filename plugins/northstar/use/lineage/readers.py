"""Who reads metrics and columns of marts: panels of pages, reports, exposures, MetricFlow metrics, targets and alerts.

A mart's column is read by a panel whose code names it, and by a MetricFlow metric whose expressions name it. An exposure names whole marts, so it reads
every column of them.
"""

import csv
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TypedDict

from northstar.base.config_files import read_own_yaml
from northstar.base.settings import PACKAGE
from northstar.build.manifest import Manifest, Node
from northstar.use.alerts.rules import rules

PAGES = PACKAGE / "use" / "pages" / "pages.yml"
PANELS = PACKAGE / "use" / "pages" / "panels"
REPORTS = PACKAGE / "use" / "reports" / "contents.yml"
# relations that serve every metric: that they changed says nothing about who reads the metrics that did
SHARED_MARTS = ("metric_values", "metric_points", "metric_series", "metrics", "metric_status", "alerts")
# {mart: columns}
MartColumns = Mapping[str, Collection[str]]


class CatalogueRow(TypedDict):
    """What a metric's row of the catalogue says about its readers: its level, and the dashboards and reports that it names."""

    metric_id: str
    level: int
    dashboards: str
    reports: str


def find_readers(
    manifest: Manifest, catalogue: Iterable[CatalogueRow], metrics: Collection[str], marts: MartColumns
) -> dict[str, list[str]]:
    """{kind of reader: names} of what shows the metrics, or reads these columns of marts; a mart's ROWS ("*") are read by whoever reads the mart."""
    shown_metrics, by_id = set(metrics), {row["metric_id"]: row for row in catalogue}
    own_marts = {mart: set(columns) for mart, columns in marts.items() if columns and mart not in SHARED_MARTS}
    readers = {
        "pages": sorted(
            f"{page['title']}: {panel['title']}"
            for page in read_own_yaml(PAGES)
            for panel in page["panels"]
            if _is_shown(panel, shown_metrics, own_marts)
        ),
        "reports": sorted(
            f"{report['title']}: {section['title']}"
            for report in read_own_yaml(REPORTS).values()
            for section in report["sections"]
            if shown_metrics & _metrics_of(section, by_id) or ("funnel_stages" in own_marts and section.get("funnels"))
        ),
        "exposures": _exposures(manifest, by_id, shown_metrics, set(own_marts)),
        "metricflow": _metricflow(manifest, shown_metrics, own_marts),
        "alerts": sorted(rule["rule"] for rule in rules() if rule["metric"] in shown_metrics),
    }
    return {kind: names for kind, names in readers.items() if names}


def read_catalogue(project: Path) -> list[CatalogueRow]:
    """The rows of the catalogue in a dbt project's directory."""
    with (project / "seeds" / "metric_catalogue.csv").open() as file:
        return [
            {"metric_id": row["metric_id"], "level": int(row["level"]), "dashboards": row["dashboards"], "reports": row["reports"]}
            for row in csv.DictReader(file)
        ]  # fmt: skip


def alerts_on_landed(columns: Iterable[tuple[str, str]]) -> list[str]:
    """The rules that read landed columns, (entity, column), themselves, without waiting for a build."""
    pairs = list(columns)
    texts = {rule["rule"]: f"{rule['sql']} {rule.get('parts', '')}" for rule in rules()}
    return sorted(
        name for name, text in texts.items()
        if any(re.search(rf"\bstaging\.{entity}\b", text) and _names(text, {column}) for entity, column in pairs)
    )  # fmt: skip


def _is_shown(panel: Node, metrics: set[str], marts: Mapping[str, set[str]]) -> bool:
    named = set(panel.get("metrics", []))
    if metrics & named:
        return True
    return any(_names(_code_of(panel["kind"]), marts[mart]) for mart in named & marts.keys())


@cache
def _code_of(kind: str) -> str:
    return (PANELS / f"{kind}.py").read_text()


def _names(text: str, columns: Collection[str]) -> bool:
    """Whether a text names one of the columns; rows are part of any text."""
    return "*" in columns or any(re.search(rf"\b{re.escape(column)}\b", text) for column in columns)


def _metrics_of(section: Node, catalogue: Mapping[str, CatalogueRow]) -> set[str]:
    """The metrics of a report's section: those that it names, and those of its levels."""
    of_levels = {name for name, row in catalogue.items() if row["level"] in section.get("levels", [])}
    return set(section.get("metrics", [])) | of_levels


def _exposures(
    manifest: Manifest, catalogue: Mapping[str, CatalogueRow], metrics: set[str], marts: set[str]
) -> list[str]:
    """Exposures of the marts, and those that the catalogue names for a metric."""
    shown = {
        word
        for name in metrics & catalogue.keys()
        for word in re.split(r"[;,\s]+", f"{catalogue[name]['dashboards'] or ''} {catalogue[name]['reports'] or ''}")
    }
    return sorted(
        node["name"]
        for node in manifest["exposures"].values()
        if node["name"] in shown or marts & {i.rsplit(".", 1)[1] for i in node["depends_on"]["nodes"]}
    )


def _metricflow(manifest: Manifest, metrics: set[str], marts: Mapping[str, set[str]]) -> list[str]:
    """MetricFlow's metrics with the id of a metric, those whose measures or filters name a column, and those derived from them."""
    measures = {
        measure["name"]
        for model in manifest["semantic_models"].values()
        for mart in marts.keys() & {i.rsplit(".", 1)[1] for i in model["depends_on"]["nodes"]}
        for measure in model["measures"]
        if _names(_expressions(model, measure), marts[mart])
    }
    found: set[str] = set()
    while True:
        more = {
            node["name"]
            for node in manifest["metrics"].values()
            if node["name"] in metrics or (measures | found) & _inputs(node["type_params"])
        }
        if more == found:
            return sorted(found)
        found = more


def _expressions(model: Node, measure: Node) -> str:
    """The SQL of a measure, and of the dimensions and entities by which it can be grouped and filtered."""
    parts = [measure, *model["dimensions"], *model["entities"]]
    return " ".join(f"{part['name']} {part.get('expr') or ''}" for part in parts)


def _inputs(parameters: Node) -> set[str]:
    """The measures and metrics that a MetricFlow metric names."""
    names = {m["name"] for m in parameters.get("input_measures") or []} | {
        m["name"] for m in parameters.get("metrics") or []
    }
    for side in ("measure", "numerator", "denominator"):
        if parameters.get(side):
            names.add(parameters[side]["name"])
    return names

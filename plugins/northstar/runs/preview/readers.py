"""Who reads what a preview changes: pages, reports, exposures and MetricFlow metrics."""

import csv
from collections.abc import Collection
from pathlib import Path

from northstar.base.config_files import read_own_yaml
from northstar.base.settings import PACKAGE
from northstar.build.manifest import Manifest, Node

PAGES = PACKAGE / "use" / "pages" / "pages.yml"
REPORTS = PACKAGE / "use" / "reports" / "contents.yml"
# relations that serve every metric: that they changed says nothing about who reads the metrics that did
SHARED_MARTS = ("metric_values", "metric_points", "metric_series", "metrics", "metric_status", "alerts")


def find_readers(manifest: Manifest, metrics: Collection[str], marts: Collection[str]) -> dict[str, list[str]]:
    """{kind of reader: names} of what shows the metrics, or reads the marts."""
    changed = {*metrics, *marts}
    readers = {
        "pages": sorted(
            f"{page['title']}: {panel['title']}"
            for page in read_own_yaml(PAGES)
            for panel in page["panels"]
            if changed & set(panel.get("metrics", []))
        ),
        "reports": sorted(
            f"{report['title']}: {section['title']}"
            for report in read_own_yaml(REPORTS).values()
            for section in report["sections"]
            if changed & set(section.get("metrics", []))
        ),
        "exposures": _exposures(manifest, set(metrics), set(marts) - set(SHARED_MARTS)),
        "metricflow": _metricflow(manifest, set(metrics), set(marts) - set(SHARED_MARTS)),
    }
    return {kind: names for kind, names in readers.items() if names}


def _exposures(manifest: Manifest, metrics: set[str], marts: set[str]) -> list[str]:
    """Exposures of the changed marts, and those for which the catalogue names a changed metric."""
    shown = {word for metric_id, words in _catalogued(manifest).items() if metric_id in metrics for word in words}
    return sorted(
        node["name"]
        for node in manifest["exposures"].values()
        if node["name"] in shown or marts & {i.rsplit(".", 1)[1] for i in node["depends_on"]["nodes"]}
    )


def _catalogued(manifest: Manifest) -> dict[str, set[str]]:
    """{metric: the dashboards and reports that its row of the catalogue names}."""
    node = manifest["nodes"]["seed.northstar.metric_catalogue"]
    with (Path(node["root_path"]) / node["original_file_path"]).open() as file:
        return {
            row["metric_id"]: set(f"{row['dashboards']} {row['reports']}".replace(";", " ").replace(",", " ").split())
            for row in csv.DictReader(file)
        }


def _metricflow(manifest: Manifest, metrics: set[str], marts: set[str]) -> list[str]:
    """MetricFlow's metrics with the id of a changed one, those of semantic models over changed marts, and those derived from them."""
    measures = {
        measure["name"]
        for model in manifest["semantic_models"].values()
        if marts & {i.rsplit(".", 1)[1] for i in model["depends_on"]["nodes"]}
        for measure in model["measures"]
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


def _inputs(parameters: Node) -> set[str]:
    """The measures and metrics that a MetricFlow metric names."""
    names = {m["name"] for m in parameters.get("input_measures") or []} | {
        m["name"] for m in parameters.get("metrics") or []
    }
    for side in ("measure", "numerator", "denominator"):
        if parameters.get(side):
            names.add(parameters[side]["name"])
    return names

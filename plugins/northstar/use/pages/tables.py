"""The rows behind each panel, as a table that a reader can take with him: exact values, and what they are."""

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from northstar.base.errors import NorthstarError
from northstar.use.last_preview import kept_preview
from northstar.use.marts import Marts, Metric, Published
from northstar.use.pages.choices import Choice
from northstar.use.pages.contents import pages_of
from northstar.use.pages.links import page_path, path_as_of, slug
from northstar.use.pages.painter import Painter
from northstar.use.pages.panels import cards, line
from northstar.use.pages.panels.drawing import Panel
from northstar.use.pages.panels.kinds import KINDS
from northstar.use.pages.readings import read_newest_values, read_restatements, read_targets
from northstar.use.words import describe_chance, title_of
from northstar.warehouse.rows import Row

# the most rows of a file; for more there is SQL
ROWS = 50_000
# panels of pages that are not in pages.yml
OTHERS = {
    "metrics-about": "The metric",
    "metrics-history": "History",
    "metrics-restatements": "Restatements",
    "metrics-catalogue": "All metrics",
    "alerts-open": "Open alerts",
    "preview-last": "The last preview",
}


@dataclass(frozen=True)
class Content:
    """Columns and rows, and the metrics that they are about. A row may lack a column."""

    columns: list[str]
    rows: list[Row]
    metrics: Collection[str] = ()


@dataclass(frozen=True)
class Table:
    """A panel's rows. count: how many there are, of which `rows` has at most ROWS; about: (name, text) of what they are, in order."""

    title: str
    page: str
    columns: list[str]
    rows: list[Row]
    count: int
    about: list[tuple[str, str]]
    version: Published

    @property
    def file_name(self) -> str:
        """The name of a file with this table, without its ending; it says where the table is cut."""
        name = "_".join(["northstar", self.page, slug(self.title), f"v{self.version.version}"])
        cut = f"_first_{len(self.rows)}_of_{self.count}_rows" if self.count > len(self.rows) else ""
        return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name) + cut


def find_panel(marts: Marts, name: str) -> tuple[str, Panel | None, str]:
    """(title, panel, page's title) of a panel by the name of its element on the pages; the panel is None for those that are not in pages.yml."""
    page_slug, _, number = name.rpartition("-")
    if name in OTHERS:
        return OTHERS[name], None, page_slug.capitalize()
    for page in pages_of(marts.settings):
        if (
            slug(page["title"]) == page_slug
            and number.isascii()
            and number.isdigit()
            and int(number) < len(page["panels"])
        ):
            panel = page["panels"][int(number)]
            return panel["title"], panel, page["title"]
    raise NorthstarError(f"there is no panel {name!r}")


def read_table(marts: Marts, name: str, choice: Choice) -> Table:
    """The rows of a panel for what is chosen, of one version. Raises NorthstarError where there is no such panel, or nothing is published."""
    return marts.steadily(lambda: _read_table(marts, name, choice))


def _read_table(marts: Marts, name: str, choice: Choice) -> Table:
    published = marts.published()
    if published is None:
        raise NorthstarError("nothing has been published yet")
    title, panel, page = find_panel(marts, name)
    content = _other(marts, name, choice) if panel is None else _panel(marts, panel, page, choice)
    if panel is None and name in ("metrics-about", "metrics-history", "metrics-restatements"):
        title = f"{title_of(choice.metric)}, {title[:1].lower()}{title[1:]}"
    about = [
        ("Panel", title), ("Page", page), *_version(published), ("Currency", marts.currency), ("Times", "UTC"),
        *_filters(name, panel, choice, content),
        ("Address", _address(page, choice, published.version)),
        ("Rows", f"{len(content.rows):,}" if len(content.rows) <= ROWS else f"the first {ROWS:,} of {len(content.rows):,}; `northstar sql` has all"),
        *_words(marts, panel, choice),
        *_definitions(marts.catalogue(), content.metrics),
    ]  # fmt: skip
    return Table(title, slug(page), content.columns, content.rows[:ROWS], len(content.rows), about, published)


def _version(published: Published) -> list[tuple[str, str]]:
    return [
        ("Version", str(published.version)),
        ("Published", f"{published.published_at:%Y-%m-%d %H:%M} UTC"),
        ("Data up to", f"{published.as_of:%Y-%m-%d %H:%M} UTC"),
        *([("Warnings of the audit", ", ".join(published.warnings))] if published.warnings else []),
    ]


def _filters(name: str, panel: Panel | None, choice: Choice, content: Content) -> list[tuple[str, str]]:
    """The choices that this panel listens to."""
    if name == "preview-last":
        return []
    application = [("Application", choice.application)]
    if panel is not None and panel["kind"] == "cards":
        return [*application, ("Grain", choice.grain)]
    if (name in OTHERS and name != "metrics-history") or (panel is not None and panel["kind"] == "targets"):
        return application
    segment = panel.get("segment", choice.segment) if panel is not None else choice.segment
    return [*application, ("Period", choice.period_words), ("Grain", choice.grain), ("Segment", segment)]


def _address(page: str, choice: Choice, version: int) -> str:
    """The page with these choices as known at the version of the rows, after the address of the pages."""
    if page == "Preview":
        # it belongs to no version
        return page_path(page)
    if page == "Alerts":
        return path_as_of(page_path(page, application=choice.application), version)
    chosen = {
        "application": choice.application,
        "period": choice.months,
        "grain": choice.grain,
        "segment": choice.segment,
    }
    path = page_path(page, **({"metric": choice.metric} if page == "Metrics" else {}), **chosen)
    return path_as_of(path, version)


def _words(marts: Marts, panel: Panel | None, choice: Choice) -> list[tuple[str, str]]:
    """What the chart says in words, such as why it has no values."""
    if panel is None or panel["kind"] not in KINDS:
        return []
    figure = Painter(marts).draw(panel, choice.application, choice.grain, choice.months, choice.split_by)
    return [("In words", str(figure.layout.meta)[:2_000])]


def _definitions(catalogue: dict[str, Metric], metrics: Collection[str]) -> list[tuple[str, str]]:
    return [
        (metric, f"{catalogue[metric]['definition']} (unit {catalogue[metric]['unit']}, owner {catalogue[metric]['owner'] or '-'})")
        for metric in dict.fromkeys(metrics)
        if metric in catalogue
    ]  # fmt: skip


def _panel(marts: Marts, panel: Panel, page: str, choice: Choice) -> Content:
    if panel["kind"] == "cards":
        return _cards(marts, panel, choice)
    if panel["kind"] == "targets":
        return _targets(marts, slug(page), choice.application)
    arguments = (choice.application, choice.grain, choice.months, choice.split_by)
    frame = KINDS[panel["kind"]].read(marts, panel, *arguments)
    if panel["kind"] == "line":
        return _line(marts, panel, frame, choice)
    fixed = {
        "bars": {"metric_id": panel["metrics"][0], "application": choice.application, "segment": panel.get("segment")},
        "cohorts": {"cohort_kind": panel.get("cohort_kind"), "application": choice.application},
        "funnel": {"funnel": panel.get("funnel"), "application": choice.application},
    }.get(panel["kind"], {"application": choice.application})
    measured = {"bars": panel["metrics"][:1], "bridge": ["mrr"], "bridges": ["mrr"]}.get(
        panel["kind"], panel["metrics"]
    )
    money = {"currency": marts.currency} if panel["kind"] in ("bridge", "bridges", "reasons") else {}
    unit = {"unit": marts.catalogue()[panel["metrics"][0]]["unit"]} if panel["kind"] == "bars" and len(frame) else {}
    return _content(frame, fixed, {**unit, **money}, measured)


def _line(marts: Marts, panel: Panel, frame: pd.DataFrame, choice: Choice) -> Content:
    """A row for each value, then one for each value that is expected, where the chart shows those."""
    catalogue = marts.catalogue()
    segment = panel.get("segment", choice.split_by)
    rows = [
        {
            **row, "application": choice.application, "segment": segment if row["segment_value"] else "", "is_forecast": False,
            "unit": "percent" if "share_of" in panel else catalogue[row["metric_id"]]["unit"],
        }
        for row in frame.to_dict("records")
    ]  # fmt: skip
    expected = pd.DataFrame()
    valued = frame[frame["value"].notna()] if len(frame) else frame
    if len(valued) and line.is_forecast(panel, choice.split_by):
        expected = line.expected_values(marts, panel["metrics"][0], choice.application, valued)
    rows += [
        {
            "metric_id": row["metric_id"], "application": choice.application, "grain": row["grain"], "period_start": row["period_start"], "segment": "",
            "segment_value": "", "value": row["value"], "unit": catalogue[row["metric_id"]]["unit"], "is_forecast": True, "low_80": row["low_80"],
            "high_80": row["high_80"],
        }
        for row in expected.to_dict("records")
    ]  # fmt: skip
    columns = [
        "metric_id", "application", "grain", "period_start", "segment", "segment_value", "value", "unit",
        # of a share there are those of its part alone
        *([] if "share_of" in panel else ["numerator", "denominator"]), "is_complete", "null_reason", *(["is_forecast", "low_80", "high_80"] if len(expected) else []),
    ]  # fmt: skip
    return Content(columns, rows, [*panel["metrics"], *([panel["share_of"]] if "share_of" in panel else [])])


def _cards(marts: Marts, panel: Panel, choice: Choice) -> Content:
    frame, catalogue = marts.newest(panel["metrics"], choice.application, choice.grain), marts.catalogue()
    targets, lacking = marts.targets(choice.application), marts.lacking(choice.application)
    rows = []
    for metric in (m for m in panel["metrics"] if m in catalogue):
        newest, before = {}, {}
        if len(frame):
            own = {row["place"]: row for row in frame[frame["metric_id"] == metric].to_dict("records")}
            newest, before = own.get(1, {}), own.get(2, {})
        zone = cards.find_zone(targets, metric, choice.application, newest.get("grain", choice.grain))
        rows.append({
            "metric_id": metric, "application": choice.application, "grain": newest.get("grain"), "period_start": newest.get("period_start"),
            "value": newest.get("value"), "unit": catalogue[metric]["unit"], "null_reason": newest.get("null_reason"), "previous_start": before.get("period_start"),
            "previous_value": before.get("value"), "better": catalogue[metric]["direction"], "zone": zone[0] if zone else None, "lacking": lacking.get(metric),
        })  # fmt: skip
    columns = [
        "metric_id", "application", "grain", "period_start", "value", "unit", "null_reason", "previous_start", "previous_value", "better", "zone", "lacking",
    ]  # fmt: skip
    return Content(columns, rows, panel["metrics"])


def _targets(marts: Marts, dashboard: str, application: str) -> Content:
    rows = []
    for row in read_targets(marts, dashboard, application):
        chance = marts.expectations(row["metric_id"]).get(row["target_id"]) if pd.notna(row["due_at"]) else None
        rows.append({**row, "forecast": describe_chance(chance)})
    columns = [
        "metric_id", "application", "segment", "segment_value", "grain", "period_start", "value", "unit", "operator", "target", "warning", "critical", "zone", "trend",
        "due_at", "forecast", "alert_latency", "action",
    ]  # fmt: skip
    return Content(columns, rows, [row["metric_id"] for row in rows])


def _other(marts: Marts, name: str, choice: Choice) -> Content:
    catalogue = marts.catalogue()
    if name == "metrics-history":
        panel: Panel = {"kind": "line", "metrics": [choice.metric], "title": choice.metric}
        return _panel(marts, panel, "Metrics", choice)
    if name == "metrics-restatements":
        return _content(read_restatements(marts, choice.metric, choice.application), {}, {}, [choice.metric])
    if name == "metrics-about":
        about = [row for metric, row in catalogue.items() if metric == choice.metric]
        rows = [{**row, "grains": ", ".join(row["grains"]), "segments": ", ".join(row["segments"])} for row in about]
        return Content([n for n in (rows[0] if rows else {}) if not n.startswith("_")], rows, [choice.metric])
    if name == "metrics-catalogue":
        newest = {row["metric_id"]: row for row in read_newest_values(marts, choice.application).to_dict("records")}
        lacking = marts.lacking(choice.application)
        described = [
            {
                "application": choice.application, **newest.get(metric, {}), "metric_id": metric, "unit": entry["unit"], "definition": entry["definition"],
                "domain": entry["domain"], "level": entry["level"], "owner": entry["owner"], "lacking": lacking.get(metric),
            }
            for metric, entry in catalogue.items()
        ]  # fmt: skip
        columns = [
            "metric_id", "application", "grain", "period_start", "value", "unit", "null_reason", "lacking", "definition", "domain", "level", "owner",
        ]  # fmt: skip
        return Content(columns, described)
    if name == "alerts-open":
        alerts = marts.open_alerts(choice.application)
        return Content(
            list(alerts[0]) if alerts else ["alert"], alerts, [a["metric_id"] for a in alerts if a["metric_id"]]
        )
    kept = kept_preview(marts.settings)
    previewed = [{"section": s["title"], **row} for s in kept["sections"] for row in s["rows"]] if kept else []
    return Content(list(dict.fromkeys(["section", *(column for row in previewed for column in row)])), previewed)


def _content(frame: pd.DataFrame, before: Row, after: Row, metrics: Collection[str]) -> Content:
    """The rows of a frame without technical columns, with columns that have one value before and after its own."""
    own = [name for name in frame if not name.startswith("_")]
    rows = [{**before, **{name: row[name] for name in own}, **after} for row in frame.to_dict("records")]
    return Content(list(dict.fromkeys([*before, *own, *after])), rows, metrics)


def plain(value: object) -> object:
    """A value of a row without what pandas has for null."""
    if value is pd.NaT or (isinstance(value, float) and value != value):
        return None
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value

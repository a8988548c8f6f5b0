"""The pages as a Vizro application: `server` is what gunicorn serves, built from `pages.yml` for the home of the environment.

Every panel is drawn from the marts when somebody opens it, as `bi_reader`. What was read is kept until the next version is published.
"""

import logging
from collections.abc import Callable, MutableSet
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import plotly.graph_objects as go
import vizro.models as vm
from dash import dcc, html
from dash.development.base_component import ComponentRegistry
from flask import has_request_context
from vizro import Vizro
from vizro.managers import data_manager
from vizro.models.types import capture

from northstar.base.clock import GRAINS
from northstar.base.formats import format_count, format_value
from northstar.base.locales import locale_name
from northstar.base.settings import load_settings
from northstar.build.lineage import Lineage
from northstar.use.alerts.rules import unit_of
from northstar.use.last_preview import KeptPreview, kept_preview
from northstar.use.lineage.published import kept_lineage
from northstar.use.marts import Marts, Published
from northstar.use.pages import choices, door, serve
from northstar.use.pages.as_of import VersionedDropdown, obey_as_of, shown_marts
from northstar.use.pages.choices import NO_SEGMENT, PERIODS, UNKNOWN
from northstar.use.pages.contents import PageContent, pages_of
from northstar.use.pages.customers import add_customers
from northstar.use.pages.describe import banner, description, made_of, rules
from northstar.use.pages.downloads import add_downloads
from northstar.use.pages.links import page_path, slug
from northstar.use.pages.locales import obey_locale
from northstar.use.pages.manual import add_manual
from northstar.use.pages.markup import as_markup
from northstar.use.pages.painter import Painter
from northstar.use.pages.panels.drawing import (
    WORST,
    Panel,
    attribute,
    describe_restated,
    empty_figure,
    why_link,
    with_mark,
)
from northstar.use.pages.readings import read_newest_values, read_restatements, read_targets
from northstar.use.pages.search import add_search
from northstar.use.pages.subscribing import add_subscribing
from northstar.use.pages.values import add_values
from northstar.use.pages.why import add_why
from northstar.use.why.background import Place
from northstar.use.words import Chance, describe_chance, period, restatement_reasons, title_of, what_to_land
from northstar.warehouse.rows import Row

ASSETS = Path(__file__).with_name("assets")
BROKEN = "this panel could not be drawn; the log of the pages says why"
# a table of more rows has a field to search them
FEW = 12
# the columns that have names from sources, and the characters of one that is not cut
NAMED, LONG = ("application", "segment", "of", "contributes most", "of the same cause"), 24
LOG = logging.getLogger(__name__)
Shown = TypeVar("Shown")
# Vizro needs the name of a frame for each figure; ours read the marts instead
NO_FRAME = "none"
data_manager[NO_FRAME] = pd.DataFrame


@cache
def marts_of(role: str | None) -> Marts:
    """This process's reader of the newest version for a role, on the home that the environment names. Each has a memory of its own."""
    return Marts(load_settings(), role)


def newest_marts() -> Marts:
    """The reader of the newest version for who asks; outside of requests, for who sees everything."""
    return marts_of(door.role_of_request() if has_request_context() else None)


def painter() -> Painter:
    """The painter of the version that is shown."""
    return Painter(shown_marts(newest_marts()))


@capture("graph")
def chart(
    data_frame: pd.DataFrame,
    panel: Panel,
    application: str = "all",
    grain: str = "month",
    months: int = 12,
    segment: str = NO_SEGMENT,
) -> go.Figure:
    """A panel's chart; see Painter.draw."""
    return _draw_or_explain(panel, application, grain, months, segment)


@capture("figure")
def cards(data_frame: pd.DataFrame, panel: Panel, application: str = "all", grain: str = "month") -> html.Div:
    """A panel's cards."""
    if not is_offered(application=application, grain=grain):
        return html.Div(UNKNOWN, role="alert")
    try:
        return as_markup(painter().cards(panel, application, grain))
    except Exception:
        LOG.exception("the cards %s", panel["title"])
        return html.Div(BROKEN, role="alert")


@capture("figure")
def version_banner(data_frame: pd.DataFrame) -> html.Div:
    """The banner at the head of each page."""
    return banner(painter().marts)


@capture("figure")
def metric_description(
    data_frame: pd.DataFrame, metric: str = "mrr", application: str = "all"
) -> html.Div | dcc.Markdown:
    """What the chosen metric is."""
    marts = painter().marts
    if not is_offered(application=application, metric=metric):
        return banner(marts)
    entry = marts.catalogue()[metric]
    grain = "month" if "month" in entry["grains"] else entry["grains"][-1]
    expected = marts.forecasts(metric, application, grain)
    words = description(
        entry,
        marts.targets(application),
        marts.currency,
        marts.calendar,
        marts.coverage(metric),
        expected,
        marts.expectations(metric),
    )
    panels = [
        f"{page['title']}: {panel['title']}"
        for page in pages_of(marts.settings)
        for panel in page["panels"]
        if metric in panel["metrics"]
    ]
    return html.Div(
        [words, *rules(entry["definition"], marts.settings.root), made_of(published_columns(marts), metric, panels)]
    )


def published_columns(marts: Marts) -> Lineage | None:
    """The lineage of the published version's code; None where this home has not kept it."""
    version = marts.frame("select code_version from publications order by published_version desc limit 1")
    return kept_lineage(marts.settings, str(version["code_version"].iloc[0])) if len(version) else None


@capture("graph")
def history_chart(
    data_frame: pd.DataFrame,
    metric: str = "mrr",
    application: str = "all",
    grain: str = "month",
    months: int = 12,
    segment: str = NO_SEGMENT,
) -> go.Figure:
    """The chosen metric over time."""
    if not is_offered(metric=metric):
        return empty_figure(UNKNOWN)
    return _draw_or_explain({"kind": "line", "metrics": [metric], "title": metric}, application, grain, months, segment)


@capture("figure")
def restatements_table(data_frame: pd.DataFrame, metric: str = "mrr", application: str = "all") -> html.Div:
    """Published values of the chosen metric that changed later."""
    if not is_offered(application=application, metric=metric):
        return html.Div(UNKNOWN, role="alert")
    frame = read_restatements(painter().marts, metric, application)
    currency = painter().marts.currency
    rows = [
        {"period": period(r["period_start"], r["grain"], painter().marts.calendar), "grain": r["grain"], "segment": r["segment_value"] or "total",
         "old value": format_value(r["old_value"], r["unit"], r["old_currency"] or currency), "new value": why_link(format_value(r["new_value"], r["unit"], r["new_currency"] or currency), Place(
             r["metric_id"], r["grain"], r["period_start"], r["application"], r["segment"], r["segment_value"]) if r["periods"] is None else None), "from version": r["old_version"],
         "to version": r["new_version"], "reason": restatement_reasons(r)}
        for r in frame.to_dict("records")
    ]  # fmt: skip
    names = ["period", "grain", "segment", "old value", "new value", "from version", "to version", "reason"]
    return _table(rows, names, "Restatements", "No value of this metric has been restated.")


@capture("figure")
def catalogue_table(data_frame: pd.DataFrame, application: str = "all") -> html.Div:
    """Every metric with its newest value and what its targets say."""
    if not is_offered(application=application):
        return html.Div(UNKNOWN, role="alert")
    return painter().marts.remember(
        ("catalogue of", locale_name(), application), lambda: _catalogue_table(painter().marts, application)
    )


def _catalogue_table(marts: Marts, application: str) -> html.Div:
    metrics_by_id, targets = marts.catalogue(), marts.targets(application)
    lacking = marts.lacking(application)
    frame = read_newest_values(marts, application)
    newest = {r["metric_id"]: r for r in frame.to_dict("records")} if len(frame) else {}
    found = marts.restated(frame.assign(application=application, segment="", segment_value=""))
    restated = {key[0]: value for key, value in found.items()}
    rows = []
    for metric, entry in metrics_by_id.items():
        value = newest.get(metric)
        own = targets[(targets["metric_id"] == metric)] if len(targets) else targets
        worst: dict[str, str] = {}
        for row in own.to_dict("records"):
            worst[row["application"]] = min(worst.get(row["application"], "green"), row["zone"], key=WORST.index)
        zones = (
            ", ".join(f"{name}: {zone}" for name, zone in worst.items())
            if application == "all"
            else worst.get(application, "")
        )
        rows.append({
            "metric": metric, "definition": entry["definition"], "domain": entry["domain"], "level": entry["level"],
            "newest": with_mark(why_link(format_value(value["value"], entry["unit"], marts.currency), Place(metric, value["grain"], value["period_start"], application)),
                                describe_restated(restated.get(metric), entry["unit"]))
            if value else "-",
            "period": period(value["period_start"], value["grain"], marts.calendar) if value else "", "zone": zones,
            "null reason": what_to_land(lacking[metric]) if metric in lacking else (value or {}).get("null_reason") or "", "owner": entry.get("owner") or "",
        })  # fmt: skip
    names = ["metric", "newest", "period", "zone", "definition", "domain", "level", "null reason", "owner"]
    return _table(rows, names, "All metrics", "There are no metrics yet.")


@capture("figure")
def targets_table(data_frame: pd.DataFrame, dashboard: str, application: str = "all") -> html.Div:
    """The targets of a dashboard's metrics with their values, zones, thresholds, and the chance that those due later will be met."""
    if not is_offered(application=application):
        return html.Div(UNKNOWN, role="alert")
    return painter().marts.remember(
        ("targets of", locale_name(), dashboard, application),
        lambda: _targets_table(painter().marts, dashboard, application),
    )


def _targets_table(marts: Marts, dashboard: str, application: str) -> html.Div:
    currency = painter().marts.currency
    expected: dict[str, Chance] = {}
    rows = []
    targets = read_targets(marts, dashboard, application)
    frame = pd.DataFrame(targets)
    restated = marts.restated(frame[frame["period_start"].notna()]) if len(frame) else {}
    for r in targets:
        expected |= marts.expectations(r["metric_id"]) if pd.notna(r["due_at"]) else {}
        warning, critical, target = (
            "" if r[name] is None else format_value(r[name], r["unit"], currency)
            for name in ("warning", "critical", "target")
        )
        rows.append({
            "metric": title_of(r["metric_id"]), "application": r["application"], "segment": r["segment_value"] or "", "grain": r["grain"],
            "value": with_mark(why_link(format_value(r["value"], r["unit"], currency), Place(
                r["metric_id"], r["grain"], r["period_start"], r["application"], r["segment"], r["segment_value"]) if r["value"] is not None else None),
                describe_restated(restated.get((r["metric_id"], r["grain"], r["period_start"], r["application"], r["segment"], r["segment_value"])), r["unit"])),
            "target": f"{r['operator'] or ''} {target}".strip(), "warning": warning, "critical": critical,
            "zone": r["zone"], "trend": r["trend"] or "", "due": f"{r['due_at']:%Y-%m-%d}" if pd.notna(r["due_at"]) else "",
            "forecast": describe_chance(expected.get(r["target_id"])), "alert": r["alert_latency"] or "", "action": r["action"] or "",
        })  # fmt: skip
    # missed targets come first; on a phone the zone comes before the columns that have to be scrolled to
    rows.sort(key=lambda row: (WORST.index(row["zone"]), row["metric"]))
    names = ["metric", "application", "zone", "value", "target", "warning", "critical", "segment", "grain", "trend", "due", "forecast", "alert", "action"]  # fmt: skip
    return _table(rows, names, "Targets", "This application has no targets here.")


@capture("figure")
def alerts(data_frame: pd.DataFrame, application: str = "all") -> html.Div:
    """The open alerts: the rule of each, what it was compared with, how often it fired."""
    if not is_offered(application=application):
        return html.Div(UNKNOWN, role="alert")
    return shown_alerts(painter().marts, application)


def shown_alerts(marts: Marts, application: str) -> html.Div:
    """The table of the open alerts; for an earlier version, of the alerts of its targets, which are what a version keeps."""
    if marts.past_version is not None:
        return _alerts_of_version(marts, application)
    currency = marts.currency
    rows = []
    for r in marts.open_alerts(application):
        unit = unit_of(r["rule"]) or r["unit"]
        value, threshold, usual = (
            "" if r[name] is None else format_value(r[name], unit, currency)
            for name in ("value", "threshold", "baseline")
        )
        rows.append({
            "alert": title_of(r["metric_id"]) if r["metric_id"] else r["rule"].replace("_", " ").capitalize(), "application": r["application"],
            "severity": r["severity"], "of": r["segment_value"], "value": value, "compared with": f"{threshold} ({r['compared_with']})".strip(),
            "usual": usual, "fired in 90 days": r["fired_90_days"], "since": f"{r['since']:%Y-%m-%d %H:%M}", "rule": f"{r['rule']}: {r['says']}",
            "of the same cause": r["also"], "contributes most": r["contributes"], "action": r["action"], "state": r["state"], "id": r["alert"],
        })  # fmt: skip
    names = ["alert", "application", "severity", "of", "value", "compared with", "usual", "fired in 90 days", "since", "rule", "of the same cause", "contributes most", "action", "state", "id"]  # fmt: skip
    return _table(rows, names, "Open alerts", "No alert is open.")


def _alerts_of_version(marts: Marts, application: str) -> html.Div:
    rows = [
        {
            "alert": title_of(r["metric_id"]), "application": r["application"], "severity": r["severity"], "of": r["segment_value"] or "",
            "value": "" if r["value"] is None else format_value(r["value"], r["unit"], marts.currency),
            "threshold": "" if r["threshold"] is None else format_value(r["threshold"], r["unit"], marts.currency),
            "fired in 90 days": r["fired_90_days"], "since": f"{r['opened_at']:%Y-%m-%d %H:%M}", "action": r["action"] or "",
        }
        for r in marts.frame(
            "select a.*, m.unit from alerts as a join metrics as m using (metric_id) where closed_at is null and opened_at <= %(as_of)s "
            "and %(application)s in ('all', a.application) order by severity, opened_at desc, alert_id", as_of=marts.as_of(), application=application,
        ).to_dict("records")
    ]  # fmt: skip
    names = ["alert", "application", "severity", "of", "value", "threshold", "fired in 90 days", "since", "action"]
    words = "A version keeps the alerts of its targets. Those of rules on landed rows, and who has acknowledged what, are on the page as of now."
    return html.Div([html.P(words), _table(rows, names, "Open alerts", "No target's alert was open.")])


def is_offered(
    application: object = choices.ANY,
    grain: object = "month",
    months: object = 12,
    segment: object = NO_SEGMENT,
    metric: object = None,
) -> bool:
    """Whether a reader can choose these values. A request may contain any values, and its answer would be kept."""
    return choices.is_offered(painter().marts, application, grain, months, segment, metric)


def _draw_or_explain(panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    """The panel's figure. One that cannot be drawn says so, and does not affect the page's others."""
    if not is_offered(application=application, grain=grain, months=months, segment=segment):
        return empty_figure(UNKNOWN)
    try:
        return painter().draw(panel, application, grain, months, "" if segment == NO_SEGMENT else segment)
    except Exception:
        LOG.exception("the panel %s", panel["title"])
        return empty_figure(BROKEN)


def _table(rows: list[Row], names: list[str], caption: str, empty: str) -> html.Div:
    """A table that can be scrolled by keyboard, and searched where it is long; its first column is the header of each row."""
    if not rows:
        return html.Div(empty, className="northstar-empty")
    body = [
        html.Tr(
            [
                html.Th(_cut(names[0], row[names[0]]), scope="row"),
                *(
                    html.Td(_cut(name, row[name]), className=f"northstar-is-{row[name] if name == 'zone' else name}")
                    for name in names[1:]
                ),
            ]
        )
        for row in rows
    ]
    head = html.Thead(html.Tr([html.Th(name.capitalize(), scope="col") for name in names]))
    table = as_markup(
        html.Div(
            html.Table([head, html.Tbody(body)], className="northstar-table"),
            className="northstar-scroll",
            tabIndex="0",
            role="region",
            **attribute("aria-label", caption),
        )
    )
    if len(rows) <= FEW:
        return table
    field = dcc.Input(type="search", placeholder=f"Search these {format_count(len(rows))} rows", autoComplete="off")
    return html.Div([html.Label([f"Search {caption}", field], className="northstar-search-label"), table])


def _cut(name: str, shown: Shown) -> Shown | html.Span:
    """A cell that names something: a long name is cut where it is shown, and whole where it is pointed at."""
    if name not in NAMED or not isinstance(shown, str) or len(shown) <= LONG:
        return shown
    return html.Span(shown, title=shown, className="northstar-name")


def _page(page: PageContent) -> vm.Page:
    """A page of pages.yml with its banner, panels and controls."""
    components: list[vm.Figure | vm.Graph | vm.Container] = [
        vm.Figure(id=f"{slug(page['title'])}-version", figure=version_banner(data_frame=NO_FRAME))
    ]
    chart_names: list[str] = []
    figure_names: list[str] = []
    for number, panel in enumerate(page["panels"]):
        name = f"{slug(page['title'])}-{number}"
        if panel["kind"] == "cards":
            components.append(
                vm.Container(
                    title=panel["title"],
                    components=[vm.Figure(id=name, figure=cards(data_frame=NO_FRAME, panel=panel))],
                )
            )
            figure_names.append(name)
        elif panel["kind"] == "targets":
            components.append(
                vm.Container(
                    title=panel["title"],
                    components=[
                        vm.Figure(id=name, figure=targets_table(data_frame=NO_FRAME, dashboard=slug(page["title"])))
                    ],
                )
            )
            figure_names.append(name)
        else:
            graph = vm.Graph(
                id=name,
                title="" if panel.get("width") == 12 else panel["title"],
                figure=chart(data_frame=NO_FRAME, panel=panel),
            )
            # a container takes the whole width
            components.append(
                vm.Container(title=panel["title"], components=[graph]) if panel.get("width") == 12 else graph
            )
            chart_names.append(name)
    metrics = [panel["metrics"][0] for panel in page["panels"] if panel["kind"] == "line" and "segment" not in panel and len(panel["metrics"]) == 1]  # fmt: skip
    segments = partial(offered_segments, metrics)
    # before the first version nobody knows of any
    has_segments = bool(metrics) and (len(segments()) > 1 or not painter().marts.catalogue())
    lines = [
        f"{slug(page['title'])}-{n}"
        for n, panel in enumerate(page["panels"])
        if panel["kind"] == "line" and "segment" not in panel
    ]
    grained_names = [
        *chart_names,
        *(n for n in figure_names if page["panels"][int(n.rsplit("-", 1)[1])]["kind"] == "cards"),
    ]
    return vm.Page(
        id=slug(page["title"]), title=page["title"], path=page_path(page["title"]), components=components,
        layout=vm.Flex(direction="row", wrap=True, gap="16px"),
        controls=_controls(page["title"], [*chart_names, *figure_names], grained_names, chart_names, lines if has_segments else [], segments),
    )  # fmt: skip


def _controls(
    page: str,
    applications: list[str],
    grains: list[str],
    months: list[str],
    segmented: list[str],
    segments: Callable[[], list[str]],
) -> list[vm.Parameter]:
    """The controls of a page: each one sets an argument of the panels named."""
    name = slug(page)
    controls = [
        vm.Parameter(id=f"{name}-application", targets=[f"{n}.application" for n in applications], show_in_url=True,
                     selector=VersionedDropdown.of(offered_applications, "Application", "all")),
        vm.Parameter(id=f"{name}-period", targets=[f"{n}.months" for n in months], show_in_url=True, selector=vm.Dropdown(
            title="Period", options=[{"label": name, "value": count} for name, count in PERIODS.items()], value=12, multi=False)),
        vm.Parameter(id=f"{name}-grain", targets=[f"{n}.grain" for n in grains], show_in_url=True,
                     selector=vm.Dropdown(title="Grain", options=list(GRAINS), value="month", multi=False)),
    ]  # fmt: skip
    if segmented:
        controls.append(vm.Parameter(id=f"{name}-segment", targets=[f"{n}.segment" for n in segmented], show_in_url=True, selector=VersionedDropdown.of(
            segments, "Segment", NO_SEGMENT)))  # fmt: skip
    return controls


def _metrics_page() -> vm.Page:
    """Every metric: its definition, history, targets, restatements."""
    chosen = ("metrics-about", "metrics-history", "metrics-restatements")
    return vm.Page(
        id="metrics", title="Metrics", path="/metrics", layout=vm.Flex(direction="row", wrap=True, gap="16px"),
        components=[
            vm.Figure(id="metrics-version", figure=version_banner(data_frame=NO_FRAME)),
            vm.Container(title="The metric", components=[vm.Figure(id="metrics-about", figure=metric_description(data_frame=NO_FRAME))]),
            vm.Container(title="History", components=[vm.Graph(id="metrics-history", figure=history_chart(data_frame=NO_FRAME))]),
            vm.Container(title="Restatements", components=[vm.Figure(id="metrics-restatements", figure=restatements_table(data_frame=NO_FRAME))]),
            vm.Container(title="All metrics", components=[vm.Figure(id="metrics-catalogue", figure=catalogue_table(data_frame=NO_FRAME))]),
        ],
        controls=[
            vm.Parameter(id="metrics-metric", targets=[f"{n}.metric" for n in chosen], show_in_url=True,
                         selector=VersionedDropdown.of(offered_metrics, "Metric", "mrr")),
            *_controls("Metrics", [*chosen, "metrics-catalogue"], ["metrics-history"], ["metrics-history"], ["metrics-history"], offered_segments),
        ],
    )  # fmt: skip


@capture("figure")
def last_preview(data_frame: pd.DataFrame) -> html.Div:
    """What the last `northstar preview` of this home found."""
    marts = painter().marts
    if marts.role is not None:
        return html.Div("A preview is of all applications; this role sees some.", className="northstar-empty")
    if marts.past_version is not None:
        return html.Div(
            "A preview belongs to no published version; the page as of now shows the last one.",
            className="northstar-empty",
        )
    return shown_preview(kept_preview(marts.settings), marts.published())


def shown_preview(kept: KeptPreview | None, published: Published | None) -> html.Div:
    """A preview as tables, with what its numbers are not."""
    if kept is None:
        return html.Div(
            "Nothing has been previewed in this home. The command northstar preview shows what a change of models or settings would change.",
            className="northstar-empty",
        )
    words = [
        html.P(f"{kept['previewed_at']} UTC: {kept['headline']}"),
        html.P(
            "Nothing here is published or audited. Rows and values of segments are in the output of the command alone."
        ),
    ]
    if published is not None and published.version != kept["version"]:
        words.append(
            html.P(
                f"Version {published.version:,} has been published since.", role="alert", className="northstar-warning"
            )
        )
    tables = [
        part
        for section in kept["sections"]
        for part in (html.H3(section["title"]), _table(section["rows"], list(section["rows"][0]), section["title"], ""))
    ]
    return html.Div([*words, *tables], className="northstar-preview")


def _preview_page() -> vm.Page:
    """What the last preview of a change found."""
    return vm.Page(
        id="preview", title="Preview", path="/preview", layout=vm.Flex(direction="row", wrap=True, gap="16px"),
        components=[
            vm.Figure(id="preview-version", figure=version_banner(data_frame=NO_FRAME)),
            vm.Container(title="The last preview", components=[vm.Figure(id="preview-last", figure=last_preview(data_frame=NO_FRAME))]),
        ],
    )  # fmt: skip


def _alerts_page() -> vm.Page:
    """What is open now, as `northstar alerts list` has it."""
    return vm.Page(
        id="alerts", title="Alerts", path="/alerts", layout=vm.Flex(direction="row", wrap=True, gap="16px"),
        components=[
            vm.Figure(id="alerts-version", figure=version_banner(data_frame=NO_FRAME)),
            vm.Container(title="Open alerts", components=[vm.Figure(id="alerts-open", figure=alerts(data_frame=NO_FRAME))]),
        ],
        controls=[
            vm.Parameter(id="alerts-application", targets=["alerts-open.application"], show_in_url=True,
                         selector=VersionedDropdown.of(offered_applications, "Application", "all")),
        ],
    )  # fmt: skip


def offered_applications() -> list[str]:
    """The applications of the version that is shown."""
    return painter().marts.applications()


def offered_metrics() -> list[dict[str, str]]:
    """The metrics of the version that is shown."""
    metrics = sorted(painter().marts.catalogue()) or ["mrr"]
    return [{"label": title_of(metric), "value": metric} for metric in metrics]


def offered_segments(metrics: list[str] | None = None) -> list[str]:
    """The segments by which these metrics, or any, are split in the version that is shown."""
    catalogue = painter().marts.catalogue()
    entries = [catalogue[metric] for metric in metrics or catalogue if metric in catalogue]
    return [NO_SEGMENT, *sorted({segment for entry in entries for segment in entry["segments"]})]


def build() -> Vizro:
    """The application. Raises NorthstarError when the warehouse cannot be reached."""
    groups: dict[str, list[str]] = {}
    contents = pages_of(painter().marts.settings)
    pages = [_page(page) for page in contents]
    for page in contents:
        groups.setdefault(page["group"], []).append(slug(page["title"]))
    groups["Alerts"], groups["Metrics"], groups["Preview"] = ["alerts"], ["metrics"], ["preview"]
    dashboard = vm.Dashboard(
        title="Northstar",
        pages=[*pages, _alerts_page(), _metrics_page(), _preview_page()],
        theme="vizro_light",
        navigation=vm.Navigation(pages=groups),
    )
    # a megabyte of scripts for tables that no page has
    libraries: MutableSet[str] = ComponentRegistry.registry
    libraries.discard("dash_ag_grid")
    return Vizro(assets_folder=str(ASSETS)).build(dashboard)


# Any: a module's attribute may be of any type
def __getattr__(name: str) -> Any:
    # gunicorn asks for `server`; nobody else builds the pages by importing this module
    if name == "server":
        settings, dash = load_settings(), build().dash
        server = dash.server
        if warning := serve.cleartext_warning():
            LOG.warning(warning)
        door.add_health(server, settings)
        door.require_key(server, settings)
        door.limit_requests(server, lambda: dash.callback_map)
        door.add_headers(server, dash.csp_hashes)
        obey_locale(server, settings.operations.locale)
        obey_as_of(server, newest_marts)
        add_why(server, lambda: painter().marts)
        add_values(server, lambda: painter().marts)
        add_downloads(server, lambda: painter().marts)
        add_search(server, lambda: painter().marts)
        add_manual(server, settings.root)
        add_subscribing(server, settings, lambda: painter().marts)
        add_customers(server, lambda: painter().marts, [page["title"] for page in pages_of(settings)])
        # Dash knows its own files only after it has made a page that names them: each worker must do so before it serves one
        server.test_client().get("/", headers=door.credentials(settings))
        return server
    raise AttributeError(name)

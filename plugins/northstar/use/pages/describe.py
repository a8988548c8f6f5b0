"""Texts besides the panels: the version that is shown, and what a metric is."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from dash import dcc, html

from northstar.base.clock import Calendar, show_utc
from northstar.base.formats import format_count, format_value
from northstar.build.lineage import METRIC, Lineage, Origin
from northstar.use.lineage.text import by_relation
from northstar.use.lineage.trace import trace_up
from northstar.use.marts import Coverage, Marts, Metric
from northstar.use.pages.as_of import control, past_words
from northstar.use.pages.panels.drawing import attribute
from northstar.use.past import PastMarts
from northstar.use.words import ZONES, Chance, cited_rules, describe_chance, period, title_of


def banner(marts: Marts, now: datetime | None = None) -> html.Div:
    """The version that is shown, with a warning when a freshness promise is broken or a check has failed, and the control for another version."""
    published = marts.published()
    if published is None:
        return html.Div("Nothing has been published yet: `make run`, or `northstar run`, publishes the first version.", role="alert",
                        className="northstar-banner northstar-warning")  # fmt: skip
    words = html.Span(
        f"Version {published.version:,}, published {show_utc(published.published_at)}, data up to {show_utc(published.as_of)}"
    )
    newest = marts.newest_marts.published() if isinstance(marts, PastMarts) else None
    if newest:
        words = past_words(published, newest)
    warnings = [f"Late: {'; '.join(late)}."] if (late := marts.broken_promises(now or datetime.now(UTC))) else []
    if published.is_of_earlier_time:
        warnings.append(
            f"The data ends at {show_utc(published.as_of)}, since the run that published it was asked for that time."
        )
    for alert in marts.open_alerts("northstar"):
        if alert["rule"] == "run_failed":
            warnings.append(f"The last run failed, at {show_utc(alert['since'])}.")
    if published.warnings:
        warnings.append("Warnings of the audit: " + ", ".join(published.warnings) + ".")
    banner = [
        html.Div(
            [words, control(marts.past_version)],
            className=f"northstar-banner{' northstar-past' if newest else ''}",
            **attribute("data-version", str(published.version)),
        )
    ]
    if warnings:
        banner.append(html.Div(" ".join(warnings), role="alert", className="northstar-banner northstar-warning"))
    return html.Div(banner)


def description(
    entry: Metric,
    targets: pd.DataFrame,
    currency: str,
    calendar: Calendar,
    coverage: Coverage | None,
    forecasts: pd.DataFrame,
    chances: dict[str, Chance],
) -> dcc.Markdown:
    """What a metric is: definition, unit, owner, how fresh it is, the errors of its forecast, its targets and the chance that those due later are met."""
    own = (
        targets[targets["metric_id"] == entry["metric_id"]].sort_values(["application", "due_at", "target_id"])
        if len(targets)
        else targets
    )
    lines = [f"**{title_of(entry['metric_id'])}** (`{entry['metric_id']}`): {entry['definition']}", "",
             f"Level {entry['level']} · unit {entry['unit']} · better {entry['direction']} · owner {entry.get('owner') or '-'} · "
             f"requirements {entry.get('requirement_refs') or '-'}"]  # fmt: skip
    if coverage and coverage["last_complete"]:
        first, last = (
            period(datetime.fromisoformat(moment), coverage["grain"], calendar)
            for moment in (coverage["first"], coverage["last_complete"])
        )
        nulls = ", ".join(
            f"{reason.replace('_', ' ')} {format_count(count)}" for reason, count in coverage["nulls"].items()
        )
        lines += [
            "",
            f"Data from {first}, complete up to {last}." + (f" Missing values by reason: {nulls}." if nulls else ""),
            "",
        ]
    if len(forecasts):
        forecast = forecasts.iloc[0]
        errors = "too few periods to try it" if forecast["naive_error"] is None else (
            f"its mean error in trials {format_value(forecast['smoothing_error' if forecast['method'] == 'smoothing' else 'naive_error'], entry['unit'], currency)}, "
            f"that of {'the naive forecast' if forecast['method'] == 'smoothing' else 'smoothing'} {format_value(forecast['naive_error' if forecast['method'] == 'smoothing' else 'smoothing_error'], entry['unit'], currency)}"
        )  # fmt: skip
        lines += ["", f"Forecast by {forecast['method']} from {forecast['periods']} periods: {errors}.", ""]
    for row in own.to_dict("records"):
        verdict = chances.get(row["target_id"])
        due = f", due {row['due_at']:%Y-%m-%d}" if pd.notna(row["due_at"]) else ""
        where = f" ({row['segment']} {row['segment_value']})" if row["segment"] else ""
        lines.append(f"- {row['application']}{where}: target {row['operator']} {format_value(row['target'], row['unit'], currency)} by {row['grain']}{due}: "
                     f"{format_value(row['value'], row['unit'], currency)}, {ZONES[row['zone']]}"
                     + (f"; {describe_chance(verdict)} to be met" if verdict else ""))  # fmt: skip
    return dcc.Markdown("\n".join(lines), className="northstar-definition")


def rules(definition: str, root: Path) -> list[html.Details]:
    """The rules that a metric's definition cites, folded; none where it cites none."""
    cited = cited_rules(definition, root)
    if cited is None:
        return []
    title, text = cited
    return [
        html.Details(
            [html.Summary(f"docs/semantics.md, {title}"), dcc.Markdown(text, className="northstar-definition")]
        )
    ]


def made_of(lineage: Lineage | None, metric: str, panels: list[str]) -> html.Details:
    """The landed columns that a metric stands on, the models between, and the panels that show it, folded. lineage: None where it is not kept."""
    title = html.Summary("What it is made of, and who shows it")
    if lineage is None:
        return html.Details(
            [title, dcc.Markdown(f"`northstar lineage {metric}` finds it; from then on it is shown here.")]
        )
    found = trace_up(lineage, Origin(METRIC, metric))
    lines = []
    for words, columns in (("Computed from", found.values), ("Rows chosen by", found.rows)):
        named = by_relation(columns)
        lines += [f"{words} the landed columns", "", *(f"- {text}" for text in named), ""] if named else []
    lines += ["Through the models " + ", ".join(f"`{name}`" for name in found.models), ""]
    lines += ["Shown by " + ", ".join(panels) if panels else "Shown by no panel but this page's"]
    return html.Details([title, dcc.Markdown("\n".join(lines), className="northstar-definition")])

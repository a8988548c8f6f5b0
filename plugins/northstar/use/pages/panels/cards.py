"""Cards: the newest complete value of metrics, its change, and what its target says of it."""

from datetime import datetime
from decimal import Decimal
from typing import TypedDict

import pandas as pd
from dash import html

from northstar.base.formats import compute_change, format_change, format_value
from northstar.use.marts import Marts
from northstar.use.pages.panels.drawing import MARK, WORST, Panel, attribute, describe_restated, no_values, why_link
from northstar.use.why.background import Place
from northstar.use.words import ZONES, period, title_of, what_to_land


class CardPoint(TypedDict):
    """A metric's value in a period, as Marts.newest has it."""

    grain: str
    period_start: datetime
    value: Decimal | None
    null_reason: str | None


def draw(marts: Marts, panel: Panel, application: str, grain: str) -> html.Div:
    catalogue, frame = marts.catalogue(), marts.newest(panel["metrics"], application, grain)
    targets, lacking = marts.targets(application), marts.lacking(application)
    newest = frame[frame["place"].astype(int) == 1] if len(frame) else frame
    restated = {
        key[0]: value
        for key, value in marts.restated(newest.assign(application=application, segment="", segment_value="")).items()
    }
    cards = []
    for metric in panel["metrics"]:
        if metric in catalogue:
            rows = frame[frame["metric_id"] == metric].sort_values("place").to_dict("records") if len(frame) else []
            zone = find_zone(targets, metric, application, rows[0]["grain"] if rows else grain)
            cards.append(
                _card(
                    marts,
                    metric,
                    application,
                    rows,
                    zone,
                    lacking.get(metric),
                    describe_restated(restated.get(metric), catalogue[metric]["unit"]),
                )
            )
    return html.Div(cards, className="northstar-cards", role="list", **attribute("aria-label", panel["title"]))


def _card(
    marts: Marts,
    metric: str,
    application: str,
    rows: list[CardPoint],
    zone: tuple[str, str] | None,
    lacking: str | None,
    restated: str,
) -> html.Div:
    entry, newest = marts.catalogue()[metric], rows[0] if rows else None
    value = newest["value"] if newest else None
    previous = rows[1]["value"] if len(rows) > 1 else None
    parts = [html.Div(title_of(metric), className="northstar-card-title", title=entry["definition"]),
             html.Div(why_link(_small_unit(format_value(value, entry["unit"], marts.currency)),
                               Place(metric, newest["grain"], newest["period_start"], application) if newest else None), className="northstar-card-value")]  # fmt: skip
    difference = compute_change(value, previous, entry["unit"])
    if lacking is not None:
        kind, words = "flat", what_to_land(lacking)
    elif difference is None:
        kind, words = (
            "flat",
            (newest["null_reason"] or "").replace("_", " ") if newest else no_values(marts, "no values"),
        )
    elif round(difference, 1) == 0:
        kind, words = "flat", "→ unchanged"
    else:
        kind = "better" if (difference > 0) == (entry["direction"] == "up") else "worse"
        words = f"{'↑' if difference > 0 else '↓'} {format_change(value, previous, entry['unit'])}, {kind}"
    parts.append(html.Div(words, className=f"northstar-card-change northstar-{kind}"))
    if restated:
        parts.append(html.Div(f"{MARK} {restated}", className="northstar-restated"))
    foot = (
        [html.Span(period(newest["period_start"], newest["grain"], marts.calendar), className="northstar-card-period")]
        if newest
        else []
    )
    if zone:
        foot.append(html.Span(zone[1], className=f"northstar-zone northstar-zone-{zone[0]}"))
    parts.append(html.Div(foot, className="northstar-card-foot"))
    return html.Div(parts, className="northstar-card", role="listitem", **attribute("data-metric", metric))


def find_zone(targets: pd.DataFrame, metric: str, application: str, grain: str) -> tuple[str, str] | None:
    """The worst zone of a metric's targets, and in words whose it is, and the grain that it is judged by where the card shows another."""
    own = targets[(targets["metric_id"] == metric) & (targets["segment"] == "")] if len(targets) else targets
    if not len(own):
        return None
    worst = min(own.to_dict("records"), key=lambda t: WORST.index(t["zone"]))
    where = f": {worst['application']}" if application == "all" and worst["zone"] in ("red", "yellow") else ""
    by = f" by {worst['grain']}" if worst["grain"] != grain and worst["zone"] != "unknown" else ""
    return worst["zone"], f"{ZONES[worst['zone']]}{by}{where}"


def _small_unit(text: str) -> list[str | html.Small]:
    number, space, unit = text.partition(" ")
    return [number, html.Small(f"{space}{unit}")] if unit else [number]

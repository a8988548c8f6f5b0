"""A panel of kind line: lines over time, with their forecasts and their targets."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go

from northstar.base.formats import SUFFIXES, format_count, format_value
from northstar.contract.codes import minor_digits
from northstar.use.marts import Marts, Metric, Restated
from northstar.use.pages.links import all_values_path
from northstar.use.pages.panels.drawing import (
    COLOURS,
    LINES,
    TICKS,
    Panel,
    cut_name,
    describe_restated,
    escape_labels,
    share,
    without_values,
)
from northstar.use.pages.panels.marks import draw_marks
from northstar.use.why.background import series_path
from northstar.use.words import period, title_of

# the share of a period that has to be over before its value is drawn: three tickets in a month's first hours are no fall
BEGUN = 0.1
LENGTHS = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "quarter": 91, "year": 365}


# metric_id, grain, period_start, segment_value
Point = tuple[str, str, datetime, str]


class LinePoint(TypedDict):
    """A metric's value in a period, from Marts.series; the columns that are read here."""

    metric_id: str
    grain: str
    period_start: datetime


def read(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
    """The values over time, also those that there is no room for in the chart, and those that are null."""
    return _shares(panel, _read_all(marts, panel, application, grain, months, segment))


def _read_all(
    marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str, largest: int | None = None
) -> pd.DataFrame:
    """The values of the panel's metrics, those that shares are of included. largest: as in Marts.series."""
    metrics = [*panel["metrics"], *([panel["share_of"]] if "share_of" in panel else [])]
    return marts.series(metrics, application, grain, months, panel.get("segment", segment), largest)


def _shares(panel: Panel, frame: pd.DataFrame) -> pd.DataFrame:
    """The values that the panel shows: those that were read, or their shares."""
    return share(frame, panel["metrics"][0], panel["share_of"]) if "share_of" in panel and len(frame) else frame


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    # a share needs the same values of both metrics, and no panel of shares is split by many
    room = None if "share_of" in panel else max(1, LINES // len(panel["metrics"]))
    values = _read_all(marts, panel, application, grain, months, segment, room)
    frame = escape_labels(_shares(panel, values), "segment_value")
    metrics, segment = list(panel["metrics"]), panel.get("segment", segment)
    restated = _restated(marts, values, panel, application, segment)
    catalogue = marts.catalogue()
    frame = frame[frame["value"].notna()] if len(frame) else frame
    if not len(frame):
        return without_values(marts, metrics[0], application, f"no values for {application} in this period")
    unit = "percent" if "share_of" in panel else catalogue[metrics[0]]["unit"]
    figure, summaries = go.Figure(), []
    for colour, (whole, points) in zip(COLOURS, _lines(frame, metrics, room or LINES), strict=False):
        # the legend has a short name; what is pointed at, and the words, have the whole one
        name = cut_name(whole) if points.iloc[0]["segment_value"] else whole
        is_over = points["is_complete"].astype(bool)
        complete, open_ = points[is_over], points[~is_over]
        open_ = open_[[_has_begun(marts, p, catalogue) for p in open_.to_dict("records")]] if len(open_) else open_
        mode = "lines+markers" if len(complete) < 40 else "lines"
        first = points.iloc[0]
        # a point's address is this and its period
        why = series_path(
            first["metric_id"],
            first["grain"],
            application,
            segment if first["segment_value"] else "",
            first["raw_segment_value"],
        )
        figure.add_scatter(
            x=complete["period_start"], y=complete["value"].astype(float), name=name, mode=mode, hovertemplate=_hover(marts.currency, unit, whole), legendgroup=whole,
            line={"color": colour}, meta=why,
        )  # fmt: skip
        if len(open_):
            # the period that is not complete
            figure.add_scatter(
                x=open_["period_start"], y=open_["value"].astype(float), name=f"{name}, so far", mode="markers", legendgroup=whole, showlegend=False,
                marker={"symbol": "circle-open", "size": 8, "color": colour}, hovertemplate=_hover(marts.currency, unit, f"{whole}, so far"), meta=why,
            )  # fmt: skip
        summaries += _draw_restated(marts, figure, complete, restated, unit, whole, colour, why)
        if len(complete):
            last = complete.iloc[-1]
            summaries.append(
                f"{whole} {format_value(last['value'], unit, marts.currency)} ({period(last['period_start'], last['grain'], marts.calendar)})"
            )
    if is_forecast(panel, segment):
        summaries += _draw_forecast(marts, figure, metrics[0], application, frame, unit)
    _draw_targets(marts, figure, panel, application, metrics, segment)
    moments = [pd.Timestamp(x) for trace in figure.data for x in trace.x]
    if len(set(moments)) == 1:
        # Plotly would draw a lone point on an axis of milliseconds
        figure.update_xaxes(range=[moments[0] - pd.Timedelta(days=20), moments[0] + pd.Timedelta(days=20)])
    summaries += draw_marks(marts, figure, metrics, application, frame)
    among = int(frame["among"].max()) if room else 0
    if room and among > room:
        newest = frame["grain"].iloc[0]
        words = f"the {room} largest of {format_count(among)}" + (" of each" if len(metrics) > 1 else "")
        path = all_values_path(metrics[0], application, newest, segment)
        figure.update_layout(legend_title_text=f'{words}: <a href="{path}">all</a>')
        summaries.append(words)
    figure.update_yaxes(
        ticksuffix=SUFFIXES.get(unit, ""),
        tickformat=TICKS,
        rangemode="tozero" if unit in ("count", "money") else "normal",
    )
    figure.update_layout(
        hovermode="x unified",
        showlegend=len({t.name for t in figure.data if t.showlegend is not False}) > 1,
        meta="; ".join(summaries),
    )
    return figure


def _restated(
    marts: Marts, values: pd.DataFrame, panel: Panel, application: str, segment: str
) -> dict[Point, Restated]:
    """What became of the values since the version that is shown; for shares, of the shares."""
    if not len(values):
        return {}
    segments = [segment if value else "" for value in values["segment_value"]]
    found = marts.restated(values.assign(application=application, segment=segments))
    restated = {(metric, grain, start, value): now for (metric, grain, start, _, _, value), now in found.items()}
    if "share_of" not in panel or not restated:
        return restated
    part, whole = panel["metrics"][0], panel["share_of"]
    points = zip(values["metric_id"], values["grain"], values["period_start"], values["segment_value"], strict=True)
    now = {p: restated[p].value if p in restated else v for p, v in zip(points, values["value"], strict=True)}
    shares: dict[Point, Restated] = {}
    for _, at, start, value in restated:
        mine, total = (part, at, start, value), (whole, at, start, value)
        own, base = now.get(mine), now.get(total)
        either = restated.get(mine) or restated[total]
        shares[mine] = replace(either, value=100 * own / base if own is not None and base else None)
    return shares


def _draw_restated(
    marts: Marts,
    figure: go.Figure,
    points: pd.DataFrame,
    restated: dict[Point, Restated],
    unit: str,
    name: str,
    colour: str,
    why: str,
) -> list[str]:
    """Mark the points of a line that were restated since; returns them in words."""
    places = zip(points["metric_id"], points["grain"], points["period_start"], points["raw_segment_value"], strict=True)
    words = pd.Series([describe_restated(restated.get(place), unit) for place in places], points.index, dtype=object)
    marked = points[words != ""]
    if not len(marked):
        return []
    figure.add_scatter(
        x=marked["period_start"], y=marked["value"].astype(float), name=f"{name}, restated since", mode="markers", legendgroup=name, showlegend=False,
        marker={"symbol": "diamond", "size": 11, "color": colour, "line": {"width": 1.5, "color": "#ffffff"}}, meta=why,
        text=list(words[words != ""]), hovertemplate="%{text}",
    )  # fmt: skip
    return [
        f"restated since: {name} {period(row['period_start'], row['grain'], marts.calendar)} {format_value(row['value'], unit, marts.currency)}, {words[index]}"
        for index, row in zip(marked.index, marked.to_dict("records"), strict=True)
    ]


def _hover(currency: str, unit: str, name: str = "") -> str:
    digits = minor_digits(currency) if unit == "money" else {"count": 0, "percent": 1}.get(unit, 2)
    suffix = f" {currency}" if unit == "money" else SUFFIXES.get(unit, "")
    return f"%{{y:,.{digits}f}}{suffix}" + (f"<extra>{name}</extra>" if name else "")


def _has_begun(marts: Marts, point: LinePoint, catalogue: dict[str, Metric]) -> bool:
    """Whether to draw a period that is not complete: a snapshot always, and what happens during a period once BEGUN of it is over."""
    elapsed = marts.as_of() - point["period_start"]
    return catalogue[point["metric_id"]]["kind"] == "snapshot" or elapsed >= BEGUN * timedelta(
        days=LENGTHS[point["grain"]]
    )


def is_forecast(panel: Panel, segment: str) -> bool:
    """Whether the panel's line goes on with its forecast: that of one metric in total."""
    return len(panel["metrics"]) == 1 and not panel.get("segment", segment) and "share_of" not in panel


def expected_values(marts: Marts, metric: str, application: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The forecast of the periods after the last complete one of `frame`, which has a row or more."""
    expected = marts.forecasts(metric, application, frame["grain"].iloc[0])
    last = frame[frame["is_complete"].astype(bool)].tail(1)
    return (
        expected[expected["period_start"] > last["period_start"].iloc[0]].head(12)
        if len(expected) and len(last)
        else expected.head(0)
    )


def _draw_forecast(
    marts: Marts, figure: go.Figure, metric: str, application: str, frame: pd.DataFrame, unit: str
) -> list[str]:
    """Draw the forecast with its 80 % interval; returns it in words."""
    expected = expected_values(marts, metric, application, frame)
    if not len(expected):
        return []
    last = frame[frame["is_complete"].astype(bool)].tail(1)
    x = [last["period_start"].iloc[0], *expected["period_start"]]
    newest_value = float(last["value"].iloc[0])
    low, high, middle = ([newest_value, *map(float, expected[column])] for column in ("low_80", "high_80", "value"))
    common = {"x": x, "mode": "lines", "legendgroup": "forecast", "hoverinfo": "skip"}
    figure.add_scatter(**common, y=high, line={"width": 0}, showlegend=False, name="forecast, high")
    figure.add_scatter(
        **common,
        y=low,
        line={"width": 0},
        fill="tonexty",
        fillcolor="rgba(120, 120, 140, 0.22)",
        showlegend=False,
        name="forecast, low",
    )
    figure.add_scatter(
        x=x, y=middle, mode="lines", line={"dash": "dot", "width": 1.5, "color": COLOURS[6]}, legendgroup="forecast", name="forecast (80 %)",
        hovertemplate=_hover(marts.currency, unit, "expected"),
    )  # fmt: skip
    end = expected.iloc[-1]
    return [f"forecast {format_value(end['value'], unit, marts.currency)} ({period(end['period_start'], end['grain'], marts.calendar)}), "
            f"80 %: {format_value(end['low_80'], unit, marts.currency)} to {format_value(end['high_80'], unit, marts.currency)}"]  # fmt: skip


def _lines(frame: pd.DataFrame, metrics: list[str], room: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """(name, points) of each line: of each metric at most `room`, its segment's largest values, or its total."""
    newest = (
        frame.sort_values("period_start")
        .groupby(["metric_id", "segment_value"], sort=False)["value"]
        .last()
        .astype(float)
    )
    for metric in metrics:
        if metric not in newest.index:
            continue
        values = list(newest[metric].sort_values(ascending=False).index[:room])
        for value in values:
            name = (value if len(metrics) == 1 else f"{title_of(metric)}, {value}") if value else title_of(metric)
            yield name, frame[(frame["metric_id"] == metric) & (frame["segment_value"] == value)]


def _draw_targets(
    marts: Marts, figure: go.Figure, panel: Panel, application: str, metrics: list[str], segment: str
) -> None:
    if len(metrics) != 1 or segment or application == "all" or "share_of" in panel:
        return
    targets = marts.targets(application)
    own = (
        targets[(targets["metric_id"] == metrics[0]) & (targets["segment"] == "") & targets["target"].notna()]
        if len(targets)
        else targets
    )
    for target, operator in sorted({(float(t["target"]), t["operator"]) for t in own.to_dict("records")}):
        text = f"target {operator} {format_value(target, own.iloc[0]['unit'], marts.currency)}"
        figure.add_hline(y=target, line={"dash": "dot", "width": 1}, annotation={"text": text, "font": {"size": 11}})

"""A panel of kind bars: a bar for each value of a segment."""

from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go

from northstar.base.formats import SUFFIXES, format_count, format_value
from northstar.use.marts import Marts, Restated, nearest
from northstar.use.pages.links import all_values_path
from northstar.use.pages.panels.drawing import (
    BARS,
    COLOURS,
    TICKS,
    Panel,
    caption,
    describe_restated,
    escape_labels,
    mark,
    name_bars,
    without_values,
)
from northstar.use.why.background import Place
from northstar.use.words import period


def read(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
    """The values of the newest complete period, in the order of the bars, also those that there is no room for."""
    frame = marts.by_segment(panel["metrics"][0], application, grain, panel["segment"])
    if "headroom" in panel and len(frame):
        frame = frame.assign(value=panel["headroom"] - frame["value"]).sort_values("value")
    return frame


def _restated(
    marts: Marts, frame: pd.DataFrame, metric: str, grain: str, application: str, panel: Panel
) -> dict[str, str]:
    """{segment value: what became of its value since the version that is shown, in words}."""
    places = frame.assign(
        metric_id=metric, grain=grain, application=application, segment=panel["segment"], segment_value=frame["raw_segment_value"]
    )  # fmt: skip
    found = marts.restated(places)
    unit = marts.catalogue()[metric]["unit"]
    return {key[-1]: describe_restated(_headroom(value, panel), unit) for key, value in found.items()}


def _headroom(restated: Restated, panel: Panel) -> Restated:
    if "headroom" not in panel or restated.value is None:
        return restated
    return replace(restated, value=panel["headroom"] - restated.value)


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    metric = panel["metrics"][0]
    frame = escape_labels(read(marts, panel, application, grain, months, segment), "segment_value")
    if not len(frame):
        return without_values(marts, metric, application, f"no values for {application}")
    unit = marts.catalogue()[metric]["unit"]
    kind = nearest(grain, marts.catalogue()[metric]["grains"])
    restated = _restated(marts, frame, metric, kind, application, panel)
    hidden_count = len(frame) - BARS
    frame = frame.head(BARS)
    texts = [format_value(value, unit, marts.currency) for value in frame["value"]]
    words = [restated.get(value, "") for value in frame["raw_segment_value"]]
    texts = [f"{text}{mark(now)}" for text, now in zip(texts, words, strict=True)]
    paths = [Place(metric, kind, frame["period_start"].iloc[0], application, panel["segment"], value).path for value in frame["raw_segment_value"]]  # fmt: skip
    figure = go.Figure(go.Bar(
        x=frame["value"].astype(float), y=frame["segment_value"], orientation="h", text=texts, textposition="auto", constraintext="none", hovertemplate="%{y}: %{text} %{customdata[0]}<extra></extra>",
        marker={"color": COLOURS[0]}, customdata=[list(pair) for pair in zip(words, paths, strict=True)],
    ))  # fmt: skip
    name_bars(figure, list(frame["segment_value"]))
    figure.update_xaxes(ticksuffix=SUFFIXES.get(unit, ""), tickformat=TICKS)
    # the theme would hide all texts where one of them has to be smaller than usual
    figure.update_layout(uniformtext={"mode": False, "minsize": 0}, bargap=0.2)
    when = period(frame["period_start"].iloc[0], kind, marts.calendar)
    summary = ", ".join(f"{v} {t} {w}".strip() for v, t, w in zip(frame["segment_value"], texts, words, strict=True))
    figure.update_layout(meta=f"{when}: {summary}" + (f" and {hidden_count} more" if hidden_count > 0 else ""))
    path = all_values_path(metric, application, kind, panel["segment"])
    caption(
        figure,
        f'{when}, {BARS} of {format_count(BARS + hidden_count)}: <a href="{path}">all</a>'
        if hidden_count > 0
        else when,
    )
    return figure

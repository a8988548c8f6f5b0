"""The marks on a chart over time: what happened in each of its periods that a reader should know."""

from bisect import bisect_right
from collections import Counter
from datetime import datetime
from urllib.parse import urlencode

import pandas as pd
import plotly.graph_objects as go

from northstar.base.escaping import plotly_label
from northstar.use.marts import Marts
from northstar.use.pages.panels.drawing import BAD
from northstar.use.words import describe_marks
from northstar.warehouse.rows import Row

NAME = "marks"
# the most marks of a period that are named when it is pointed at; all of them open with a click
NAMED = 4
LENGTHS = {grain: pd.DateOffset(**{f"{grain}s": 1}) for grain in ("hour", "day", "week", "month", "year")} | {
    "quarter": pd.DateOffset(months=3)
}
NOTE, OTHER = "#8a3ffc", "#767d88"
# characters of a line in the box beside the pointer
CHARACTERS = 70


def draw_marks(marts: Marts, figure: go.Figure, metrics: list[str], application: str, frame: pd.DataFrame) -> list[str]:
    """Draw a mark at the foot of each period in which something happened; returns them in words. frame: the values that are drawn, with grain and period_start."""
    starts: list[datetime] = sorted({pd.Timestamp(start).to_pydatetime() for start in frame["period_start"]})
    end = (pd.Timestamp(starts[-1]) + LENGTHS[frame["grain"].iloc[0]]).to_pydatetime()
    by_period: dict[datetime, list[Row]] = {}
    for mark in marts.marks(metrics, application, starts[0], end):
        by_period.setdefault(starts[bisect_right(starts, mark["marked_at"]) - 1], []).append(mark)
    if not by_period:
        return []
    ends = dict(zip(starts, [*starts[1:], end], strict=True))
    figure.add_scatter(
        x=list(by_period), y=[0.02] * len(by_period), yaxis="y2", mode="markers", name=NAME, showlegend=False,
        marker={"symbol": "triangle-up", "size": [8 if _is_large(marks) else 6 for marks in by_period.values()], "color": [_colour(marks) for marks in by_period.values()]},
        text=["<br>".join(plotly_label(line) for line in _lines(marks)) for marks in by_period.values()], hovertemplate="%{text}<extra></extra>",
        customdata=[marks_path(metrics, application, start, ends[start]) for start in by_period],
    )  # fmt: skip
    figure.update_layout(yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True})
    counts = Counter(mark["kind"] for marks in by_period.values() for mark in marks)
    named = [mark["title"] for marks in by_period.values() for mark in marks if mark["kind"] == "note"]
    return [
        "marks: " + ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts.most_common()),
        *(plotly_label(f"note: {text}") for text in named[-NAMED:]),
    ]


def marks_path(metrics: list[str], application: str, since: datetime, until: datetime) -> str:
    """The address of what happened in a period, for these metrics."""
    given = {"application": application, "from": f"{since:%Y-%m-%dT%H:%M}", "until": f"{until:%Y-%m-%dT%H:%M}"}
    return f"/why/marks?{urlencode({**given, 'metric': metrics}, doseq=True)}"


def _is_large(marks: list[Row]) -> bool:
    return any(mark["kind"] != "deployment" for mark in marks)


def _colour(marks: list[Row]) -> str:
    kinds = {mark["kind"] for mark in marks}
    return NOTE if "note" in kinds else BAD if "incident" in kinds else OTHER


def _lines(marks: list[Row]) -> list[str]:
    lines = describe_marks(marks)
    more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return [line if len(line) <= CHARACTERS else f"{line[:CHARACTERS]}…" for line in lines[:NAMED]] + more

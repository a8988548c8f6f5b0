"""What panels of several kinds draw with: colours, sizes, labels, and a figure that says why there is nothing."""

import math
from collections.abc import Sequence
from html import unescape
from textwrap import wrap
from typing import Any, NotRequired, TypedDict

import pandas as pd
import plotly.graph_objects as go
from dash import html

from northstar.base.escaping import plotly_label
from northstar.base.formats import format_value
from northstar.use.marts import Marts, Restated
from northstar.use.why.background import Place
from northstar.use.words import what_to_land

# the most lines, bars and flows of a panel: more are hard to read, and the others are in the marts
LINES, BARS, FLOWS = 8, 15, 24
# as many digits as it takes to tell ticks apart, and never an exponent
TICKS = ",.6~r"
# distinct colours, with a contrast of 3:1 against both themes
COLOURS = ("#2878d0", "#c2571a", "#0f8a6c", "#a04bb5", "#8f7a12", "#c8385a", "#4b7d8c", "#7a6ae0")
GOOD, BAD, SCARCE, TOTAL = "#16866a", "#c9382f", "#a97b00", "#4a6cb3"
HEIGHT, MARGIN, CAPTION = 320, 8, 26
# pixels of a legend; a longer one scrolls
LEGEND = 76
# characters of a name in a legend or on an axis
NAME = 32
# characters of a line in a figure without values, which has to fit a phone
REASON = 38
WORST = ("red", "yellow", "unknown", "green")


# a number as it is shown: its unit may be in small letters
Shown = str | list[str | html.Small]


class Panel(TypedDict):
    """A panel of pages.yml; that file says what each key means."""

    title: str
    kind: str
    metrics: list[str]
    width: NotRequired[int]
    height: NotRequired[int]
    segment: NotRequired[str]
    share_of: NotRequired[str]
    headroom: NotRequired[int]
    cohort_kind: NotRequired[str]
    funnel: NotRequired[str]


# what stands beside a number that was restated since the version that is shown
MARK = "◆"


def describe_restated(restated: Restated | None, unit: str) -> str:
    """What became of a number since the version that is shown, in words; '' where nothing did."""
    if restated is None:
        return ""
    reasons = f" ({restated.reasons})" if restated.reasons else ""
    return f"now {format_value(restated.value, unit, restated.currency)}{reasons}"


def describe_now(value: str, reasons: str) -> str:
    """What stands now in the place of a number that is no metric's, in words."""
    return f"now {value}" + (f" ({reasons})" if reasons else "")


def mark(words: str) -> str:
    """What follows a number of which these words say what became of it; '' where nothing did."""
    return f" {MARK}" if words else ""


def why_link(shown: Shown, place: Place | None) -> Shown | html.A:
    """A number that leads to what stands behind it; as it is where it has no place."""
    return shown if place is None else html.A(shown, href=place.path, className="northstar-why-link")


def with_mark(shown: Shown | html.A, words: str) -> Shown | html.A | list[Shown | html.A | html.Span]:
    """A number in a table, with what became of it since the version that is shown; as it is where nothing did."""
    return [shown, html.Span(f" {MARK} {words}", className="northstar-restated")] if words else shown


def escape_labels(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The rows, with the texts in `columns` escaped so that Plotly shows them as they are; as they were they are in `raw_...`."""
    if not len(frame):
        return frame
    shown = {c: pd.Series([plotly_label(v) for v in frame[c]], frame.index, dtype=object) for c in columns}
    return frame.assign(**{f"raw_{c}": frame[c] for c in columns}, **shown)


def cut_name(name: str) -> str:
    """A name that is short enough for a legend or an axis, cut in its middle: names often differ at their ends. `name` may be escaped for Plotly."""
    text = unescape(name)
    return name if len(text) <= NAME else plotly_label(f"{text[: NAME - 9]}…{text[-8:]}")


def share(frame: pd.DataFrame, part: str, whole: str) -> pd.DataFrame:
    def places(rows: pd.DataFrame) -> list[tuple[object, ...]]:
        # two hours of a day may have one name, which makes them equal
        return [
            (g, p.timestamp(), s)
            for g, p, s in zip(rows["grain"], rows["period_start"], rows["segment_value"], strict=True)
        ]

    of_whole = frame[frame["metric_id"] == whole]
    totals = dict(zip(places(of_whole), of_whole["value"], strict=True))
    own = frame[frame["metric_id"] == part].copy()
    base = [totals.get(place) for place in places(own)]
    own["value"] = [100 * v / b if v is not None and b else None for v, b in zip(own["value"], base, strict=True)]
    return own


def axis_start(low: float, high: float) -> float:
    """Where a bridge's axis begins: at 0, or where that would leave the steps too small to see, at a round number below them."""
    spread = high - low
    if low <= 0 or spread <= 0 or spread > 0.3 * high:
        return 0.0
    unit = 10 ** math.floor(math.log10(spread))
    base: float = max(0.0, math.floor((low - 0.5 * spread) / unit) * unit)
    return base


# Any: the type checker takes it for any of the element's arguments, which have types of their own
def attribute(name: str, value: str) -> dict[str, Any]:
    """An attribute of an element whose name is no Python identifier, to be passed with `**`."""
    return {name: value}


def with_second_line(texts: list[str], words: list[str]) -> list[str]:
    """Axis labels with some words below each, since words next to a bar would be cut off."""
    return [f"{text}<br><sub>{word or ' '}</sub>" for text, word in zip(texts, words, strict=True)]


def ticks(names: Sequence[str], shown: Sequence[str]) -> dict[str, object]:
    """What an axis of categories shows in the place of their names, which are unique and may be long."""
    return {"type": "category", "tickmode": "array", "tickvals": list(names), "ticktext": list(shown)}


def name_bars(figure: go.Figure, names: Sequence[str]) -> None:
    """Write the names of horizontal bars beside them, each cut; what is pointed at has the whole name."""
    figure.update_yaxes(autorange="reversed", title=None, **ticks(names, [cut_name(name) for name in names]))


def caption(figure: go.Figure, text: str) -> None:
    """Write a few words, such as the period, above a figure at its right. Inside they would cover the bars."""
    place = {"x": 1, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "right", "yanchor": "bottom"}
    figure.add_annotation(text=text, showarrow=False, font={"size": 11}, **place)
    figure.update_layout(margin_t=CAPTION)


def without_values(marts: Marts, metric: str, application: str, reason: str) -> go.Figure:
    """A figure that says what has to be landed for a metric, or the reason where it is measured in the application."""
    lacking = marts.lacking(application).get(metric)
    return empty_figure(what_to_land(lacking) if lacking else no_values(marts, reason))


def no_values(marts: Marts, reason: str) -> str:
    """Why a total is not shown: what a reader's role sees of it, or the reason for everybody."""
    segment = marts.only_segment
    return reason if segment is None else f"your role sees values by {segment.replace('_', ' ')}, and no totals"


def empty_figure(reason: str) -> go.Figure:
    figure = go.Figure()
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(
        text="<br>".join(map(plotly_label, wrap(reason, REASON))),
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        showarrow=False,
        font={"size": 15},
    )
    figure.update_layout(meta=reason)
    return figure

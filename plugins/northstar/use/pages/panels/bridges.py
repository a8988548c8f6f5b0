"""A panel of kind bridges: how recurring revenue moved within each value of a segment, and from one to another."""

import pandas as pd
import plotly.graph_objects as go

from northstar.base.formats import format_amount
from northstar.use.marts import Marts, nearest
from northstar.use.pages.panels.drawing import (
    BARS,
    COLOURS,
    MARK,
    Panel,
    caption,
    cut_name,
    describe_now,
    empty_figure,
    escape_labels,
    ticks,
    with_second_line,
    without_values,
)
from northstar.use.why.mart_rows import rows_path
from northstar.use.words import period
from northstar.warehouse.rows import Row

STEPS = ("new", "reactivation", "expansion", "transferred_in", "contraction", "churned", "transferred_out", "fx")
STATEMENT = (
    "select * from mrr_bridge where segment = %(segment)s and application = %(application)s and grain = %(grain)s "
    "and period_start = %(start)s order by greatest(opening_mrr, closing_mrr) desc, segment_value"
)


def read(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
    """The rows of mrr_bridge of the newest complete period, the largest values first, also those that there is no room for."""
    ends = marts.newest(["mrr"], application, nearest(grain, ["month", "quarter", "year"]))
    if not len(ends):
        return ends
    newest = ends.sort_values("place").to_dict("records")[0]
    return marts.frame(
        STATEMENT,
        segment=panel["segment"],
        application=application,
        grain=newest["grain"],
        start=newest["period_start"],
    )


def _now(
    changed: dict[tuple[object, ...], Row | None], value: str, column: str, amount: float, currency: str, why: str
) -> str:
    """What a step of a segment's value is now, in words; '' where it is the same."""
    if (value,) not in changed:
        return ""
    now = changed[(value,)]
    newest = float(now[column]) if now else 0.0
    return "" if newest == amount else f" {MARK} {describe_now(format_amount(newest, currency), why)}"


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    """A stack of steps for each value of the panel's segment, over the newest complete period; the largest values first."""
    if not len(marts.newest(["mrr"], application, nearest(grain, ["month", "quarter", "year"]))):
        return without_values(marts, "mrr", application, f"no MRR for {application}")
    shown = read(marts, panel, application, grain, months, segment).head(BARS)
    frame = escape_labels(shown, "segment_value")
    if not len(frame):
        return empty_figure(f"no MRR by {panel['segment']} for {application}")
    start, kind = frame["period_start"].iloc[0], frame["grain"].iloc[0]
    columns = ["opening_mrr", "closing_mrr", *(f"{step}_mrr" for step in STEPS)]
    changed = marts.changed(
        shown, ["segment_value"], columns, STATEMENT, segment=panel["segment"], application=application, grain=kind, start=start
    )  # fmt: skip
    why = marts.reasons_since("mrr", application) if changed else ""
    values = list(frame["segment_value"])
    ends_of = [
        f"{format_amount(o, marts.currency)} → {format_amount(c, marts.currency)}"
        for o, c in zip(frame["opening_mrr"], frame["closing_mrr"], strict=True)
    ]
    ends_of = [
        f"{ends} {MARK}" if (value,) in changed else ends
        for ends, value in zip(ends_of, frame["raw_segment_value"], strict=True)
    ]
    paths = [
        rows_path(
            "mrr_bridge",
            grain=kind,
            period_start=start,
            application=application,
            segment=panel["segment"],
            segment_value=value,
        )
        for value in frame["raw_segment_value"]
    ]
    figure, labels = go.Figure(), with_second_line(values, ends_of)
    steps_of: dict[str, list[str]] = {value: [] for value in values}
    for number, step in enumerate(STEPS):
        amounts = [float(amount) for amount in frame[f"{step}_mrr"]]
        if not any(amounts):
            continue
        name = step.replace("_", " ")
        texts = [
            f"{format_amount(amount, marts.currency)}{_now(changed, value, f'{step}_mrr', amount, marts.currency, why)}"
            for amount, value in zip(amounts, frame["raw_segment_value"], strict=True)
        ]
        figure.add_trace(
            go.Bar(
                x=labels, y=amounts, name=name, customdata=[list(pair) for pair in zip(texts, paths, strict=True)], marker={"color": COLOURS[number]},
                hovertemplate="%{x}: " + name + " %{customdata[0]}<extra></extra>",
            )
        )  # fmt: skip
        for value, amount, text in zip(values, amounts, texts, strict=True):
            steps_of[value] += [f"{name} {text}"] if amount else []
    figure.update_xaxes(title=None, **ticks(labels, with_second_line([cut_name(value) for value in values], ends_of)))
    figure.update_yaxes(tickformat=",.0f")
    summary = [
        f"{value} {way}" + (f" ({', '.join(steps_of[value])})" if steps_of[value] else "")
        for value, way in zip(values, ends_of, strict=True)
    ]
    figure.update_layout(
        barmode="relative", showlegend=True, meta=f"{period(start, kind, marts.calendar)}: " + "; ".join(summary)
    )
    caption(figure, f"{period(start, kind, marts.calendar)}, {marts.currency}")
    return figure

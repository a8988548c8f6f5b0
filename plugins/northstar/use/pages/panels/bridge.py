"""A panel of kind bridge: how recurring revenue moved from one period to the next."""

import plotly.graph_objects as go

from northstar.base.clock import LENGTHS
from northstar.base.formats import format_amount
from northstar.use.marts import Marts, nearest
from northstar.use.pages.panels.drawing import (
    BAD,
    GOOD,
    TOTAL,
    Panel,
    axis_start,
    caption,
    describe_now,
    describe_restated,
    mark,
    without_values,
)
from northstar.use.why.background import Place
from northstar.use.words import period

MOVEMENTS = ("new", "reactivation", "expansion", "contraction", "churn", "fx")


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    """MRR from the beginning of the newest complete period to its end."""
    ends = marts.newest(["mrr"], application, nearest(grain, ["month", "quarter", "year"]))
    if len(ends) < 1:
        return without_values(marts, "mrr", application, f"no MRR for {application}")
    ends_restated = marts.restated(ends.assign(application=application, segment="", segment_value=""))
    of_ends = {key[2]: describe_restated(value, "money") for key, value in ends_restated.items()}
    ends = ends.sort_values("place").to_dict("records")
    start, kind = ends[0]["period_start"], ends[0]["grain"]
    text = (
        "select movement_type, sum(amount_exact) as amount from mrr_movements where movement_date >= %(start)s::date "
        "and movement_date < (%(start)s::timestamptz + %(length)s::interval)::date "
        "and (application = %(application)s or %(application)s = 'all') group by 1"
    )
    chosen = {"start": start, "length": LENGTHS[kind], "application": application}
    movements = marts.frame(text, **chosen)
    changed = marts.changed(movements, ["movement_type"], ["amount"], text, **chosen)
    why = marts.reasons_since("mrr", application) if changed else ""
    restated = {
        name: describe_now(format_amount(now["amount"] if now else 0, marts.currency), why)
        for (name,), now in changed.items()
    }
    amounts = dict(zip(movements["movement_type"], movements["amount"], strict=True)) if len(movements) else {}
    steps = [(name, float(amounts.get(name, 0))) for name in MOVEMENTS]
    closing = float(ends[0]["value"] or 0)
    opening = closing - sum(amount for _, amount in steps)
    names = ["opening", *(name for name, _ in steps), "closing"]
    values = [opening, *(amount for _, amount in steps), closing]
    words = [
        of_ends.get(ends[1]["period_start"], "") if len(ends) > 1 else "",
        *(restated.get(name, "") for name, _ in steps),
        of_ends.get(start, ""),
    ]
    texts = [f"{format_amount(value, marts.currency)}{mark(now)}" for value, now in zip(values, words, strict=True)]
    catalogue = marts.catalogue()
    # the churned is past, the other movements are called as they are
    of_steps = [f"{'churned' if name == 'churn' else name}_mrr" for name in MOVEMENTS]
    places = [
        *([Place("mrr", kind, ends[1]["period_start"], application).path] if len(ends) > 1 else [""]),
        *(Place(name, kind, start, application).path if name in catalogue else "" for name in of_steps),
        Place("mrr", kind, start, application).path,
    ]
    figure = go.Figure(go.Waterfall(
        x=[f"{n} {t}" for n, t in zip(names, texts, strict=True)], y=values, measure=["absolute", *["relative"] * len(steps), "total"], text=texts, textposition="none",
        customdata=[list(pair) for pair in zip(words, places, strict=True)], hovertemplate="%{x} %{customdata[0]}<extra></extra>", increasing={"marker": {"color": GOOD}}, decreasing={"marker": {"color": BAD}},
        totals={"marker": {"color": TOTAL}},
    ))  # fmt: skip
    levels = [opening + sum(values[1:n]) for n in range(1, len(values))]
    base = axis_start(min(levels), max(levels))
    figure.update_yaxes(tickformat=",.0f", range=[base, max(levels) + 0.05 * (max(levels) - base)])
    figure.update_xaxes(tickangle=-35, tickfont={"size": 11})
    figure.update_layout(
        showlegend=False,
        meta=f"{period(start, kind, marts.calendar)}: "
        + ", ".join(f"{n} {t} {w}".strip() for n, t, w in zip(names, texts, words, strict=True)),
    )
    caption(
        figure,
        f"{period(start, kind, marts.calendar)}, {marts.currency}" + (f", axis from {base:,.0f}" if base else ""),
    )
    return figure

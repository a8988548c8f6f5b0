"""A panel of kind bridge: how recurring revenue moved from one period to the next."""

from datetime import datetime
from decimal import Decimal

import pandas as pd
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
MOVED = (
    "select movement_type, sum(amount_exact) as amount from mrr_movements where movement_date >= %(start)s::date "
    "and movement_date < (%(start)s::timestamptz + %(length)s::interval)::date "
    "and (application = %(application)s or %(application)s = 'all') group by 1"
)


def read(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
    """The steps of the newest complete period, from the opening to the closing MRR: step, amount, grain, period_start."""
    ends = marts.newest(["mrr"], application, nearest(grain, ["month", "quarter", "year"]))
    if not len(ends):
        return ends
    newest = ends.sort_values("place").to_dict("records")[0]
    amounts = _movements(marts, application, newest["period_start"], newest["grain"])
    closing = newest["value"] or Decimal(0)
    steps = [("opening", closing - sum(amounts.values())), *amounts.items(), ("closing", closing)]
    rows = [
        {"step": step, "amount": amount, "grain": newest["grain"], "period_start": newest["period_start"]}
        for step, amount in steps
    ]
    return pd.DataFrame(rows, dtype=object)


def _movements(marts: Marts, application: str, start: datetime, grain: str) -> dict[str, Decimal]:
    """What each kind of movement came to in a period, 0 where there was none."""
    movements = marts.frame(MOVED, **_chosen(start, grain, application))
    amounts = dict(zip(movements["movement_type"], movements["amount"], strict=True)) if len(movements) else {}
    return {name: amounts.get(name, Decimal(0)) for name in MOVEMENTS}


def _chosen(start: datetime, grain: str, application: str) -> dict[str, object]:
    return {"start": start, "length": LENGTHS[grain], "application": application}


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    """MRR from the beginning of the newest complete period to its end."""
    ends = marts.newest(["mrr"], application, nearest(grain, ["month", "quarter", "year"]))
    if len(ends) < 1:
        return without_values(marts, "mrr", application, f"no MRR for {application}")
    ends_restated = marts.restated(ends.assign(application=application, segment="", segment_value=""))
    of_ends = {key[2]: describe_restated(value, "money") for key, value in ends_restated.items()}
    ends = ends.sort_values("place").to_dict("records")
    start, kind = ends[0]["period_start"], ends[0]["grain"]
    frame = read(marts, panel, application, grain, months, segment)
    names, values = list(frame["step"]), [float(amount) for amount in frame["amount"]]
    chosen = _chosen(start, kind, application)
    changed = marts.changed(marts.frame(MOVED, **chosen), ["movement_type"], ["amount"], MOVED, **chosen)
    why = marts.reasons_since("mrr", application) if changed else ""
    restated = {
        name: describe_now(format_amount(now["amount"] if now else 0, marts.currency), why)
        for (name,), now in changed.items()
    }
    words = [
        of_ends.get(ends[1]["period_start"], "") if len(ends) > 1 else "",
        *(restated.get(name, "") for name in MOVEMENTS),
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
        x=[f"{n} {t}" for n, t in zip(names, texts, strict=True)], y=values, measure=["absolute", *["relative"] * len(MOVEMENTS), "total"], text=texts, textposition="none",
        customdata=[list(pair) for pair in zip(words, places, strict=True)], hovertemplate="%{x} %{customdata[0]}<extra></extra>", increasing={"marker": {"color": GOOD}}, decreasing={"marker": {"color": BAD}},
        totals={"marker": {"color": TOTAL}},
    ))  # fmt: skip
    levels = [sum(values[:n]) for n in range(1, len(values))]
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

"""A panel of kind reasons: why customers leave."""

from datetime import datetime, timedelta

import pandas as pd
import plotly.graph_objects as go

from northstar.base.formats import format_count, format_value
from northstar.use.marts import Marts
from northstar.use.pages.panels.drawing import (
    COLOURS,
    MARK,
    Panel,
    describe_now,
    empty_figure,
    escape_labels,
    name_bars,
)
from northstar.use.why.mart_rows import rows_path

REASONS = (
    "select cancel_reason, sum(accounts)::bigint as accounts, sum(mrr) as mrr from churn_reasons where application = %(application)s "
    "and month >= %(since)s::date and month <= %(until)s::date group by 1 order by accounts desc, 1"
)


def read(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
    """The reasons with the accounts and the MRR that left for them, the most frequent first."""
    return marts.frame(REASONS, application=application, since=marts.since(months), until=marts.as_of())


def _changed(marts: Marts, application: str, since: datetime) -> dict[object, str]:
    """{reason: what became of its accounts since the version that is shown, in words}: of the months that were over then, since the current one grows."""
    if marts.past_version is None:
        return {}
    until = marts.as_of().replace(day=1) - timedelta(days=1)
    chosen = {"application": application, "since": since, "until": until}
    then = marts.frame(REASONS, **chosen)
    found = marts.changed(then, ["cancel_reason"], ["accounts"], REASONS, **chosen)
    why = marts.reasons_since("churned_mrr", application) if found else ""
    counts = dict(zip(then["cancel_reason"], then["accounts"], strict=True)) if found else {}
    return {
        reason: f" {MARK} of complete months {format_count(counts[reason])}, {describe_now(format_count(now['accounts']) if now else '0', why)}"
        for (reason,), now in found.items()
    }


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    frame = read(marts, panel, application, grain, months, segment)
    if not len(frame):
        return empty_figure(f"no churned accounts for {application} in this period")
    words = _changed(marts, application, marts.since(months))
    frame = escape_labels(frame, "cancel_reason")
    texts = [
        f"{format_count(a)} · {format_value(m, 'money', marts.currency)} MRR{words.get(reason, '')}"
        for a, m, reason in zip(frame["accounts"], frame["mrr"], frame["raw_cancel_reason"], strict=True)
    ]
    figure = go.Figure(go.Bar(
        x=frame["accounts"], y=frame["cancel_reason"], orientation="h", text=texts, textposition="auto", hovertemplate="%{y}: %{text}<extra></extra>",
        marker={"color": COLOURS[0]}, customdata=[rows_path("churn_reasons", application=application, cancel_reason=reason) for reason in frame["raw_cancel_reason"]],
    ))  # fmt: skip
    name_bars(figure, list(frame["cancel_reason"]))
    figure.update_layout(meta=", ".join(f"{r} {t}" for r, t in zip(frame["cancel_reason"], texts, strict=True)))
    return figure

"""A panel of kind reasons: why customers leave."""

import pandas as pd
import plotly.graph_objects as go

from northstar.base.formats import format_value
from northstar.use.marts import Marts
from northstar.use.pages.panels.drawing import COLOURS, Panel, empty_figure, escape_labels
from northstar.use.why.mart_rows import rows_path


def read(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
    """The reasons with the accounts and the MRR that left for them, the most frequent first."""
    return marts.frame(
        "select cancel_reason, sum(accounts)::bigint as accounts, sum(mrr) as mrr from churn_reasons where application = %(application)s "
        "and month >= %(since)s::date group by 1 order by accounts desc, 1", application=application, since=marts.since(months),
    )  # fmt: skip


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    frame = read(marts, panel, application, grain, months, segment)
    if not len(frame):
        return empty_figure(f"no churned accounts for {application} in this period")
    frame = escape_labels(frame, "cancel_reason")
    texts = [
        f"{a:,} · {format_value(m, 'money', marts.currency)} MRR"
        for a, m in zip(frame["accounts"], frame["mrr"], strict=True)
    ]
    figure = go.Figure(go.Bar(
        x=frame["accounts"], y=frame["cancel_reason"], orientation="h", text=texts, textposition="auto", hovertemplate="%{y}: %{text}<extra></extra>",
        marker={"color": COLOURS[0]}, customdata=[rows_path("churn_reasons", application=application, cancel_reason=reason) for reason in frame["raw_cancel_reason"]],
    ))  # fmt: skip
    figure.update_yaxes(autorange="reversed", type="category", title=None)
    figure.update_layout(meta=", ".join(f"{r} {t}" for r, t in zip(frame["cancel_reason"], texts, strict=True)))
    return figure

"""A panel of kind budgets: what is left of the error budgets."""

from datetime import timedelta
from decimal import Decimal

import pandas as pd
import plotly.graph_objects as go

from northstar.base.escaping import plotly_label
from northstar.use.marts import Marts
from northstar.use.pages.panels.drawing import (
    BAD,
    BARS,
    GOOD,
    MARK,
    SCARCE,
    Panel,
    caption,
    cut_name,
    describe_now,
    empty_figure,
    ticks,
)
from northstar.use.why.background import Place
from northstar.use.words import title_of
from northstar.warehouse.rows import Row

BUDGET_DAYS = 30
SUMS = (
    "select metric_id, application, sum(numerator) as numerator, sum(denominator) as denominator, max(period_start) as newest from metric_values "
    "where metric_id = any(%(metrics)s) and grain = 'day' and segment = '' and is_complete and period_start >= %(since)s and period_start < %(until)s group by 1, 2"
)


def _share_left(objective: Decimal, is_good: bool, total: Row) -> Decimal:
    """The percentage of the allowed errors that is left. is_good: the numerator counts what went well."""
    allowed, spent = _allowed(objective, is_good, total), _spent(is_good, total)
    return 100 * (1 - spent / allowed) if allowed else Decimal(-100 if spent else 100)


def _allowed(objective: Decimal, is_good: bool, total: Row) -> Decimal:
    allowed: Decimal = (100 - objective if is_good else objective) / 100 * total["denominator"]
    return allowed


def _spent(is_good: bool, total: Row) -> Decimal:
    spent: Decimal = total["denominator"] - total["numerator"] if is_good else total["numerator"]
    return spent


def _chosen(marts: Marts, panel: Panel) -> dict[str, object]:
    until = marts.as_of().replace(hour=0, minute=0, second=0, microsecond=0)
    return {"metrics": list(panel["metrics"]), "since": until - timedelta(days=BUDGET_DAYS), "until": until}


def _objectives(marts: Marts, panel: Panel, application: str) -> pd.DataFrame:
    targets = marts.targets(application)
    if not len(targets):
        return targets
    return targets[targets["metric_id"].isin(panel["metrics"]) & (targets["segment"] == "") & targets["target"].notna()]


def read(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
    """The budget of each objective that was measured: what errors it allowed, and how many there were, over the last complete days."""
    own = _objectives(marts, panel, application)
    if not len(own):
        return own
    sums = marts.frame(SUMS, **_chosen(marts, panel))
    totals = {(r["metric_id"], r["application"]): r for r in sums.to_dict("records")} if len(sums) else {}
    budgets = []
    for metric, app in dict.fromkeys(zip(own["metric_id"], own["application"], strict=True)):
        rows = own[(own["metric_id"] == metric) & (own["application"] == app)]
        total = totals.get((metric, app))
        if not total or not total["denominator"]:
            continue
        is_good = rows.iloc[0]["direction"] == "up"
        # of several targets the strictest
        objective = rows["target"].max() if is_good else rows["target"].min()
        budgets.append({
            "metric_id": metric, "application": app, "objective_percent": objective, "allowed": _allowed(objective, is_good, total),
            "spent": _spent(is_good, total), "left_percent": _share_left(objective, is_good, total), "last_day": total["newest"],
        })  # fmt: skip
    return pd.DataFrame(budgets, dtype=object)


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    """The share of the errors allowed by a target over the last complete days that is left."""
    if not len(_objectives(marts, panel, application)):
        return empty_figure(f"no objectives for {application}")
    chosen = _chosen(marts, panel)
    changed = marts.changed(
        marts.frame(SUMS, **chosen), ["metric_id", "application"], ["numerator", "denominator"], SUMS, **chosen
    )
    names, left, texts, paths = [], [], [], []
    found = read(marts, panel, application, grain, months, segment)
    hidden_count = len(found) - BARS
    if hidden_count > 0:
        # those of which least is left are what a reader has to see
        found = found.loc[found["left_percent"].astype(float).nsmallest(BARS).index]
    for row in found.to_dict("records"):
        metric, app = row["metric_id"], row["application"]
        words = ""
        if (metric, app) in changed:
            now = changed[(metric, app)]
            is_good = marts.catalogue()[metric]["direction"] == "up"
            newest = "-"
            if now and now["denominator"]:
                newest = f"{_share_left(row['objective_percent'], is_good, now):,.0f} % left"
            words = f" {MARK} {describe_now(newest, marts.reasons_since(metric, app))}"
        names.append((title_of(metric), plotly_label(app)))
        left.append(max(float(row["left_percent"]), -100))
        paths.append(Place(metric, "day", row["last_day"], app).path)
        texts.append(f"{row['left_percent']:,.0f} % left, objective {float(row['objective_percent']):g} %{words}")
    if not names:
        return empty_figure(f"nothing was measured in the last {BUDGET_DAYS} days")
    colours = [BAD if share < 0 else SCARCE if share < 25 else GOOD for share in left]
    labels = [f"{n}, {a}" for n, a in names]
    figure = go.Figure(go.Bar(
        x=left, y=labels, orientation="h", text=[f"{a}: {t}" for (_, a), t in zip(names, texts, strict=True)],
        textposition="none", marker={"color": colours}, customdata=paths, hovertemplate="%{text}<extra></extra>",
    ))  # fmt: skip
    shown = [f"{n}, {cut_name(a)}: {t.partition(' left')[0]}" for (n, a), t in zip(names, texts, strict=True)]
    figure.update_yaxes(autorange="reversed", title=None, **ticks(labels, shown))
    figure.update_xaxes(ticksuffix=" %", range=[-105, 105], dtick=100)
    which = f"; the {BARS} smallest of {BARS + hidden_count}" if hidden_count > 0 else ""
    caption(figure, f"share of the {BUDGET_DAYS}-day error budget that is left{which}")
    figure.update_layout(
        meta=f"last {BUDGET_DAYS} days: "
        + "; ".join(f"{n}, {a} {t}" for (n, a), t in zip(names, texts, strict=True))
        + which
    )
    return figure

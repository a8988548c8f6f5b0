"""A panel of kind budgets: what is left of the error budgets."""

from datetime import timedelta

import plotly.graph_objects as go

from northstar.use.marts import Marts
from northstar.use.pages.panels.drawing import BAD, GOOD, MARK, SCARCE, Panel, caption, describe_now, empty_figure
from northstar.use.why.background import Place
from northstar.use.words import title_of
from northstar.warehouse.rows import Row

BUDGET_DAYS = 30


def _share_left(objective: float, is_good: bool, total: Row) -> float:
    """The percentage of the allowed errors that is left. is_good: the numerator counts what went well."""
    allowed = (100 - objective if is_good else objective) / 100 * float(total["denominator"])
    spent = float(total["denominator"] - total["numerator"] if is_good else total["numerator"])
    return 100 * (1 - spent / allowed) if allowed else (100.0 if not spent else -100.0)


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    """The share of the errors allowed by a target over the last complete days that is left."""
    targets = marts.targets(application)
    own = (
        targets[targets["metric_id"].isin(panel["metrics"]) & (targets["segment"] == "") & targets["target"].notna()]
        if len(targets)
        else targets
    )
    if not len(own):
        return empty_figure(f"no objectives for {application}")
    text = (
        "select metric_id, application, sum(numerator) as numerator, sum(denominator) as denominator, max(period_start) as newest from metric_values "
        "where metric_id = any(%(metrics)s) and grain = 'day' and segment = '' and is_complete and period_start >= %(since)s and period_start < %(until)s group by 1, 2"
    )
    until = marts.as_of().replace(hour=0, minute=0, second=0, microsecond=0)
    chosen = {"metrics": list(panel["metrics"]), "since": until - timedelta(days=BUDGET_DAYS), "until": until}
    sums = marts.frame(text, **chosen)
    changed = marts.changed(sums, ["metric_id", "application"], ["numerator", "denominator"], text, **chosen)
    totals = {(r["metric_id"], r["application"]): r for r in sums.to_dict("records")} if len(sums) else {}
    names, left, texts, paths = [], [], [], []
    for metric, app in dict.fromkeys(zip(own["metric_id"], own["application"], strict=True)):
        rows = own[(own["metric_id"] == metric) & (own["application"] == app)]
        total = totals.get((metric, app))
        if not total or not total["denominator"]:
            continue
        is_good = rows.iloc[0]["direction"] == "up"
        # of several targets the strictest
        objective = float(rows["target"].max() if is_good else rows["target"].min())
        share = _share_left(objective, is_good, total)
        now = changed.get((metric, app))
        newest = _share_left(objective, is_good, now) if now and now["denominator"] else None
        words = ""
        if (metric, app) in changed:
            why = marts.reasons_since(metric, app)
            words = f" {MARK} {describe_now('-' if newest is None else f'{newest:,.0f} % left', why)}"
        names.append(f"{title_of(metric)}, {app}")
        left.append(max(share, -100))
        paths.append(Place(metric, "day", total["newest"], app).path)
        texts.append(f"{share:,.0f} % left, objective {objective:g} %{words}")
    if not names:
        return empty_figure(f"nothing was measured in the last {BUDGET_DAYS} days")
    colours = [BAD if share < 0 else SCARCE if share < 25 else GOOD for share in left]
    figure = go.Figure(go.Bar(
        x=left, y=[f"{n}: {t.partition(' left')[0]}" for n, t in zip(names, texts, strict=True)], orientation="h", text=texts, textposition="none", marker={"color": colours}, customdata=paths, hovertemplate="%{text}<extra></extra>"
    ))  # fmt: skip
    figure.update_yaxes(autorange="reversed", type="category", title=None)
    figure.update_xaxes(ticksuffix=" %", range=[-105, 105], dtick=100)
    caption(figure, f"share of the {BUDGET_DAYS}-day error budget that is left")
    figure.update_layout(
        meta=f"last {BUDGET_DAYS} days: " + "; ".join(f"{n} {t}" for n, t in zip(names, texts, strict=True))
    )
    return figure

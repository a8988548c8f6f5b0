"""A panel of kind cohorts: how much of each cohort stays."""

import pandas as pd
import plotly.graph_objects as go

from northstar.base.formats import format_count, format_value
from northstar.base.locales import write_month
from northstar.use.marts import Marts
from northstar.use.pages.panels.drawing import Panel, describe_now, mark, without_values
from northstar.use.why.mart_rows import rows_path

# the metric that stands on what keeps an account in a cohort
MEASURES = {"activity": "mau", "paying": "mrr"}
CELLS = (
    "select cohort_month, months_since, cohort_size, retention_percent from cohort_retention where cohort_kind = %(kind)s "
    "and application = %(application)s and is_complete and retention_percent is not null and cohort_month >= %(since)s::date and months_since <= 24"
)


def read(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
    """The cells that are over: cohort_month, months_since, cohort_size, retention_percent."""
    frame = marts.frame(CELLS, **_chosen(marts, panel, application, months))
    # who is not seen to be active may be active all the same
    return frame.head(0) if MEASURES[panel["cohort_kind"]] in marts.lacking(application) else frame


def _chosen(marts: Marts, panel: Panel, application: str, months: int) -> dict[str, object]:
    return {"kind": panel["cohort_kind"], "application": application, "since": marts.since(months)}


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    frame = read(marts, panel, application, grain, months, segment)
    measure = MEASURES[panel["cohort_kind"]]
    if not len(frame):
        return without_values(marts, measure, application, f"no cohorts for {application}")
    table = frame.assign(retention_percent=frame["retention_percent"].astype(float)).pivot(
        index="cohort_month", columns="months_since", values="retention_percent"
    )
    sizes = frame.groupby("cohort_month")["cohort_size"].first()
    rows = [f"{write_month(month)} ({format_count(sizes[month])})" for month in table.index]
    is_small = table.size <= 200
    restated = marts.changed(
        frame,
        ["cohort_month", "months_since"],
        ["retention_percent"],
        CELLS,
        **_chosen(marts, panel, application, months),
    )
    reasons = marts.reasons_since(measure, application) if restated else ""
    words = {
        key: describe_now(format_value(now["retention_percent"] if now else None, "percent"), reasons)
        for key, now in restated.items()
    }
    figure = go.Figure(go.Heatmap(
        z=table.values, x=[f"+{n}" for n in table.columns], y=rows, zmin=0, zmax=100, colorscale="Blues", xgap=1, ygap=1, hoverongaps=False,
        text=[["" if v != v else f"{v:.0f}{mark(words.get((month, n), ''))}" for n, v in row.items()] for month, row in table.iterrows()] if is_small else None, texttemplate="%{text}" if is_small else None,
        meta=rows_path("cohort_retention", cohort_kind=panel["cohort_kind"], application=application),
        customdata=[[f"&cohort_month={month:%Y-%m-%d}&months_since={n}" if share == share else "" for n, share in row.items()] for month, row in table.iterrows()],
        hovertext=[[words.get((month, n), "") for n in table.columns] for month in table.index] if words else None,
        hovertemplate="%{y}, month %{x}: %{z:.1f} %" + (" %{text}" if words else "") + "<extra></extra>", colorbar={"ticksuffix": " %", "thickness": 10},
    ))  # fmt: skip
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    figure.update_xaxes(side="top", type="category", showgrid=False)
    later = table[1].dropna() if 1 in table.columns else pd.Series(dtype=float)
    figure.update_layout(
        meta=f"{len(table)} cohorts"
        + (f"; after one month {later.mean():.1f} % of a cohort are left on average" if len(later) else "")
        + (f"; {len(words)} restated since" if words else "")
    )
    return figure

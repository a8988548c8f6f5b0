"""A panel of kind funnel: how many reach each stage."""

import pandas as pd
import plotly.graph_objects as go

from northstar.base.formats import format_count, format_value
from northstar.use.marts import Marts, nearest
from northstar.use.pages.panels.drawing import (
    COLOURS,
    MARK,
    Panel,
    caption,
    cut_name,
    describe_now,
    empty_figure,
    ticks,
    with_second_line,
)
from northstar.use.why.mart_rows import rows_path
from northstar.use.words import period

# why a stage has no visitors, not even none
NO_EVENT = "no event of this stage, or of one before it, was landed by then"
GRAINS = ["day", "week", "month"]
# start: of the period; null for the newest complete one
STAGES = (
    "with newest as (select coalesce(%(start)s::timestamptz, max(period_start)) as period_start from funnel_stages where funnel = %(funnel)s and grain = %(grain)s "
    "and (application = %(application)s or %(application)s = 'all') and is_complete), "
    "stages as (select period_start, stage_number, stage, sum(visitors)::bigint as visitors, min(target_percent) as target_percent "
    "from funnel_stages join newest using (period_start) where funnel = %(funnel)s and grain = %(grain)s "
    "and (application = %(application)s or %(application)s = 'all') group by 1, 2, 3) "
    "select *, 100.0 * visitors / nullif(lag(visitors) over (order by stage_number), 0) as from_previous_percent from stages "
    "order by stage_number"
)


def read(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
    """The stages in the newest complete period: period_start, stage_number, stage, visitors, target_percent, from_previous_percent."""
    # a visitor belongs to one application, so the visitors of all applications are the sum
    return marts.frame(STAGES, start=None, **_chosen(panel, application, grain))


def _chosen(panel: Panel, application: str, grain: str) -> dict[str, object]:
    return {"funnel": panel["funnel"], "grain": nearest(grain, GRAINS), "application": application}


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    frame, grain = read(marts, panel, application, grain, months, segment), nearest(grain, GRAINS)
    if not len(frame) or not frame["visitors"].dropna().max():
        return empty_figure(f"no visitors of {application} in this funnel")
    texts, start = [], frame["period_start"].iloc[0]
    chosen = _chosen(panel, application, grain)
    restated = marts.changed(frame, ["stage_number"], ["visitors"], STAGES, start=start, **chosen)
    for row in frame.to_dict("records"):
        if pd.isna(row["visitors"]):
            texts.append(f"not measured · {NO_EVENT}")
            continue
        text = format_count(row["visitors"])
        if row["stage_number"] in {number for (number,) in restated}:
            now = restated[(row["stage_number"],)]
            text += f" {MARK} {describe_now('-' if now is None or pd.isna(now['visitors']) else format_count(now['visitors']), '')}"
        if pd.notna(row["from_previous_percent"]):
            target = f" (target {row['target_percent']:.0f} %)" if pd.notna(row["target_percent"]) else ""
            on = row["from_previous_percent"]
            text += f" · {format_value(on, 'percent')} of the previous stage{target}, {format_value(100 - on, 'percent')} dropped off"
        texts.append(text)
    stages = [stage.replace("_", " ") for stage in frame["stage"]]
    seconds = [t.partition(" · ")[2] for t in texts]
    labels = with_second_line(stages, seconds)
    figure = go.Figure(go.Bar(
        y=labels, x=frame["visitors"], orientation="h", text=[t.partition(" · ")[0] for t in texts], textposition="auto", marker={"color": COLOURS[0]},
        customdata=[rows_path("funnel_stages", funnel=panel["funnel"], grain=grain, period_start=start, stage_number=number,
                              **({} if application == "all" else {"application": application})) for number in frame["stage_number"]],
        hovertext=[f"{s}: {t}" for s, t in zip(stages, texts, strict=True)], hoverinfo="text",
    ))  # fmt: skip
    shown = with_second_line([cut_name(stage) for stage in stages], seconds)
    figure.update_yaxes(title=None, autorange="reversed", **ticks(labels, shown))
    figure.update_xaxes(visible=False)
    when = period(start, grain, marts.calendar)
    figure.update_layout(meta=f"{when}: " + "; ".join(f"{s} {t}" for s, t in zip(stages, texts, strict=True)))
    caption(figure, when)
    return figure

"""A panel of kind journey: where sessions go."""

import pandas as pd
import plotly.graph_objects as go

from northstar.base.formats import format_count
from northstar.base.locales import write_month
from northstar.use.marts import Marts
from northstar.use.pages.panels.drawing import (
    COLOURS,
    FLOWS,
    MARK,
    Panel,
    cut_name,
    describe_now,
    empty_figure,
    escape_labels,
)
from northstar.use.why.mart_rows import rows_path

WAYS = (
    "with chosen as (select * from user_paths where (application = %(application)s or %(application)s = 'all') and month = ("
    "select max(month) from user_paths where month < date_trunc('month', %(as_of)s::timestamptz)::date)) "
    "select from_event, to_event, month, sum(sessions)::bigint as sessions, "
    "100.0 * sum(sessions) / sum(sum(sessions)) over (partition by from_event) as share "
    "from chosen group by 1, 2, 3 order by sessions desc, from_event, to_event"
)


def read(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
    """The ways of the last month that is over, the most used first, also those that there is no room for."""
    return marts.frame(WAYS, application=application, as_of=marts.as_of())


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    frame = read(marts, panel, application, grain, months, segment)
    if not len(frame):
        return empty_figure(f"no journeys for {application}")
    restated = marts.changed(
        frame, ["from_event", "to_event", "month"], ["sessions"], WAYS, application=application, as_of=marts.as_of()
    )
    words = {
        key: f"{MARK} {describe_now(format_count(now['sessions']) if now else '-', '')}"
        for key, now in restated.items()
    }
    frame = escape_labels(frame.head(FLOWS), "from_event", "to_event")
    # left and right are different nodes: a session may come back to where it was
    left, right = list(dict.fromkeys(frame["from_event"])), list(dict.fromkeys(frame["to_event"]))
    raw = {
        **dict(zip(frame["from_event"], frame["raw_from_event"], strict=True)),
        **dict(zip(frame["to_event"], frame["raw_to_event"], strict=True)),
    }
    chosen = {
        "month": f"{frame['month'].iloc[0]:%Y-%m-%d}",
        **({} if application == "all" else {"application": application}),
    }
    nodes = [
        *(rows_path("user_paths", from_event=raw[e], **chosen) for e in left),
        *(rows_path("user_paths", to_event=raw[e], **chosen) for e in right),
    ]
    figure = go.Figure(go.Sankey(
        node={"label": [cut_name(event) for event in (*left, *right)], "pad": 14, "thickness": 14, "color": COLOURS[0], "customdata": nodes},
        link={"source": [left.index(e) for e in frame["from_event"]], "target": [len(left) + right.index(e) for e in frame["to_event"]],
              "value": frame["sessions"],
              "customdata": [[f"{r['from_event']} to {r['to_event']}", float(r["share"]), words.get((r["raw_from_event"], r["raw_to_event"], r["month"]), ""), rows_path("user_paths", from_event=r["raw_from_event"], to_event=r["raw_to_event"], **chosen)] for r in frame.to_dict("records")],
              "hovertemplate": "%{customdata[0]}: %{value:,} sessions, "
              "%{customdata[1]:.1f} % of the sessions at that event %{customdata[2]}<extra></extra>"},
    ))  # fmt: skip
    summary = ", ".join(
        f"{r['from_event']} to {r['to_event']} {format_count(r['sessions'])} {words.get((r['raw_from_event'], r['raw_to_event'], r['month']), '')}".strip()
        for r in frame.head(8).to_dict("records")
    )
    figure.update_layout(meta=f"{write_month(frame['month'].iloc[0])}, sessions: {summary}")
    return figure

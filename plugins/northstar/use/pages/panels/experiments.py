"""A panel of kind experiments: how experiments stand."""

import pandas as pd
import plotly.graph_objects as go

from northstar.base.formats import format_count, format_value
from northstar.use.marts import Marts
from northstar.use.pages.panels.drawing import (
    COLOURS,
    Panel,
    cut_name,
    empty_figure,
    escape_labels,
    ticks,
    with_second_line,
)
from northstar.use.why.mart_rows import rows_path


def read(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
    """The rows of experiment_results."""
    return marts.frame(
        "select * from experiment_results where application = %(application)s order by experiment, variant != control, variant",
        application=application,
    )


def draw(marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
    frame = read(marts, panel, application, grain, months, segment)
    if not len(frame):
        return empty_figure(f"no experiments for {application}")
    figure, summaries = go.Figure(), []
    # {name: what its axis shows}
    shown: dict[str, str] = {}
    for row in escape_labels(frame, "experiment", "variant", "control").to_dict("records"):
        whole = f"{row['experiment']}: {row['variant']}"
        if pd.isna(row["conversion_percent"]):
            text = f"not measured: no event of the goal was landed, {format_count(row['exposed'])} exposed"
            shown[whole] = with_second_line([cut_name(whole)], [text])[0]
            figure.add_scatter(x=[None], y=[whole], mode="markers", showlegend=False)
            summaries.append(f"{whole} {text}")
            continue
        value, low, high = (
            float(row[c]) for c in ("conversion_percent", "conversion_percent_low", "conversion_percent_high")
        )
        verdict = ""
        if pd.notna(row["p_value"]):
            verdict = f", {float(row['uplift_percent'] or 0):+.1f} % against {row['control']}, p = {float(row['p_value']):.3f}"
        text = f"{format_value(value, 'percent')} of {format_count(row['exposed'])}{verdict}"
        shown[whole] = with_second_line([cut_name(whole)], [text])[0]
        figure.add_scatter(
            x=[value], y=[whole], mode="markers", text=[f"{whole}: {text}"], marker={"size": 10, "color": COLOURS[0]}, showlegend=False, cliponaxis=False,
            customdata=[rows_path("experiment_results", experiment=row["raw_experiment"], variant=row["raw_variant"], application=application)],
            error_x={"type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low]}, hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
        summaries.append(f"{whole} {text}")
    figure.update_yaxes(autorange="reversed", title=None, **ticks(list(shown), list(shown.values())))
    figure.update_xaxes(ticksuffix=" %", rangemode="tozero")
    figure.update_layout(meta="; ".join(summaries))
    return figure

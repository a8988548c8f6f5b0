"""A panel of kind experiments: how experiments stand."""

import pandas as pd
import plotly.graph_objects as go

from northstar.base.formats import format_value
from northstar.use.marts import Marts
from northstar.use.pages.panels.drawing import COLOURS, Panel, empty_figure, escape_labels, with_second_line
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
    for row in escape_labels(frame, "experiment", "variant", "control").to_dict("records"):
        name = f"{row['experiment']}: {row['variant']}"
        if pd.isna(row["conversion_percent"]):
            text = f"not measured: no event of the goal was landed, {row['exposed']:,} exposed"
            figure.add_scatter(x=[None], y=with_second_line([name], [text]), mode="markers", showlegend=False)
            summaries.append(f"{name} {text}")
            continue
        value, low, high = (
            float(row[c]) for c in ("conversion_percent", "conversion_percent_low", "conversion_percent_high")
        )
        verdict = ""
        if pd.notna(row["p_value"]):
            verdict = f", {float(row['uplift_percent'] or 0):+.1f} % against {row['control']}, p = {float(row['p_value']):.3f}"
        text = f"{format_value(value, 'percent')} of {row['exposed']:,}{verdict}"
        figure.add_scatter(
            x=[value], y=with_second_line([name], [text]), mode="markers", text=[text], marker={"size": 10, "color": COLOURS[0]}, showlegend=False, cliponaxis=False,
            customdata=[rows_path("experiment_results", experiment=row["raw_experiment"], variant=row["raw_variant"], application=application)],
            error_x={"type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low]}, hovertemplate="%{y}: %{text}<extra></extra>",
        )  # fmt: skip
        summaries.append(f"{name} {text}")
    figure.update_yaxes(type="category", autorange="reversed", title=None)
    figure.update_xaxes(ticksuffix=" %", rangemode="tozero")
    figure.update_layout(meta="; ".join(summaries))
    return figure

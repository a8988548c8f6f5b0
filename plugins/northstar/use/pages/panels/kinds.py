"""The kinds of panels that are charts, each with a module that reads its rows and draws them."""

from typing import Protocol

import pandas as pd
import plotly.graph_objects as go

from northstar.use.marts import Marts
from northstar.use.pages.panels import (
    bars,
    bridge,
    bridges,
    budgets,
    cohorts,
    experiments,
    funnel,
    journey,
    line,
    reasons,
)
from northstar.use.pages.panels.drawing import Panel


class Kind(Protocol):
    """A module of this folder. Its functions take the panel's entry of pages.yml and what the reader chose."""

    def read(self, marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> pd.DataFrame:
        """The rows behind the chart."""

    def draw(self, marts: Marts, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
        """The chart."""


KINDS: dict[str, Kind] = {
    "line": line, "bars": bars, "bridge": bridge, "bridges": bridges, "cohorts": cohorts, "funnel": funnel, "journey": journey,
    "experiments": experiments, "reasons": reasons, "budgets": budgets,
}  # fmt: skip

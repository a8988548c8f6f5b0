"""The painter draws panels, each once for a version that is shown."""

from html import unescape

import plotly.graph_objects as go
from dash import html

from northstar.base.locales import locale_name, separators
from northstar.use.marts import Marts
from northstar.use.pages.panels import cards
from northstar.use.pages.panels.drawing import HEIGHT, LEGEND, MARGIN, Panel
from northstar.use.pages.panels.kinds import KINDS


class Painter:
    """Draws panels. `draw` takes the panel's entry of pages.yml and what the reader chose.

    application: one of the applications, or 'all'. grain: hour to year. months: how far back, 0 for everything.
    segment: the segment by whose values lines are split, '' for none.
    """

    def __init__(self, marts: Marts):
        self.marts = marts

    def draw(self, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
        """The figure of a panel, drawn once for a version. `layout.meta` has it in words, for those who cannot see it."""
        key = ("figure", locale_name(), repr(panel), application, grain, months, segment)
        return self.marts.remember(key, lambda: self._figure(panel, application, grain, months, segment))

    def _figure(self, panel: Panel, application: str, grain: str, months: int, segment: str) -> go.Figure:
        figure = KINDS[panel["kind"]].draw(self.marts, panel, application, grain, months, segment)
        # the browser has the colours of both themes; those of the server would be a large part of each answer
        figure.update_layout(
            height=panel.get("height", HEIGHT), margin={"l": MARGIN, "r": MARGIN, "t": figure.layout.margin.t or MARGIN, "b": MARGIN, "autoexpand": True}, hovermode=figure.layout.hovermode or "closest",
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": {"text": figure.layout.legend.title.text, "font": {"size": 12}, "side": "top"}, "maxheight": LEGEND}, showlegend=bool(figure.layout.showlegend), font={"size": 13},
            meta=unescape(figure.layout.meta or ""), separators=separators(), template=None,
        )  # fmt: skip
        return figure

    def cards(self, panel: Panel, application: str, grain: str) -> html.Div:
        """A card for each metric: the newest complete value, its change, and what its target says of it."""
        key = ("cards", locale_name(), repr(panel), application, grain)
        return self.marts.remember(key, lambda: cards.draw(self.marts, panel, application, grain))

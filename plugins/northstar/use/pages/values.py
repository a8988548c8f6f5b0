"""`/why/values?...`: a metric's newest values by every value of a segment: what a chart of the largest has no room for."""

from collections.abc import Callable

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue

from northstar.base.errors import NorthstarError
from northstar.base.formats import format_count, format_value
from northstar.use.marts import Marts, nearest
from northstar.use.pages.choices import UNKNOWN, is_offered
from northstar.use.pages.rendering import HTML, TEMPLATES
from northstar.use.why.background import Place
from northstar.use.words import period, title_of


def add_values(server: Flask, marts: Callable[[], Marts]) -> None:
    """Let the server list all values of a segment. marts: gives what is read."""

    def show() -> ResponseReturnValue:
        given = request.args
        try:
            text = show_values(
                marts(), given.get("metric", ""), given.get("application", "all"), given.get("grain", "month"), given.get("segment", "")
            )  # fmt: skip
        except NorthstarError as exc:
            return Response(TEMPLATES.get_template("why_nothing.html").render(message=str(exc)), 404, HTML)
        return Response(text, 200, HTML)

    server.add_url_rule("/why/values", "values", show)


def show_values(marts: Marts, metric: str, application: str, grain: str, segment: str) -> str:
    """The values of the newest complete period by the values of the segment, largest first, as HTML. Raises NorthstarError for what is not offered, or has none."""
    if not is_offered(marts, application=application, grain=grain, metric=metric):
        raise NorthstarError(UNKNOWN)
    entry = marts.catalogue()[metric]
    frame = marts.by_segment(metric, application, grain, segment)
    if not len(frame):
        raise NorthstarError(f"there are no values of {title_of(metric)} by {segment or 'no segment'}")
    kind, start = nearest(grain, entry["grains"]), frame["period_start"].iloc[0]
    rows = [
        {
            "name": row["segment_value"], "value": format_value(row["value"], entry["unit"], marts.currency),
            "path": Place(metric, kind, start, application, segment, row["segment_value"]).path,
        }
        for row in frame.to_dict("records")
    ]  # fmt: skip
    return TEMPLATES.get_template("why_values.html").render(
        title=title_of(metric), by=segment.replace("_", " "), when=period(start, kind, marts.calendar), application=application, rows=rows,
        version=marts.past_version, count=format_count(len(rows)),
    )  # fmt: skip

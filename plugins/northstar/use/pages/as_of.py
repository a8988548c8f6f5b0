"""The pages as of an earlier version: `?as_of=12` behind any address, or a time, which becomes the version that was the newest then.

The browser sends the version with everything that a page asks for (northstar_as_of.js), so each tab has its own, and no session keeps one.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlencode

import vizro.models as vm
from dash import dcc, html
from flask import Flask, Response, g, has_request_context, redirect, request
from flask.typing import ResponseReturnValue
from pydantic import PrivateAttr

from northstar.base.clock import show_utc
from northstar.base.errors import NorthstarError
from northstar.use.marts import Marts, Published
from northstar.use.pages.links import AS_OF
from northstar.use.pages.panels.drawing import MARK
from northstar.use.pages.rendering import HTML, TEMPLATES
from northstar.use.past import PastMarts, find_version

HEADER = "X-Northstar-As-Of"
# what belongs to no version
ALWAYS = ("/assets/", "/_dash-component-suites/", "/_favicon", "/health")


def obey_as_of(server: Flask, newest: Callable[[], Marts]) -> None:
    """Have each request answered from the version that it names. A version that cannot be read is answered with one line.

    newest: gives the reader of the newest version.
    """

    @server.before_request
    def _choose_version() -> ResponseReturnValue | None:
        asked, sent = request.args.get(AS_OF), request.headers.get(HEADER)
        if (asked is None and sent is None) or request.path.startswith(ALWAYS):
            return None
        if asked == "":
            return redirect(_address_as_of(None), 303)
        try:
            version = find_version(newest(), asked or sent or "", datetime.now(UTC))
        except NorthstarError as exc:
            page = TEMPLATES.get_template("as_of_nothing.html").render(message=str(exc), now=_address_as_of(None))
            # a page that is open already loads again when it is told that its version is gone
            return Response(page, 410 if sent else 404, HTML)
        if asked and asked != str(version):
            return redirect(_address_as_of(version), 303)
        g.northstar_version = version
        return None


def shown_marts(newest: Marts) -> Marts:
    """The reader of the version that this request names: of the newest where it names none, or where there is no request."""
    version: int | None = g.get("northstar_version") if has_request_context() else None
    return newest if version is None else PastMarts(newest, version)


def _address_as_of(version: int | None) -> str:
    """This request's address, as of another version."""
    arguments = {name: values for name, values in request.args.to_dict(flat=False).items() if name != AS_OF}
    if version is not None:
        arguments[AS_OF] = [str(version)]
    # the path must not name another host
    return "/" + request.path.lstrip("/") + ("?" + urlencode(arguments, doseq=True) if arguments else "")


def control(shown: int | None) -> html.Form:
    """The control with which a reader chooses a version or a time."""
    field = dcc.Input(
        name=AS_OF, type="text", value="" if shown is None else str(shown), placeholder="version or time", autoComplete="off"
    )  # fmt: skip
    return html.Form(
        [html.Label(["As of ", field]), html.Button("Show", type="submit")], method="get", className="northstar-as-of"
    )


def past_words(published: Published, newest: Published) -> html.Span:
    """Which version is shown instead of the newest, and the way back."""
    return html.Span(
        [
            f"As known at version {published.version:,}, published {show_utc(published.published_at)}; its data was complete up to "
            f"{show_utc(published.as_of)}. ",
            "It is still the newest version. " if published.version == newest.version
            else f"What was restated since, up to version {newest.version:,}, is marked {MARK}. ",
            html.A("Back to now", href="?", className="northstar-now"),
        ],
        role="status",
    )  # fmt: skip


class VersionedDropdown(vm.Dropdown):
    """A dropdown whose options are those of the version that is shown."""

    type: Literal["dropdown"] = "dropdown"
    _offered: Callable[[], Sequence[object]] = PrivateAttr()

    @classmethod
    def of(cls, offered: Callable[[], Sequence[object]], title: str, value: str) -> "VersionedDropdown":
        """A dropdown; offered: gives its options when a page is opened."""
        choice = cls.model_validate({"title": title, "options": offered(), "value": value, "multi": False})
        choice._offered = offered
        return choice

    def __call__(self, options: object) -> html.Div:
        offered = self._offered()
        values = [option["value"] if isinstance(option, dict) else option for option in offered]
        # not every role sees what a page begins with
        shown = self if not values or self.value in values else self.model_copy(update={"value": values[0]})
        draw: Callable[[Sequence[object]], html.Div] = super(VersionedDropdown, shown).__call__
        return draw(offered)

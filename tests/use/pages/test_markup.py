"""Elements as HTML."""

import pytest
from dash import dcc, html

from northstar.use.pages.markup import MARKUP, as_markup, to_html
from northstar.use.pages.panels.drawing import attribute, why_link, with_mark
from northstar.use.why.background import Place
from tests.support import utc

BAD = "<b>bold</b> & <script>alert(1)</script> \"twice\" 'quoted'"


def test_what_sources_wrote_is_text_and_never_a_part_of_the_page():
    shown = to_html(html.Td([BAD, html.Span(BAD, title=BAD, className="a b")], **attribute("aria-label", BAD)))
    assert "<b>" not in shown and "<script" not in shown and shown.count("&lt;script&gt;") == 4
    # an attribute ends at its own quote
    assert shown.count('"') == 6


def test_an_element_is_what_dash_would_make_of_it():
    place = Place("mrr", "month", utc("2026-01-01"), "web")
    cell = html.Td(with_mark(why_link(["1", html.Small(" USD")], place), "now 2"), className="northstar-is-value")
    assert to_html(cell) == (
        f'<td class="northstar-is-value"><a class="northstar-why-link" href="{place.path.replace("&", "&amp;")}">1<small> USD</small></a>'
        '<span class="northstar-restated"> ◆ now 2</span></td>'
    )
    assert to_html(html.Div([html.Th(7, scope="row"), None, html.Div(tabIndex="0")])) == (
        '<div><th scope="row">7</th><div tabindex="0"></div></div>'
    )
    assert getattr(as_markup(html.P("one")), MARKUP) == "<p>one</p>"


def test_what_needs_a_script_is_no_markup():
    with pytest.raises(TypeError, match="Input"):
        to_html(html.Div(dcc.Input()))

"""Elements as HTML, which the browser takes in at once (northstar_draw.js): Dash draws element by element, and watches each of them from then on."""

from html import escape

from dash import html
from dash.development.base_component import Component

from northstar.use.pages.panels.drawing import attribute

# the attribute that the browser's script reads
MARKUP = "data-markup"
NAMES = {"className": "class"}


def as_markup(element: Component) -> html.Div:
    """The element as HTML, within one that has it as its attribute."""
    return html.Div(**attribute(MARKUP, to_html(element)))


def to_html(part: object) -> str:
    """An element of dash.html, a text, a number, or a list of them, as HTML. Raises TypeError for other components: those are scripts."""
    if part is None:
        return ""
    if isinstance(part, (list, tuple)):
        return "".join(map(to_html, part))
    if not isinstance(part, Component):
        return escape(str(part))
    if part._namespace != "dash_html_components":
        raise TypeError(f"{part._type} is no element of HTML")
    props = vars(part)
    # Dash keeps them in an order of chance
    names = sorted(name for name in props if name in part._prop_names or name.startswith(("aria-", "data-")))
    attributes = "".join(
        f' {NAMES.get(name, name).lower()}="{escape(str(props[name]))}"'
        for name in names
        if name != "children" and props[name] is not None
    )
    tag = part._type.lower()
    return f"<{tag}{attributes}>{to_html(props.get('children'))}</{tag}>"

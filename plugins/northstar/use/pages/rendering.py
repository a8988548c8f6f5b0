"""The templates of the pages that the server renders."""

from pathlib import Path

import jinja2

from northstar.base.clock import show_utc

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)
TEMPLATES.filters["show_utc"] = show_utc
TEMPLATES.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
HTML = {"Content-Type": "text/html; charset=utf-8"}

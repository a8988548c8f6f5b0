"""What the pages show: the panels of `pages.yml`, with the home's own funnels."""

from functools import cache
from pathlib import Path
from typing import TypedDict

from northstar.base.config_files import read_own_yaml
from northstar.base.settings import Settings
from northstar.build.own_seeds import own_funnels
from northstar.use.pages.panels.drawing import Panel
from northstar.use.words import title_of

PAGES = Path(__file__).with_name("pages.yml")


class PageContent(TypedDict):
    """A page of pages.yml. group: the heading that it stands under in the navigation."""

    title: str
    group: str
    panels: list[Panel]


@cache
def read_pages() -> list[PageContent]:
    """The pages of pages.yml."""
    pages: list[PageContent] = read_own_yaml(PAGES)
    return pages


def pages_of(settings: Settings) -> list[PageContent]:
    """The pages of a home: those of pages.yml, with the home's own funnels on the page Journeys in place of the release's funnels everywhere."""
    funnels = own_funnels(settings)
    if funnels is None:
        return read_pages()
    own_panels: list[Panel] = [
        {"title": title_of(name), "kind": "funnel", "funnel": name, "metrics": ["funnel_stages"], "width": 6}
        for name in funnels
    ]
    return [
        {
            **page,
            "panels": [
                *(own_panels if page["title"] == "Journeys" else []),
                *(panel for panel in page["panels"] if panel["kind"] != "funnel"),
            ],
        }
        for page in read_pages()
    ]

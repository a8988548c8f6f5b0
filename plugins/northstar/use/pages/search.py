"""`/search?q=...`: metrics, pages, panels, chapters of the docs and customers by their words, for the search box of the pages (search.js)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from flask import Flask, Response, jsonify, request, url_for
from flask.typing import ResponseReturnValue

from northstar.base.errors import NorthstarError
from northstar.use.marts import Marts
from northstar.use.pages.contents import pages_of
from northstar.use.pages.links import page_path
from northstar.use.pages.manual import chapters
from northstar.use.words import title_of

# what a search finds at most, of which so many customers, and how much it looks at
FOUND, CUSTOMERS, QUERY_CHARACTERS = 20, 5, 100
DETAIL_CHARACTERS = 160
# the name of the route that shows one customer
CUSTOMER = "customer"
# an erased customer is nowhere
ERASED = "^erased-[0-9a-f]{24}$"
KINDS = ("page", "metric", "panel", "customer", "docs")
OTHER_PAGES = (("Alerts", "what is open now"), ("Metrics", "every metric"), ("Preview", "the last preview of a change"))


@dataclass(frozen=True)
class Hit:
    """Something that was found. words: what it is found by, besides its title; detail: what is shown beside it."""

    kind: str
    title: str
    detail: str
    path: str
    words: str = ""


def add_search(server: Flask, marts: Callable[[], Marts]) -> None:
    """Let the server answer searches. Customers are found where the server has pages for them. marts: gives what is read."""

    def search() -> ResponseReturnValue:
        query = request.args.get("q", "")[:QUERY_CHARACTERS].strip()
        try:
            hits = find(marts(), query)
            if CUSTOMER in server.view_functions:
                hits = [*hits, *(_customer(account) for account in find_customers(marts(), query))]
        except NorthstarError as exc:
            return Response(str(exc), 503, {"Content-Type": "text/plain; charset=utf-8"})
        shown = sorted(hits, key=lambda hit: _rank(hit, query))[:FOUND]
        return jsonify([{name: value for name, value in asdict(hit).items() if name != "words"} for hit in shown])

    server.add_url_rule("/search", "search", search)


def find(marts: Marts, query: str) -> list[Hit]:
    """The metrics, pages, panels and chapters that have all words of a query; nothing for an empty one."""
    words = query.lower().split()
    if not words:
        return []
    known = marts.remember(("what a search finds",), lambda: list(_known(marts)))
    return [hit for hit in known if all(word in f"{hit.title} {hit.words} {hit.detail}".lower() for word in words)]


def find_customers(marts: Marts, query: str) -> list[str]:
    """The ids of the first customers whose id begins with the query, in the version that is shown."""
    if len(query) < 2:
        return []
    begin = re.sub(r"([\\%_])", r"\\\1", query)
    rows = marts.rows(
        "select account_id from dim_accounts where account_id ilike %(begin)s and account_id !~ %(erased)s order by account_id limit %(count)s", begin=f"{begin}%", erased=ERASED, count=CUSTOMERS
    )  # fmt: skip
    return [row["account_id"] for row in rows]


def _customer(account: str) -> Hit:
    return Hit("customer", account, "customer", url_for(CUSTOMER, account_id=account))


def _known(marts: Marts) -> Iterator[Hit]:
    pages = pages_of(marts.settings)
    for page in pages:
        yield Hit("page", page["title"], f"{len(page['panels'])} panels", page_path(page["title"]))
    for title, words in OTHER_PAGES:
        yield Hit("page", title, words, page_path(title))
    for metric, entry in marts.catalogue().items():
        yield Hit(
            "metric",
            title_of(metric),
            _cut(entry["definition"]),
            page_path("Metrics", metric=metric),
            f"{metric} {entry['domain']} {entry['definition']}",
        )
    for page in pages:
        for panel in page["panels"]:
            yield Hit(
                "panel",
                panel["title"],
                page["title"],
                page_path(page["title"]),
                " ".join(map(title_of, panel["metrics"])),
            )
    for chapter in chapters(marts.settings.root):
        yield Hit(
            "docs", chapter.title, chapter.page if chapter.page != chapter.title else "docs", chapter.path, chapter.text
        )


def _rank(hit: Hit, query: str) -> tuple[int, int, str]:
    """Best first: whose title is the query, begins with it, has a word that does, has it; then what has its words elsewhere."""
    title, asked = hit.title.lower(), query.lower()
    places = (
        title == asked,
        title.startswith(asked),
        f" {asked}" in title,
        all(word in title for word in asked.split()),
    )
    return next((n for n, is_so in enumerate(places) if is_so), len(places)), KINDS.index(hit.kind), title


def _cut(text: str) -> str:
    return text if len(text) <= DETAIL_CHARACTERS else f"{text[:DETAIL_CHARACTERS]}…"

"""`/docs/NAME`: the pages of the docs that those who read numbers need, and their chapters for the search box."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flask import Flask, Response
from flask.typing import ResponseReturnValue
from markdown_it import MarkdownIt
from markdown_it.token import Token

from northstar.use.pages.rendering import TEMPLATES

# a wheel carries these (setup.py)
DOCS = ("pages_reports_alerts", "glossary", "semantics", "bi_tools", "runbooks")
HTML = {"Content-Type": "text/html; charset=utf-8"}


@dataclass(frozen=True)
class Chapter:
    """A chapter of a page of the docs, or the page itself. text: what the chapter says, as Markdown."""

    page: str
    title: str
    path: str
    text: str


def add_manual(server: Flask, root: Path) -> None:
    """Let the server show the docs. root: settings.root."""

    def show(name: str) -> ResponseReturnValue:
        if name not in DOCS:
            return Response("there is no such page of the docs", 404, {"Content-Type": "text/plain"})
        title, body = _rendered(root / "docs" / f"{name}.md")
        return Response(TEMPLATES.get_template("manual.html").render(title=title, body=body), 200, HTML)

    server.add_url_rule("/docs/<name>", "docs", show)


@cache
def chapters(root: Path) -> list[Chapter]:
    """The pages of the docs and their chapters, in order."""
    found = []
    for name in DOCS:
        tokens = _parsed(root / "docs" / f"{name}.md")
        page = ""
        for number, token in enumerate(tokens):
            if token.type == "heading_open" and token.tag in ("h1", "h2", "h3"):
                title = _plain(tokens[number + 1])
                page = page or title
                following = tokens[number + 2 :]
                end = next((n for n, t in enumerate(following) if t.type == "heading_open"), len(following))
                text = " ".join(_plain(t) for t in following[:end] if t.type == "inline")
                found.append(Chapter(page, title, f"/docs/{name}#{token.attrGet('id')}", text))
    return found


@cache
def _rendered(path: Path) -> tuple[str, str]:
    """(title, HTML) of a page of the docs."""
    tokens, parser = _parsed(path), _parser()
    return _plain(tokens[1]), str(parser.renderer.render(tokens, parser.options, {}))


def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _parsed(path: Path) -> list[Token]:
    """A page's tokens, whose headings have the ids that links name, and whose links lead to the pages that are shown here."""
    tokens = _parser().parse(path.read_text(encoding="utf-8"))
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(_plain(tokens[number + 1])))
        if token.type == "fence":
            # a long line scrolls, also by keyboard
            token.attrSet("tabindex", "0")
        for child in token.children or ():
            if child.type == "link_open":
                _lead(child)
            if child.type == "image":
                # pictures are not carried
                child.type, child.tag = "text", ""
    return tokens


def _lead(link: Token) -> None:
    """Have a link lead to a page that is shown here; one that leads to none is a text."""
    target = str(link.attrGet("href") or "")
    name, _, anchor = target.partition("#")
    if target.startswith(("https://", "http://", "#")):
        return
    if name.removesuffix(".md") in DOCS:
        link.attrSet("href", f"/docs/{name.removesuffix('.md')}" + (f"#{anchor}" if anchor else ""))
    else:
        link.attrs.pop("href", None)


def _plain(inline: Token) -> str:
    return "".join(
        child.content if child.type in ("text", "code_inline") else " " if child.type == "softbreak" else ""
        for child in inline.children or ()
    )


def _anchor(title: str) -> str:
    """The id that GitHub and mkdocs give a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")

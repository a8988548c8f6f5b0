"""Signed links, for programs that can open an address and send no headers: each for one question."""

from urllib.parse import parse_qsl, unquote, urlsplit

from fastapi.routing import APIRoute
from starlette.routing import Match

from northstar.base.errors import NorthstarError
from northstar.use.answers.reading import Scope
from northstar.use.api.access import Access
from northstar.use.api.app import PREFIX, build
from northstar.use.api.description import query_parameters


def sign(access: Access, target: str, days: int, role: str | None = None) -> str:
    """Sign the address of one question. target: its path and query, with or without the API's own address before it; role: whose answer it leads to.

    Raises NorthstarError for an address that is no question's, or has a parameter that the question does not have.
    """
    parts = urlsplit(target)
    path, question = unquote(parts.path), parse_qsl(parts.query, keep_blank_values=True)
    names = {name for name, _ in question}
    app = build(access.settings)
    asked = {"type": "http", "method": "GET", "path": path, "headers": []}
    routes = [r for r in app.routes if isinstance(r, APIRoute) and r.matches(asked)[0] is Match.FULL]
    if not routes:
        raise NorthstarError(
            f"{path[:80] or 'this'} is no question of the API: write it like {PREFIX}/metrics/mrr/values?grain=month&format=csv"
        )
    known = query_parameters(app, routes[0].path)
    if unknown := sorted(names - known):
        raise NorthstarError(f"{path} has no parameter {unknown[0][:40]!r}; it has {', '.join(sorted(known))}")
    if "rows" in names:
        raise NorthstarError("a link does not lead to the rows behind a number; ask for them with a token")
    return access.add_link(path, question, scope_of(path), days, role)


def scope_of(path: str) -> Scope:
    """The scope that a question needs."""
    if path == f"{PREFIX}/customers":
        return "customers"
    return "sql" if path == f"{PREFIX}/query" else "metrics"

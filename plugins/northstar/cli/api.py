"""The command `northstar api`: serve the HTTP API, and keep its tokens and links."""

import argparse

from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.base.tables import table
from northstar.cli.command import Command

NEEDS_NAME = {
    ("token", "add"): "name the token: northstar api token add dashboards --scope metrics",
    ("token", "revoke"): "which one? `northstar api token list` lists them",
    (
        "link",
        "add",
    ): 'give the path and query of one question: northstar api link add "/v1/metrics/mrr/values?grain=month&format=csv"',
    ("link", "revoke"): "which one? `northstar api link list` lists them",
}


def register(command: Command) -> None:
    """Add the command to the parser."""
    sub = command(
        "api", _api, "serve the HTTP API in the foreground, or add, list and revoke its tokens and signed links"
    )
    sub.add_argument("kind", nargs="?", choices=("serve", "token", "link"), default="serve")
    sub.add_argument("action", nargs="?", choices=("add", "list", "revoke"), default="list")
    sub.add_argument("name", nargs="?", help="a token's name, the address that a link is for, or what to revoke")
    sub.add_argument(
        "--scope",
        action="append",
        help="token add: metrics, rows (the rows behind a number), customers, sql; once for each (default: metrics)",
    )
    sub.add_argument("--days", type=int, default=90, help="add: how long it is valid (default: 90 days, at most 366)")
    sub.add_argument(
        "--per-minute", type=int, default=120, help="token add: the most requests in a minute (default: 120)"
    )
    sub.add_argument(
        "--role", help="add: the role of readers.yml whose part of the numbers it gives (default: everything)"
    )


def _api(arguments: argparse.Namespace) -> None:
    from northstar.use.api import serve
    from northstar.use.api.access import Access

    settings = load_settings(arguments.home)
    if arguments.kind == "serve":
        _serve(arguments)
        return
    access, needed = Access(settings), NEEDS_NAME.get((arguments.kind, arguments.action))
    if needed and not arguments.name:
        raise NorthstarError(needed)
    match arguments.kind, arguments.action:
        case "token", "add":
            scopes = arguments.scope or ["metrics"]
            print(access.add_token(arguments.name, scopes, arguments.days, arguments.per_minute, arguments.role))
        case "token", "revoke":
            access.revoke_token(arguments.name)
            print(f"revoked: {arguments.name}")
        case "token", _:
            print(
                table(
                    [
                        {"id": t.id, "name": t.name, "scopes": ", ".join(t.scopes), "role": t.role or "", "a minute": t.per_minute, "made": f"{t.created_at:%Y-%m-%d}",
                         "valid until": f"{t.expires_at:%Y-%m-%d %H:%M}" + (" (expired)" if t.expires_at <= access.clock() else "")}
                        for t in access.kept().tokens
                    ]
                )
            )  # fmt: skip
        case "link", "add":
            from northstar.use.api.links import sign

            print(f"{serve.url(settings)}{sign(access, arguments.name, arguments.days, arguments.role)}")
        case "link", "revoke":
            access.revoke_link(arguments.name)
            print(f"revoked: {arguments.name}")
        case _:
            print(
                table(
                    [
                        {"id": link.id, "for": link.target, "scope": link.scope, "role": link.role or "", "made": f"{link.created_at:%Y-%m-%d}",
                         "valid until": f"{link.expires_at:%Y-%m-%d %H:%M}" + (" (expired)" if link.expires_at <= access.clock() else "")}
                        for link in access.kept().links
                    ]
                )
            )  # fmt: skip


def _serve(arguments: argparse.Namespace) -> None:
    import sys

    from northstar.use.api import serve
    from northstar.warehouse import embedded

    settings = load_settings(arguments.home)
    if not settings.warehouse_url:
        embedded.ensure_running(settings)
    if warning := serve.cleartext_warning():
        print(f"northstar: {warning}", file=sys.stderr)
    serve.serve(settings, lambda: print(f"the API: {serve.url(settings)}/v1   (Ctrl-C stops it)", flush=True))

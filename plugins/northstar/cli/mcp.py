"""The command that serves language models."""

import argparse

from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.cli.command import Command


def register(command: Command) -> None:
    """Add the command to the parser."""
    sub = command(
        "mcp", _mcp, "answer the questions of a language model's client over standard input and output (docs/mcp.md)"
    )
    sub.add_argument(
        "--scope", nargs="+", metavar="SCOPE",
        help="what the client may ask: metrics, rows (those behind a number), customers, sql (default: all of them)",
    )  # fmt: skip
    sub.add_argument(
        "--role", help="the role of readers.yml whose part of the numbers the client sees (default: everything)"
    )


def _mcp(arguments: argparse.Namespace) -> None:
    from northstar.use.answers.reading import SCOPES, Desk
    from northstar.use.mcp.server import make_server
    from northstar.warehouse import embedded

    if unknown := sorted(set(arguments.scope or ()) - set(SCOPES)):
        raise NorthstarError(f"there is no scope {unknown[0]!r}; there are {', '.join(SCOPES)}")
    scopes = [scope for scope in SCOPES if not arguments.scope or scope in arguments.scope]
    settings = load_settings(arguments.home)
    if not settings.warehouse_url:
        embedded.ensure_running(settings)
    if arguments.role is not None and arguments.role not in settings.readers.roles:
        raise NorthstarError(f"there is no role {arguments.role!r} in readers.yml")
    desk = Desk(settings, role=arguments.role)
    try:
        make_server(settings, desk, lambda: scopes, lambda: arguments.role).run("stdio")
    finally:
        desk.close()

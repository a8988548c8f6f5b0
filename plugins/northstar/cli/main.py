"""The command line. Errors are one line; `--debug` shows their chain."""

import argparse
import os
import sys
from collections.abc import Callable

from northstar.base.collector import end_soon
from northstar.base.errors import NorthstarError
from northstar.base.escaping import visible_output
from northstar.base.settings import private_umask
from northstar.base.third_parties import file_error, resource_error
from northstar.cli import api, develop, keep, look, mapping, mcp, mend, new, people, run


@private_umask()
@visible_output()
def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status. argv: None takes the process's own command line; the process then ends after the command."""
    if argv is None:
        end_soon()
    arguments = _parser().parse_args(argv)
    _own_options(arguments)
    try:
        status = arguments.command(arguments) or 0
        sys.stdout.flush()
        return status
    except NorthstarError as exc:
        if arguments.debug:
            raise
        print(f"northstar: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # the reader of the output has closed it (`| head`); discard the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as exc:
        problem = resource_error(exc) or file_error(exc)
        if arguments.debug or problem is None:
            raise
        print(f"northstar: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("northstar: interrupted; the next run starts from what was last published", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--home",
        help="the directory that holds all state (default: NORTHSTAR_HOME, else .northstar in the checkout, else ~/.northstar)",
    )
    common.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    parser = argparse.ArgumentParser(prog="northstar", description="A metrics warehouse that can be trusted.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, function: Callable[[argparse.Namespace], int | None], help_text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=help_text, description=help_text)
        sub.set_defaults(command=function)
        return sub

    for group in (run, look, api, mcp, mapping, develop, new, mend, keep, people):
        group.register(command)
    return parser


def _own_options(arguments: argparse.Namespace) -> None:
    """Take our option --home out of the words that are passed on to another program."""
    words = getattr(arguments, "words", [])
    if "--home" in words[:-1]:
        place = words.index("--home")
        arguments.home = words[place + 1]
        del words[place : place + 2]

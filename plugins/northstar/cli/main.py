"""The command line. Errors are one line; `--debug` shows their chain."""

import argparse
import os
import sys
from collections.abc import Callable

from northstar.base.collector import end_soon
from northstar.base.errors import NorthstarError
from northstar.base.escaping import visible_output
from northstar.base.settings import kept_private
from northstar.base.third_parties import file_refused, resource_exhausted
from northstar.cli import keep, look, mapping, mend, people, run


@kept_private()
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
        problem = resource_exhausted(exc) or file_refused(exc)
        if arguments.debug or problem is None:
            raise
        print(f"northstar: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("northstar: interrupted; the next run starts where this one was published", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--home",
        help="directory with all state (default: NORTHSTAR_HOME, or .northstar in the checkout, or ~/.northstar without one)",
    )
    common.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    parser = argparse.ArgumentParser(prog="northstar", description="A metrics warehouse that can be trusted.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    for group in (run, look, mapping, mend, keep, people):
        group.register(command)
    return parser


def _own_options(arguments: argparse.Namespace) -> None:
    """Take our option --home out of the words that are passed on to another program."""
    words = getattr(arguments, "words", [])
    if "--home" in words[:-1]:
        place = words.index("--home")
        arguments.home = words[place + 1]
        del words[place : place + 2]

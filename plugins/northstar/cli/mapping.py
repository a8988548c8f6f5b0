"""Commands for those who write a mapping: a first one, what it makes of files, and an older one as SQL."""

import argparse
from pathlib import Path

from northstar.base.errors import NorthstarError
from northstar.cli.command import Command


def register(command: Command) -> None:
    """Add the commands of this file to the parser."""
    sub = command(
        "mapping",
        _mapping,
        "write a mapping: guess a first one, preview what it makes of files, convert an older one to SQL",
    )
    actions = sub.add_subparsers(required=True, metavar="ACTION")
    text = "show the first rows of a file or directory, what becomes of them, and what would be quarantined"
    preview = actions.add_parser("preview", help=text, description=text)
    preview.add_argument("path", type=Path, metavar="FILE")
    preview.add_argument(
        "--mapping", type=Path, help="the mapping (default: _mapping.yml beside the file, else the contract's layout)"
    )
    preview.add_argument("--entity", help="only this entity (default: all that the mapping makes)")
    preview.add_argument(
        "--rows", type=int, default=20, help="how many rows to show, of those that land and of the others (default: 20)"
    )
    preview.set_defaults(action=_preview)
    text = "write a first mapping for a directory of unknown files, with comments that say how sure each guess is"
    guess = actions.add_parser("guess", help=text, description=text)
    guess.add_argument("directory", type=Path, metavar="DIR")
    guess.add_argument("--output", type=Path, metavar="FILE", help="a new file (default: standard output)")
    guess.set_defaults(action=_guess)
    text = "print a mapping with its expressions written as SQL"
    convert = actions.add_parser("convert", help=text, description=text)
    convert.add_argument("path", type=Path, metavar="MAPPING")
    convert.set_defaults(action=_convert)


def _mapping(arguments: argparse.Namespace) -> int:
    status: int = arguments.action(arguments) or 0
    return status


def _preview(arguments: argparse.Namespace) -> int:
    from northstar.extract.landing.preview import as_text, preview
    from northstar.runs.mapping_checks import add_warnings

    if arguments.rows < 1:
        raise NorthstarError("--rows: give a number of 1 or more")
    previews = preview(arguments.path, arguments.mapping, arguments.entity, arguments.rows)
    add_warnings(previews)
    print(as_text(previews))
    return 1 if any(one.rejected for one in previews) else 0


def _guess(arguments: argparse.Namespace) -> None:
    from northstar.extract.landing.guess import guess

    text = guess(arguments.directory)
    if arguments.output is None:
        print(text, end="")
        return
    try:
        with arguments.output.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError as exc:
        raise NorthstarError(f"{arguments.output} is there already; name another file") from exc
    except OSError as exc:
        raise NorthstarError(f"cannot write {arguments.output}: {exc.strerror}") from exc
    print(f"wrote {arguments.output}; look at it, then: northstar mapping preview FILE --mapping {arguments.output}")


def _convert(arguments: argparse.Namespace) -> None:
    from northstar.extract.landing.mapping import converted

    print(converted(arguments.path), end="")

"""Commands for people's data: erasure, and the rotation of the key of their identifiers."""

import argparse
import os
import sys

from northstar.base.errors import NorthstarError
from northstar.base.progress import progress
from northstar.base.settings import load_settings
from northstar.cli.command import Command


def register(command: Command) -> None:
    """Add the commands of this file to the parser."""
    sub = command(
        "erase",
        _erase,
        "erase one person from every schema, including history and quarantine, and print the certificate",
    )
    sub.add_argument("--account-id", help="the account; - reads it from standard input")
    sub.add_argument(
        "--email",
        help="always -: the address is read from standard input, hashed and not stored; it is never taken from the command line",
    )
    sub.add_argument("--by", default=os.environ.get("USER", "somebody"), help="who asked for it (default: you)")
    sub.add_argument(
        "--later", action="store_true", help="only record the request; the DAG erase_subject carries it out"
    )
    sub.add_argument("--pending", action="store_true", help="carry out the requests that were recorded or interrupted")
    command("rotate-key", _rotate_key, "add a new key to the hashes of identifiers; old and new rows still join")


def _erase(arguments: argparse.Namespace) -> None:
    from northstar.runs.erase.erasure import erase, erase_pending

    settings = load_settings(arguments.home)
    if arguments.pending:
        erasures = erase_pending(settings, progress)
    else:
        if "@" in f"{arguments.account_id}{arguments.email}" or arguments.email not in (None, "-"):
            raise NorthstarError(
                "every user of this machine can see a command line, and it stays in the shell's history: "
                "use --email - (or --account-id -) and give the address on standard input"
            )
        account_id, email = (
            sys.stdin.readline().strip() if argument == "-" else argument
            for argument in (arguments.account_id, arguments.email)
        )
        erasures = [erase(settings, account_id, email, arguments.by, progress, is_later=arguments.later)]
    for erasure in erasures:
        version = f", published as version {erasure.published_version}" if erasure.published_version else ""
        print(f"erasure {erasure.erasure_id}: {erasure.state}, requested by {erasure.requested_by}{version}")
        for table, rows in sorted(erasure.rows.items()):
            print(f"  {table}: {rows} rows")
    if not erasures:
        print("no erasure is pending")


def _rotate_key(arguments: argparse.Namespace) -> None:
    from northstar.runs.rotate import rotate_key

    rotation = rotate_key(load_settings(arguments.home), progress)
    if rotation.was_interrupted:
        print(
            f"an interrupted rotation was finished: key {rotation.generation} is in use; run this again to add another one"
        )
        return
    print(
        f"key {rotation.generation} is in use; {rotation.hashes:,} hashes and {rotation.seals:,} documents with sealed values were converted to it"
    )
    if rotation.unopened:
        print(
            f"{rotation.unopened:,} texts that begin like sealed values but were sealed by no key of this home were left as they are"
        )

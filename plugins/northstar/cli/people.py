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
        "erase", _erase, "erase one subject from every schema, history and quarantine included; prints the certificate"
    )
    sub.add_argument("--account-id", help="the account, or - to read it from standard input")
    sub.add_argument(
        "--email",
        help="- reads the address from standard input, hashes it and keeps it nowhere; none is taken from a command line",
    )
    sub.add_argument("--by", default=os.environ.get("USER", "somebody"), help="who asks (default: you)")
    sub.add_argument("--later", action="store_true", help="only note it: the DAG erase_subject carries it out")
    sub.add_argument("--pending", action="store_true", help="carry out what was noted or left half done")
    command("rotate-key", _rotate_key, "give the identifiers' hashes a new key: old and new rows still join")


def _erase(arguments: argparse.Namespace) -> None:
    from northstar.runs.erase.erasure import erase, erase_pending

    settings = load_settings(arguments.home)
    if arguments.pending:
        erasures = erase_pending(settings, progress)
    else:
        if "@" in f"{arguments.account_id}{arguments.email}" or arguments.email not in (None, "-"):
            raise NorthstarError(
                "a command line is seen by every user of this machine and stays in the shell's history: "
                "say --email - (or --account-id -) and write the address on standard input"
            )
        account_id, email = (
            sys.stdin.readline().strip() if argument == "-" else argument
            for argument in (arguments.account_id, arguments.email)
        )
        erasures = [erase(settings, account_id, email, arguments.by, progress, is_later=arguments.later)]
    for erasure in erasures:
        version = f", published as version {erasure.published_version}" if erasure.published_version else ""
        print(f"erasure {erasure.erasure_id}: {erasure.state}, asked for by {erasure.requested_by}{version}")
        for table, rows in sorted(erasure.rows.items()):
            print(f"  {table}: {rows} rows")
    if not erasures:
        print("nothing is waiting to be erased")


def _rotate_key(arguments: argparse.Namespace) -> None:
    from northstar.runs.rotate import rotate_key

    rotated = rotate_key(load_settings(arguments.home), progress)
    if rotated.was_interrupted:
        print(
            f"key {rotated.generation}, which an interrupted rotation had brought in, is in use; run this again for another one"
        )
        return
    print(
        f"key {rotated.generation} is in use; {rotated.hashes:,} hashes and {rotated.seals:,} documents with sealed values were brought to it"
    )
    if rotated.unopened:
        print(
            f"{rotated.unopened:,} texts that begin like sealed ones, and that no key here has sealed, were left as they are"
        )

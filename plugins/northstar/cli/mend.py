"""Commands that repair: rejected rows, putting an earlier version back, a hold on publishing, ending the turn of a run that is gone."""

import argparse

from northstar.base.errors import NorthstarError
from northstar.base.progress import progress
from northstar.base.settings import load_settings
from northstar.cli.command import Command


def register(command: Command) -> None:
    """Add the commands of this file to the parser."""
    sub = command(
        "quarantine",
        _quarantine,
        "list rejected rows, show one, try them again after a fix, accept that they are missing, or set a row without a rate aside",
    )
    sub.add_argument("action", choices=("list", "show", "replay", "accept", "set-aside"))
    sub.add_argument(
        "id", nargs="?", help="show: the number of the row; set-aside: the id of a landed row, such as ch_17"
    )
    sub.add_argument("--entity", help="only rows of this entity")
    sub.add_argument("--limit", type=int, default=50, help="list: how many rows to show (default: 50)")
    sub.add_argument(
        "--because", default="", help="accept, set-aside: why the rows may be missing; certificates repeat it"
    )
    sub.add_argument("--by", help="accept, set-aside: who decided it (default: the user who is logged in)")
    sub.add_argument(
        "--unseal",
        action="store_true",
        help="show: personal values as they were delivered, opened with this home's key",
    )
    sub = command(
        "values",
        _values,
        "list unusual values of landed rows, and settle each by name: accept it, map it to another, or refuse it",
    )
    sub.add_argument("action", choices=("list", "accept", "map", "refuse"))
    sub.add_argument("column", nargs="?", metavar="ENTITY.COLUMN", help="such as bookings.tutor_id")
    sub.add_argument("value", nargs="*", help="one or more values, as `values list` shows them")
    sub.add_argument("--to", metavar="OTHER", help="map: the value that they are to be")
    sub.add_argument("--missing", action="store_true", help="accept, refuse: rows without a value in the column")
    sub.add_argument(
        "--largest",
        nargs=2,
        action="append",
        metavar=("CURRENCY", "AMOUNT"),
        help="accept: amounts up to this are usual; refuse: larger ones go to quarantine",
    )
    sub = command("rollback", _rollback, "publish an earlier version again")
    sub.add_argument("--to", type=int, metavar="VERSION", help="the version to go back to (default: the previous one)")
    sub.add_argument("--hold", metavar="WHY", help="then publish nothing until `northstar release`, for this reason")
    sub = command(
        "hold", _hold, "keep runs from publishing until `northstar release`; they still land, build and audit"
    )
    sub.add_argument(
        "--why", "--because", dest="because", default="", help="the reason; every run that is held repeats it"
    )
    sub.add_argument("--by", help="who decided it (default: the user who is logged in)")
    sub = command("release", _release, "end a hold: the next run publishes")
    sub.add_argument("--by", help="who decided it (default: the user who is logged in)")
    sub = command(
        "unlock",
        _unlock,
        "end the turn of a run that no process works on, such as a DAG run that Airflow has forgotten",
    )
    sub.add_argument("run", type=int, help="the number of the run, as `northstar status` shows it")


def _quarantine(arguments: argparse.Namespace) -> None:
    from northstar.runs import quarantine

    settings = load_settings(arguments.home)
    if arguments.action == "list":
        if arguments.limit < 1:
            raise NorthstarError("--limit wants a number of 1 or more")
        print(quarantine.overview(settings, arguments.entity, arguments.limit))
    elif arguments.action == "show":
        if arguments.id is None or not arguments.id.isdigit():
            raise NorthstarError("which row? give its number: northstar quarantine show 17")
        for name, value in quarantine.show(settings, int(arguments.id), arguments.unseal).items():
            print(f"{name}: {value}")
    elif arguments.action == "accept":
        if arguments.entity is None:
            raise NorthstarError(
                "which rows? give their entity: northstar quarantine accept --entity charges --because ..."
            )
        print(quarantine.accept(settings, arguments.entity, arguments.because, arguments.by))
    elif arguments.action == "set-aside":
        if arguments.entity is None or arguments.id is None:
            raise NorthstarError(
                "which row? give its id and entity: northstar quarantine set-aside ch_17 --entity charges --because ..."
            )
        print(quarantine.set_aside(settings, arguments.entity, arguments.id, arguments.because, arguments.by))
    else:
        print(quarantine.replay(settings, entity=arguments.entity))


def _values(arguments: argparse.Namespace) -> None:
    from northstar.runs import values

    settings, name, chosen = load_settings(arguments.home), arguments.column, arguments.value
    if arguments.action == "list":
        print(values.overview(settings, name))
        return
    if name is None:
        raise NorthstarError(f"which column? northstar values {arguments.action} ENTITY.COLUMN VALUE")
    if arguments.action == "map":
        if arguments.to is None:
            raise NorthstarError(f"which value is it to be? northstar values map {name} VALUE --to OTHER")
        print(values.map_values(settings, name, chosen, arguments.to))
        return
    settle = values.accept if arguments.action == "accept" else values.refuse
    print(settle(settings, name, chosen, arguments.missing, _amounts(arguments.largest or [])))


def _amounts(given: list[list[str]]) -> dict[str, float]:
    try:
        return {currency.upper(): float(amount) for currency, amount in given}
    except ValueError as exc:
        raise NorthstarError(f"--largest wants a currency and an amount in minor units: {exc}") from exc


def _rollback(arguments: argparse.Namespace) -> None:
    from northstar.runs.rollback import put_back

    version, restored = put_back(load_settings(arguments.home), arguments.to, arguments.hold)
    print(f"version {version} is published: the marts are as they were at version {restored}")


def _hold(arguments: argparse.Namespace) -> None:
    from northstar.runs.hold import hold

    print(hold(load_settings(arguments.home), arguments.because, arguments.by))


def _release(arguments: argparse.Namespace) -> None:
    from northstar.runs.hold import end_hold

    print(end_hold(load_settings(arguments.home), arguments.by))


def _unlock(arguments: argparse.Namespace) -> None:
    from northstar.runs.turns import unlock

    progress(f"the turn of run {arguments.run} ({unlock(load_settings(arguments.home), arguments.run)}) has ended")

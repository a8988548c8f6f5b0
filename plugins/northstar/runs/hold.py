"""A hold on publishing: runs go on to land, build and audit, but publish no version until the hold ends.

It is for whoever puts an earlier version back: without a hold the next hourly run would publish again what was just taken back.
"""

import getpass

from northstar.base.clock import show_utc
from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.publish.hold import require_no_hold
from northstar.runs.turns import command_turn
from northstar.warehouse import db, turn_lock
from northstar.warehouse.setup import bootstrap


def hold(settings: Settings, because: str, by: str | None = None) -> str:
    """Begin a hold; returns a line that says so. Raises NorthstarError without a reason, and when publishing is held already."""
    if not because.strip():
        raise NorthstarError("a hold needs a reason: give it with --why; every run that is held repeats it")
    bootstrap(settings)
    with command_turn(settings, "hold") as number, db.connect(settings, "publisher") as connection:
        turn_lock.keep(connection, number)
        require_no_hold(connection)
        connection.execute(
            "insert into audit.holds (because, by_whom) values (%s, %s)", [because.strip(), by or getpass.getuser()]
        )
    return "publishing is held: runs still land, build and audit, but publish nothing until `northstar release`"


def end_hold(settings: Settings, by: str | None = None) -> str:
    """End the hold; returns a line that says so. Raises NorthstarError when there is none."""
    bootstrap(settings)
    with db.connect(settings, "publisher") as connection:
        hold_row = connection.execute(
            "update audit.holds set ended_at = clock_timestamp(), ended_by = %s where ended_at is null returning began_at",
            [by or getpass.getuser()],
        ).fetchone()
    if hold_row is None:
        raise NorthstarError("publishing is not held")
    return f"the hold of {show_utc(hold_row['began_at'])} has ended; the next run publishes"

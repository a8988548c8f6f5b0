"""Messages and their addresses: `audit.outbox` has a row for each alert or report and each address that it is for.

What is due is put in once. Each address is tried on its own until the message is sent, so that an address that fails sends nobody else
a message twice. When a process is killed between a message and the mark on its row, that one address gets the message again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict

from northstar.base.errors import NorthstarError
from northstar.use.notify import Address, Channels
from northstar.warehouse.rows import Connection, fetch_all_as

# a row is given up after this time: an address that works again is not flooded with old messages
GIVEN_UP_AFTER = timedelta(hours=24)


@dataclass(frozen=True)
class Due:
    """Something to send on a route. instance: separates the same event at different times, such as an alert that opens again."""

    about: str
    event: str
    instance: str
    route: str | None


class Waiting(TypedDict):
    """The columns of a row of audit.outbox that are read."""

    outbox_id: int
    about: str
    event: str
    instance: str
    route: str | None
    address: str


def put(connection: Connection, kind: str, due: Iterable[Due], channels: Channels, now: datetime) -> None:
    """Put in a row for every address of each route; a row that is there already stays as it is.

    While a message waits, an address that leaves the route does not get it any more, and one that joins the route gets it.
    """
    for item in due:
        names = [str(address) for address in channels.addresses(item.route)]
        place = [kind, item.about, item.event, item.instance]
        connection.execute(
            "delete from audit.outbox where (what, about, event, instance) = (%s, %s, %s, %s) and sent_at is null and not address = any(%s)",
            [*place, names],
        )
        for name in names:
            connection.execute(
                "insert into audit.outbox (what, about, event, instance, route, address, queued_at) values (%s, %s, %s, %s, %s, %s, %s) "
                "on conflict do nothing", [*place, item.route, name, now],
            )  # fmt: skip


def waiting(connection: Connection, kind: str, now: datetime) -> list[Waiting]:
    """The rows that have not been sent, oldest first; those that waited too long are given up."""
    connection.execute(
        "update audit.outbox set given_up_at = %(now)s where what = %(what)s and sent_at is null and given_up_at is null and queued_at < %(since)s",
        {"what": kind, "now": now, "since": now - GIVEN_UP_AFTER},
    )
    rows = connection.execute(
        "select * from audit.outbox where what = %s and sent_at is null and given_up_at is null order by outbox_id",
        [kind],
    )
    return fetch_all_as(Waiting, rows)


def send_each(
    connection: Connection,
    rows: list[Waiting],
    channels: Channels,
    send: Callable[[Address, list[Waiting]], str | None],
    now: datetime,
) -> tuple[list[Waiting], list[str], list[str]]:
    """Send each address its rows in one message, and note at once how it went: (rows that were sent, where to, problems)."""
    sent: list[Waiting] = []
    destinations: list[str] = []
    problems: list[str] = []
    by_address: dict[str, list[Waiting]] = {}
    for row in rows:
        by_address.setdefault(row["address"], []).append(row)
    for name, rows_of_address in by_address.items():
        address = next((a for a in channels.addresses(rows_of_address[0]["route"]) if str(a) == name), None)
        if address is None:
            continue
        problem = None
        try:
            destination = send(address, rows_of_address)
            sent += rows_of_address
            destinations += [destination] if destination else []
        except NorthstarError as exc:
            problem = str(exc)
            problems.append(f"{address}: {problem}")
        connection.execute(
            "update audit.outbox set attempts = attempts + 1, problem = %s, sent_at = case when %s::text is null then %s end where outbox_id = any(%s)",
            [problem, problem, now, [row["outbox_id"] for row in rows_of_address]],
        )
        # a commit for each address: a message that was sent cannot be undone by a later failure
        connection.commit()
    return sent, destinations, problems

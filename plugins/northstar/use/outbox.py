"""Who has yet to hear of what: `audit.outbox`, a row for each alert or report and each address.

What is due is put in once; each address is tried on its own until it has heard, so that one that fails has nobody else told twice. A process
that is killed between a message and its row's mark tells that one address again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict

from northstar.base.errors import NorthstarError
from northstar.use.notify import Address, Channels
from northstar.warehouse.rows import Connection, all_shaped

# an address that was dead for longer is not flooded with what is long over
GIVEN_UP_AFTER = timedelta(hours=24)


@dataclass(frozen=True)
class Due:
    """Something that a route has to hear of. instance: tells the same event at another time apart, such as an alert that opens again."""

    about: str
    event: str
    instance: str
    route: str | None


class Waiting(TypedDict):
    """A row of audit.outbox, in so far as it is read."""

    outbox_id: int
    about: str
    event: str
    instance: str
    route: str | None
    address: str


def put(connection: Connection, what: str, due: Iterable[Due], channels: Channels, now: datetime) -> None:
    """Put in what is due for every address of its route; what is there already stays as it is.

    Addresses that are not on the route any more need not hear of it, and those that came to it while it waits do.
    """
    for item in due:
        names = [str(address) for address in channels.addresses(item.route)]
        place = [what, item.about, item.event, item.instance]
        connection.execute(
            "delete from audit.outbox where (what, about, event, instance) = (%s, %s, %s, %s) and sent_at is null and not address = any(%s)",
            [*place, names],
        )
        for name in names:
            connection.execute(
                "insert into audit.outbox (what, about, event, instance, route, address, queued_at) values (%s, %s, %s, %s, %s, %s, %s) "
                "on conflict do nothing", [*place, item.route, name, now],
            )  # fmt: skip


def waiting(connection: Connection, what: str, now: datetime) -> list[Waiting]:
    """The rows that have not been sent, oldest first; those that waited too long are given up."""
    connection.execute(
        "update audit.outbox set given_up_at = %(now)s where what = %(what)s and sent_at is null and given_up_at is null and queued_at < %(since)s",
        {"what": what, "now": now, "since": now - GIVEN_UP_AFTER},
    )
    rows = connection.execute(
        "select * from audit.outbox where what = %s and sent_at is null and given_up_at is null order by outbox_id",
        [what],
    )
    return all_shaped(Waiting, rows)


def send_each(
    connection: Connection,
    rows: list[Waiting],
    channels: Channels,
    tell: Callable[[Address, list[Waiting]], str | None],
    now: datetime,
) -> tuple[list[Waiting], list[str], list[str]]:
    """Tell each address its rows at once, and note how it went at once: (rows that were sent, where to, what went wrong)."""
    sent: list[Waiting] = []
    where: list[str] = []
    problems: list[str] = []
    by_address: dict[str, list[Waiting]] = {}
    for row in rows:
        by_address.setdefault(row["address"], []).append(row)
    for name, theirs in by_address.items():
        address = next((a for a in channels.addresses(theirs[0]["route"]) if str(a) == name), None)
        if address is None:
            continue
        problem = None
        try:
            destination = tell(address, theirs)
            sent += theirs
            where += [destination] if destination else []
        except NorthstarError as exc:
            problem = str(exc)
            problems.append(f"{address}: {problem}")
        connection.execute(
            "update audit.outbox set attempts = attempts + 1, problem = %s, sent_at = case when %s::text is null then %s end where outbox_id = any(%s)",
            [problem, problem, now, [row["outbox_id"] for row in theirs]],
        )
        # each on its own: what was said cannot be taken back by what fails later
        connection.commit()
    return sent, where, problems

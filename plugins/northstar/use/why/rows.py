"""The rows behind a published number, for who reads the pages: as `bi_reader`, through the functions of the schema `explain`."""

from dataclasses import dataclass, field, replace
from decimal import Decimal

import psycopg

from northstar.base.errors import NorthstarError
from northstar.use.explain.explanation import Library, Side, contributions_by_id, explain_sides
from northstar.use.explain.readers import FactsReader
from northstar.use.explain.recorded import ReaderByFunctions
from northstar.use.explain.rows import Cell
from northstar.use.marts import Marts
from northstar.use.why.background import Background, Place
from northstar.warehouse import db
from northstar.warehouse.published.past import show_version
from northstar.warehouse.rows import fetch_one

# rows and accounts that are shown, of each measure
ROWS = 8
# a build may hold a table, or make the query slow: nobody waits longer than this for a panel
LIMITS = "set local lock_timeout = '1s'; set local statement_timeout = '10s'; set transaction isolation level repeatable read, read only"
NOT_RECORDED = (
    "how this number is made has not been recorded yet; the next publication, or `northstar dashboard`, records it"
)
BEING_BUILT = "the rows behind this number are being built again; they are shown when that run has published"
NEWEST_ONLY = "the landed rows behind a number are shown for the newest version only"
FACTS = "these are the facts that this version published"
SLOW = "the rows behind this number are too many to be added up while a page waits; `northstar explain` shows them"


@dataclass(frozen=True)
class Behind:
    """The rows behind a number, or why there are none to show.

    model, sql: what makes the metric. accounts: (id, change of the number since the period before), largest first; empty for a ratio, or where
    the rows belong to nobody. note: why rows are missing, '' where they add up to what was published.
    """

    model: str = ""
    sql: str = ""
    numerator: Side | None = None
    denominator: Side | None = None
    accounts: list[tuple[str, Decimal]] = field(default_factory=list)
    note: str = ""


def find_behind(marts: Marts, background: Background) -> Behind:
    """The rows behind the number that `background` describes.

    They are shown only if they add up to what was published: while a run builds, or after a rollback, the tables may hold other rows.
    Of an earlier version no landed rows are shown, but the facts that it published.
    """
    try:
        if marts.past_version is not None:
            return _of_earlier(marts, background, marts.past_version)
        with db.connect(marts.settings, marts.reader) as connection:
            connection.execute(LIMITS)
            db.count_days_in(connection, marts.calendar.zone.key)
            rows = connection.execute("select model, sql from explain.models()").fetchall()
            as_of = fetch_one(
                connection.execute("select as_of from publications order by published_version desc limit 1")
            )["as_of"]
            library = Library({row["model"]: row["sql"] for row in rows}, as_of)
            return _behind(ReaderByFunctions(connection), library, background)
    except psycopg.errors.InsufficientPrivilege as exc:
        return Behind(note=exc.diag.message_primary or "")
    # a warehouse of an earlier release has no such functions until the next run
    except (psycopg.errors.NoDataFound, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction):
        return Behind(note=NOT_RECORDED)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return Behind(note=BEING_BUILT)
    except psycopg.errors.QueryCanceled:
        return Behind(note=SLOW)
    except NorthstarError as exc:
        return Behind(note=str(exc))


def _of_earlier(marts: Marts, background: Background, version: int) -> Behind:
    """What is known behind a number of an earlier version: its SQL where the code is still the same, and its facts where those were published."""
    codes = marts.rows(
        "select p.code_version = n.code_version as is_same from publications as p, marts.publications as n "
        "order by p.published_version desc, n.published_version desc limit 1"
    )
    if not codes or not codes[0]["is_same"]:
        return Behind(note=f"{NEWEST_ONLY}; the code that made this one has changed since")
    models = {row["model"]: row["sql"] for row in marts.rows("select model, sql from explain.models()")}
    if not models:
        return Behind(note=NEWEST_ONLY)
    place, library = background.place, Library(models, marts.as_of())
    definition = library.of_metric(place.metric)
    formula = Behind(definition.name, definition.sql, note=NEWEST_ONLY)
    # a group that is withheld has no facts either
    if background.value["value"] is None:
        return formula
    try:
        with db.connect(marts.settings, marts.reader) as connection:
            connection.execute(LIMITS)
            show_version(connection, version)
            numerator, denominator = explain_sides(
                FactsReader(connection),
                library,
                place.metric,
                _cell(place),
                background.value["numerator"],
                background.value["denominator"],
                ROWS,
            )
    # most metrics are made of relations that are not published
    except (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.QueryCanceled,
    ):
        return formula
    if not numerator.adds_up or (denominator and not denominator.adds_up):
        return formula
    return replace(formula, numerator=numerator, denominator=denominator, note=f"{FACTS}; {NEWEST_ONLY}")


def _behind(reader: ReaderByFunctions, library: Library, background: Background) -> Behind:
    place = background.place
    definition, cell = library.of_metric(place.metric), _cell(place)
    numerator, denominator = explain_sides(
        reader, library, place.metric, cell, background.value["numerator"], background.value["denominator"], ROWS
    )
    if not numerator.adds_up or (denominator and not denominator.adds_up):
        return Behind(definition.name, definition.sql, note=BEING_BUILT)
    accounts = _accounts(reader, library, background) if denominator is None and background.earlier else []
    return Behind(definition.name, definition.sql, numerator, denominator, accounts)


def _accounts(reader: ReaderByFunctions, library: Library, background: Background) -> list[tuple[str, Decimal]]:
    """(account, its part of the change since the period before), largest first; empty where the rows belong to no accounts."""
    place, earlier = background.place, background.earlier
    if earlier is None:
        return []
    id_name, now = contributions_by_id(reader, library, place.metric, _cell(place))
    before_name, before = contributions_by_id(
        reader, library, place.metric, _cell(replace(place, period_start=earlier["period_start"]))
    )
    if "account_id" not in (id_name, before_name):
        return []
    changes = {name: now.get(name, Decimal(0)) - before.get(name, Decimal(0)) for name in now.keys() | before.keys()}
    return sorted(((n, c) for n, c in changes.items() if c), key=lambda part: (-abs(part[1]), part[0]))[:ROWS]


def _cell(place: Place) -> Cell:
    return Cell(place.grain, place.period_start, place.application, place.segment, place.segment_value)

"""The ledger of one company: its rows as they were known at the closing time, and its sums, members and measurements by month."""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal, TypeVar

import pandas as pd

from northstar.base.settings import Rules
from northstar.contract import entities
from northstar.demo.books.arithmetic import percentile, rounded

# currencies whose minor unit has not two decimal digits, and how many it has
EXPONENTS = {"JPY": 0, "KWD": 3}
# month, application, segment, segment_value
Scope = tuple[datetime, str, str, str]
# a metric (or a group of members) in a scope
Key = tuple[str, datetime, str, str, str]
# numerator, and denominator or None. A whole number may stand for a fraction until the books are closed
Line = tuple[Fraction, Fraction | None]
# Any: a row of a source's table, whose cells are of the types that the contract says
BookRow = dict[str, Any]
# the segments in which an entry counts, with their values
Segments = Mapping[str, object]
Ruled = TypeVar("Ruled")
BookGrain = Literal["week", "month", "year"]
COLUMNS = ["metric_id", "period_start", "application", "segment", "segment_value", "numerator", "denominator"]


class Ledger:
    """What every domain's module reckons with: a company's rows up to `as_of`, and the figures made from them.

    A scope is (month, application, segment, segment_value): every entry counts for its own application and for "all", without a segment
    ("", "") and in each of its segments. `sums` has [numerator, denominator] by (metric, *scope); in the same way `sets` has the distinct
    members and `lists` the measurements. `results` has the metrics' values in the end: (numerator, denominator or None) by (metric, *scope).

    tables: entity -> DataFrame in contract shape, without flawed rows. as_of: the books' closing time, exclusive, UTC.
    rules: the company's business rules. grain: month, or week or year for books whose months are the company's weeks or fiscal years.
    """

    def __init__(
        self,
        tables: Mapping[str, pd.DataFrame],
        as_of: datetime,
        rules: Rules,
        grain: BookGrain = "month",
    ):
        self.as_of, self.rules, self.grain = as_of, rules, grain
        self.rows = {name: self._visible_rows(name, tables.get(name)) for name in entities()}
        self._leave_out_the_group()
        self.accounts = {a["account_id"]: a for a in self.rows["accounts"]}
        # whole numbers stay ints until the books are closed: most entries are ones
        # Any: numbers of both kinds, and None for the second of a metric that has no denominator
        self.sums: dict[Key, list[Any]] = defaultdict(lambda: [0, 0])
        self.sets: dict[Key, set[Hashable]] = defaultdict(set)
        self.lists: dict[Key, list[Fraction]] = defaultdict(list)
        self.results: dict[Key, Line] = {}
        self.months = self._months()

    # rows as they are known at the books' closing time

    def _visible_rows(self, name: str, table: pd.DataFrame | None) -> list[BookRow]:
        if table is None or table.empty:
            return []
        entity = entities()[name]
        rows: list[BookRow] = []
        own_time, later_times = entity.own_time, entity.later_times
        names, columns = list(table.columns), [_cells(table[c]) for c in table.columns]
        for cells in zip(*columns, strict=True):
            row = dict(zip(names, cells, strict=True))
            own = row[own_time]
            if isinstance(own, date) and not isinstance(own, datetime):
                own = self.midnight(own)
            if own >= self.as_of or row.get("consent") is False:
                continue
            for later in later_times:
                if row.get(later) is not None and row[later] >= self.as_of:
                    row[later], row[f"{later}_is_to_come"] = None, True
            row.setdefault("application", "default")
            rows.append(defaultdict(_nothing, row))
        return rows

    def _leave_out_the_group(self) -> None:
        """Take out what companies of the group buy from each other; what becomes of an account that is not there is no revenue."""
        given = self.rules.intercompany_accounts
        names, beginnings = set(given), tuple(text[:-1] for text in given if text.endswith("*"))
        if not given:
            return
        for entity in ("subscriptions", "charges"):
            inside = [
                r
                for r in self.rows[entity]
                if r["account_id"] in names or str(r["account_id"] or "").startswith(beginnings)
            ]
            self.rows[entity] = [r for r in self.rows[entity] if r not in inside]
            gone = {r["charge_id"] for r in inside}
            if entity == "charges":
                self.rows["refunds"] = [r for r in self.rows["refunds"] if r["charge_id"] not in gone]

    def _months(self) -> list[tuple[datetime, datetime]]:
        first = min(self._first_time(name, rows) for name, rows in self.rows.items() if rows and name != "fx_rates")
        months, start = [], self.month_of(first)
        while start < self.as_of:
            end = self.next_month(start)
            months.append((start, end))
            start = end
        return months

    def _first_time(self, name: str, rows: list[BookRow]) -> datetime:
        times = (r[entities()[name].own_time] for r in rows)
        return min(t if isinstance(t, datetime) else self.midnight(t) for t in times)

    # days and months by the company's clock; instants stay in UTC, since two times of one zone are subtracted by what their clocks show

    def day_of(self, when: datetime) -> date:
        """The company's day that a moment is in."""
        return when.astimezone(self.rules.calendar.zone).date()

    def midnight(self, day: date) -> datetime:
        """The moment when a day begins."""
        return datetime(day.year, day.month, day.day, tzinfo=self.rules.calendar.zone).astimezone(UTC)

    def month_of(self, when: datetime) -> datetime:
        """The moment when the month of a moment began."""
        return self.midnight(self.rules.calendar.period_start(self.grain, when).date())

    def next_month(self, month: datetime, number: int = 1) -> datetime:
        """The moment when the month after a month begins, or one that many months later."""
        first = self.day_of(month)
        if self.grain == "week":
            return self.midnight(first + timedelta(days=7 * number))
        months = first.year * 12 + first.month - 1 + number * (12 if self.grain == "year" else 1)
        return self.midnight(date(months // 12, months % 12 + 1, 1))

    @cached_property
    def activity(self) -> dict[str, list[BookRow]]:
        """The events of each account that has any."""
        activity = defaultdict(list)
        for event in self.rows["events"]:
            if event["account_id"]:
                activity[event["account_id"]].append(event)
        return dict(activity)

    # sums and shares, distinct members, measurements

    def scopes(self, when: datetime, application: str, segments: Segments | None) -> Iterator[Scope]:
        """The scopes that an entry counts for."""
        month = self.month_of(when)
        segments = segments or {}
        if "country" in segments:
            given = segments.get("legal_entity")
            segments = {**segments, **self._derived_segments(application, segments["country"], given)}
            segments.pop("legal_entity", None)
        for name in (application, "all"):
            yield month, name, "", ""
            for segment, value in segments.items():
                yield month, name, segment, "(unknown)" if value is None else str(value)

    def _derived_segments(self, application: str, country: object, given: object) -> dict[str, object]:
        """The group of a country and the legal entity of a row, where the company has such rules. given: the entity that the row names."""
        derived: dict[str, object] = {}
        if self.rules.country_groups:
            names = [name for name, countries in self.rules.country_groups.items() if country in countries]
            derived["country_group"] = names[0] if names else country and "(other)"
        if self.rules.legal_entities and given is not None:
            derived["entity"] = given if given in [entity.id for entity in self.rules.legal_entities] else None
        elif self.rules.legal_entities:
            owners = (
                entity.id
                for entity in self.rules.legal_entities
                if (not entity.applications or application in entity.applications)
                and (not entity.countries or country in entity.countries)
            )
            derived["entity"] = next(owners, None)
        return derived

    def add(
        self,
        metric: str,
        when: datetime,
        application: str,
        numerator: Fraction | float,
        denominator: Fraction | int | None = None,
        segments: Segments | None = None,
    ) -> None:
        """Add to a metric's month. denominator: None for a metric without one."""
        if isinstance(numerator, float):
            numerator = Fraction(numerator)
        for scope in self.scopes(when, application, segments):
            line = self.sums[metric, *scope]
            line[0] += numerator
            line[1] = None if denominator is None else line[1] + denominator

    def add_in_segment(
        self,
        metric: str,
        when: datetime,
        application: str,
        numerator: Fraction | int,
        denominator: Fraction | int,
        segment: str,
        value: str,
    ) -> None:
        """Add to one segment of a metric's month only: for such a metric the whole is not the sum of its segments."""
        for name in (application, "all"):
            line = self.sums[metric, self.month_of(when), name, segment, value]
            line[0], line[1] = line[0] + numerator, line[1] + denominator

    def member(
        self, group: str, when: datetime, application: str, member_id: Hashable, segments: Segments | None = None
    ) -> None:
        """Count somebody or something in a group's month; it counts once, however often it is added."""
        for scope in self.scopes(when, application, segments):
            self.sets[group, *scope].add(member_id)

    def measure(
        self, metric: str, when: datetime, application: str, value: Fraction, segments: Segments | None = None
    ) -> None:
        """Keep a single measurement of a metric's month."""
        for scope in self.scopes(when, application, segments):
            self.lists[metric, *scope].append(value)

    def total(self, metric: str, scope: Scope) -> Fraction:
        """A metric's numerator so far, 0 where nothing was added."""
        line = self.sums.get((metric, *scope))
        total: Fraction = (line or [0])[0]
        return total

    def scopes_of(self, metric: str) -> list[Scope]:
        """The scopes in which something was added to a metric."""
        return [key[1:] for key in self.sums if key[0] == metric]

    def count(self, group: str, scope: Scope) -> int:
        """How many members a group has."""
        return len(self.sets.get((group, *scope), ()))

    def groups_of(self, group: str) -> list[tuple[Scope, set[Hashable]]]:
        """(scope, members) of each scope in which a group has members."""
        return [(key[1:], members) for key, members in self.sets.items() if key[0] == group]

    def reckon_percentile(self, *metrics: str, share: Fraction = Fraction(1, 2)) -> None:
        """Set metrics to a percentile of their measurements, by default the median."""
        for key, values in self.lists.items():
            if key[0] in metrics:
                self.results[key] = (percentile(values, share), Fraction(len(values)))

    def close(self) -> None:
        """Close the ledger: move all sums into `results`, as fractions."""
        self.results = {
            key: (Fraction(numerator), None if denominator is None else Fraction(denominator))
            for key, (numerator, denominator) in (self.results | self.sums).items()
        }

    def lines(self) -> pd.DataFrame:
        """The contents of `results` as a frame with COLUMNS, in the order of its keys; numbers are Fractions."""
        return pd.DataFrame([(*key, *value) for key, value in sorted(self.results.items())], columns=COLUMNS)

    # money

    @cached_property
    def rates(self) -> dict[str, tuple[list[date], list[Fraction]]]:
        """Exchange rates by currency: the days from which landed rates hold, and the rates, to the currency that they are worth in."""
        dated_rates: dict[str, list[tuple[date, Fraction]]] = defaultdict(list)
        for row in self.rows["fx_rates"]:
            dated_rates[row["currency"]].append((row["rate_date"], Fraction(str(row["rate_to_reporting"]))))
        return {c: ([day for day, _ in sorted(r)], [rate for _, rate in sorted(r)]) for c, r in dated_rates.items()}

    def rate(self, currency: str, day: date) -> Fraction:
        """A currency's rate to the reporting currency on a day."""
        return self._landed_rate(currency, day) / self._landed_rate(self.rules.reporting_currency, day)

    def _landed_rate(self, currency: str, day: date) -> Fraction:
        if currency == (self.rules.rates_currency or self.rules.reporting_currency):
            return Fraction(1)
        days, rates = self.rates[currency]
        return rates[bisect_right(days, day) - 1]

    def rate_days(self, currency: str) -> list[date]:
        """The days on which a currency's rate to the reporting currency may change."""
        currencies = {currency, self.rules.reporting_currency} if currency != self.rules.reporting_currency else set()
        return sorted({day for one in currencies for day in self.rates.get(one, ([], []))[0]})

    def money(self, amount: object, currency: str, day: date) -> Fraction:
        """An amount of minor units in the reporting currency's major unit, at the rate of a day."""
        return Fraction(str(amount)) / minor_units(currency) * self.rate(currency, day)

    def money_at_earlier_rate(self, amount: object, currency: str, day: date) -> Fraction:
        """An amount as `money` has it, at the rate of the same day a year before, or at the oldest rate where none was known yet."""
        # the year before has no 29 February
        year_before = day.replace(year=day.year - 1, day=28 if (day.month, day.day) == (2, 29) else day.day)
        known = [self.rates[one][0][0] for one in (currency, self.rules.reporting_currency) if one in self.rates]
        is_own = currency == self.rules.reporting_currency
        return self.money(amount, currency, year_before if is_own else max([year_before, *known]))

    def rounded(self, amount: Fraction) -> Fraction:
        """An amount as it is published: rounded to the reporting currency's minor unit."""
        return rounded(amount, minor_units(self.rules.reporting_currency))


def minor_units(currency: str) -> int:
    """How many minor units make one of a currency."""
    units: int = 10 ** EXPONENTS.get(currency, 2)
    return units


def place_of(row: BookRow) -> dict[str, object]:
    """Where a row belongs: its country, and the company of the group that it names."""
    return {"country": row.get("country"), "legal_entity": row.get("legal_entity")}


def of_application(values: Mapping[str, Ruled], application: str) -> Ruled:
    """A rule's value for an application."""
    return values.get(application, values["default"])


def properties(event: BookRow) -> BookRow:
    """An event's properties, {} where it has none."""
    return json.loads(event["properties"]) if event["properties"] else {}


def _nothing() -> None:
    """The value of a row in a column that it does not have."""


def _cells(column: pd.Series) -> list[object]:
    """A column as plain Python values, None for what is missing."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = pd.Series(column.dt.to_pydatetime(), dtype=object)
    values: list[object] = column.tolist()
    missing = column.isna().to_numpy()
    if not missing.any():
        return values
    return [None if is_missing else value for value, is_missing in zip(values, missing, strict=True)]

"""Which columns of a file are which of an entity's, and the lines of a mapping that say so."""

import json
import re
from collections import Counter
from dataclasses import dataclass

from northstar.contract import Column, Entity
from northstar.contract.codes import COUNTRIES, CURRENCIES
from northstar.extract.landing.engine import literal, quoted
from northstar.extract.landing.likeness import BOOLEANS, likeness, meant, words
from northstar.extract.landing.sample import Sample
from northstar.extract.landing.value_guesses import (
    ENOUGH,
    both_orders,
    currency_of,
    epoch_unit,
    guess_currency,
    guess_patterns,
    has_dates,
    is_iso,
    is_number,
    is_plain_number,
)

# a name is taken for a column's from this likeness on; below SURE it is said to be a guess
LIKE, SURE = 0.35, 0.8
# the most values of a column that are written down as a value map
MOST_VALUES = 50
# what is taken for a required column that no column of the file is like
CONSTANTS = {
    ("accounts", "account_type"): "customer",
    ("charges", "status"): "succeeded",
    ("refunds", "status"): "succeeded",
    ("tickets", "status"): "open",
    ("subscriptions", "interval_count"): "1",
    ("subscriptions", "quantity"): "1",
    ("subscriptions", "billing_interval"): "month",
    ("subscriptions", "status"): "active",
}
# a required column that is often one and the same as another of the entity
SAME_COLUMN = {("subscriptions", "subscription_item_id"): "subscription_id", ("subscriptions", "plan_id"): "plan_tier"}


@dataclass
class Line:
    """A line of a mapping's `columns`. how: the value as it is written; None: the line is left out, and only its note is written."""

    column: str
    how: str | None
    note: str = ""


def fit_of(entity: Entity, columns: dict[str, tuple[str, float]]) -> float:
    """How well an entity's columns are found: required ones count twice."""
    weights = {c.name: 2.0 if c.required else 0.5 for c in entity.columns.values()}
    needed = sum(weight for weight in weights.values() if weight == 2.0)
    return sum(weights[name] * likely for name, (_, likely) in columns.items()) / (needed + 1)


def assigned_columns(entity: Entity, found: Sample) -> dict[str, tuple[str, float]]:
    """{contract column: (the file's column, how likely)}; each of the file's is used once."""
    pairs = []
    for column in entity.columns.values():
        for name, values in found.columns.items():
            likely = likeness(name, column, entity)
            if likely:
                fit = _fit(column, [v for v in values if v], found)
                # values that do not fit are no reason to leave out a column of exactly this name
                pairs.append((max(likely * fit, 0.5 if name == column.name else 0), column.name, name))
    assigned: dict[str, tuple[str, float]] = {}
    used: set[str] = set()
    for likely, wanted, name in sorted(pairs, key=lambda pair: -pair[0]):
        if likely >= LIKE and wanted not in assigned and name not in used:
            assigned[wanted] = (name, likely)
            used.add(name)
    return assigned


def _fit(column: Column, values: list[str], found: Sample) -> float:
    """How far values are of a column's type: 1 where they are, less where they can hardly be."""
    if not values:
        return 0.6
    if column.type in ("timestamp", "date"):
        return (
            1.0 if epoch_unit(values) or is_iso(values) or guess_patterns(values) else 0.4 if has_dates(values) else 0.0
        )
    if column.type in ("int", "decimal"):
        return 1.0 if sum(is_number(v) for v in values) >= ENOUGH * len(values) else 0.0
    if column.type == "bool":
        return 1.0 if all(v.lower() in BOOLEANS for v in values) else 0.1
    if column.type == "json":
        return 1.0 if values[0].lstrip().startswith("{") else 0.1
    if column.values:
        distinct = set(values)
        return 1.0 if any(meant(v, column.values) for v in distinct) else 0.3 if len(distinct) <= MOST_VALUES else 0.0
    if column.name == "currency":
        return 1.0 if guess_currency(values) or all(len(v.strip()) == 3 for v in values) else 0.2
    if column.code == "country":
        # names of countries cannot be taken over, but whoever reads the mapping has to know where they are
        return 1.0 if all(v.strip().upper() in COUNTRIES for v in values) else 0.4
    return 0.5 if guess_patterns(values[:50]) else 1.0


def named_value(column: Column, about: frozenset[str]) -> str | None:
    """The allowed value of a column that the file's name has, such as nps."""
    return next((value for value in column.values or () if value in about), None)


def lines_of(
    entity: Entity, found: Sample, assigned: dict[str, tuple[str, float]], about: frozenset[str]
) -> list[Line]:
    lines = []
    currency = _currency(found, assigned)
    for column in entity.columns.values():
        if column.name in assigned:
            name, likely = assigned[column.name]
            line = _line(column, name, [v for v in found.columns[name] if v], found, currency)
            if likely < SURE and line.how is not None:
                line.note = "; ".join(filter(None, [f"a guess ({likely:.0%} alike)", line.note]))
            lines.append(line)
        elif column.required or column.name == "currency":
            named = named_value(column, about)
            if named:
                lines.append(Line(column.name, f"{{constant: {named}}}", "told by the file's name"))
            else:
                lines.append(_missing(entity, column, found, assigned, currency))
    return lines


def _missing(
    entity: Entity, column: Column, found: Sample, assigned: dict[str, tuple[str, float]], currency: str | None
) -> Line:
    """A line for a required column that no column of the file is like."""
    constant = CONSTANTS.get((entity.name, column.name))
    same = SAME_COLUMN.get((entity.name, column.name), "")
    if same in assigned:
        return Line(column.name, written_yaml(assigned[same][0]), f"no column of its own: that of {same}")
    if column.name == "currency" and currency and currency.startswith("'"):
        return Line(column.name, f"{{constant: {currency.strip(chr(39))}}}", "told by the amounts' sign")
    if constant is not None:
        return Line(column.name, f"{{constant: {constant}}}", "no column says it: this is taken for all rows")
    times = [name for name in entity.columns if name in assigned and entity.columns[name].type == "timestamp"]
    if column.type == "timestamp" and times:
        name = assigned[times[0]][0]
        line = _line(column, name, [v for v in found.columns[name] if v], found, currency)
        return Line(column.name, line.how, f"no column of its own: that of {times[0]}")
    if entity.key == (column.name,):
        return Line(
            column.name,
            "{sql: \"_file || ' ' || _line\"}",
            "no column is an id: file and line, so a row that comes again in another file counts twice",
        )
    return Line(column.name, None, "required, and no column is like it: rows go to quarantine until it is written")


def _line(column: Column, name: str, values: list[str], found: Sample, currency: str | None) -> Line:
    written = written_yaml(name)
    if column.type in ("timestamp", "date"):
        return _time_line(column, name, values)
    if column.type == "decimal" and "amount" in column.name:
        return _amount(column, name, values, currency)
    if column.type in ("int", "decimal") and (found.decimal != "." or any("," in v for v in values)):
        return Line(column.name, _sql(f"number({quoted(name)})"))
    if column.values:
        return _value_map(column, written, values)
    if column.name == "currency" and any(v.strip().upper() not in CURRENCIES for v in values):
        known = {v: currency_of(v) for v in sorted(set(values))[:MOST_VALUES]}
        return Line(column.name, f"{{column: {written}, map: {written_yaml(known)}, default: null}}")
    if column.code == "country" and not any(v.strip().upper() in COUNTRIES for v in values):
        return Line(
            column.name,
            None,
            f"{name} has names, not two-letter codes: write {{column: {name}, map: {{Germany: DE}}, default: null}}",
        )
    return Line(column.name, written)


def _time_line(column: Column, name: str, values: list[str]) -> Line:
    written = written_yaml(name)
    if is_iso(values):
        return Line(column.name, written)
    unit = epoch_unit(values)
    if unit:
        return Line(
            column.name,
            _sql(f"to_timestamp(number({quoted(name)}){' / 1000' if unit == 1000 else ''})"),
            "seconds since 1970" if unit == 1 else "milliseconds since 1970",
        )
    patterns = guess_patterns(values)
    if not patterns:
        example = next(iter(values), "")
        return Line(
            column.name,
            None,
            f"{name}: no one pattern reads its dates, such as {example!r}; days and months may be in both orders",
        )
    note = "no zone in the file: UTC is taken" if column.type == "timestamp" and "%z" not in patterns[0] else ""
    if both_orders(values):
        order = (
            "the day" if "%d" in patterns[-1] and patterns[-1].index("%d") < patterns[-1].index("%m") else "the month"
        )
        note = f"day and month could be the other way round: {order} is taken to stand first; " + note
    zone = ", timezone: UTC" if column.type == "timestamp" else ""
    return Line(column.name, f"{{column: {written}, parse: {written_yaml(patterns)}{zone}}}", note.removesuffix("; "))


def _amount(column: Column, name: str, values: list[str], currency: str | None) -> Line:
    plain = quoted(name)
    if any(not is_plain_number(v) for v in values):
        # a currency's code or sign, and blanks
        plain = f"regexp_replace({plain}, '[^0-9.,+-]', '', 'g')"
    if words(name) & {"cent", "minor", "pence"}:
        return Line(column.name, _sql(f"number({plain})"), "told by its name to be in minor units")
    if currency is None:
        return Line(column.name, _sql(f"number({plain}) * 100"), "the currency is not known: hundredths are taken")
    note = (
        ""
        if any(re.search(r"[.,]\d{1,2}\D*$", v) for v in values)
        else "whole numbers: taken for major units; write number() where they are cents"
    )
    return Line(column.name, _sql(f"minor_units({plain}, {currency})"), note)


def _currency(found: Sample, assigned: dict[str, tuple[str, float]]) -> str | None:
    """The SQL of the currency: a column, or a constant that the values of an amount tell."""
    if "currency" in assigned:
        return quoted(assigned["currency"][0])
    for column, (name, _) in assigned.items():
        if "amount" in column:
            code = guess_currency(v for v in found.columns[name] if v)
            if code:
                return literal(code)
    return None


def _value_map(column: Column, written: str, values: list[str]) -> Line:
    assert column.values
    counts = Counter(values)
    if set(counts) <= set(column.values):
        return Line(column.name, written)
    known = {value: meant(value, column.values) for value, _ in counts.most_common(MOST_VALUES)}
    unmatched = [value for value, target in known.items() if target is None]
    note = f"not told, so null: {', '.join(unmatched)[:200]}; allowed: {', '.join(column.values)}" if unmatched else ""
    return Line(column.name, f"{{column: {written}, map: {written_yaml(known)}, default: null}}", note)


def _sql(text: str) -> str:
    return "{sql: " + written_yaml(text) + "}"


def written_yaml(value: object) -> str:
    """A value as YAML in one line, in which nothing is invisible."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False))


def one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))

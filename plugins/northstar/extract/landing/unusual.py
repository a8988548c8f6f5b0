"""What is unusual about a delivery: judged by what the company's earlier deliveries held, and by the delivery itself.

Pure functions: `judge` compares, `learn` adds a delivery to what is known. docs/semantics.md has the rules, docs/decisions.md (D180) why they are these.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from northstar.contract import Column, Entity
from northstar.extract.landing.profile import (
    Amounts,
    Missing,
    Place,
    Profile,
    Values,
    amount_at,
    has_too_many,
    merged,
    percentile,
    step_of,
)
from northstar.extract.landing.settled import Settled
from northstar.extract.landing.spelling import is_other_spelling, is_slip

# kinds of findings
NEW, SPELLING, MISSING, GONE, SIZE = "new", "spelling", "missing", "gone", "size"
# so many rows have to be known before anything is unusual
ENOUGH_ROWS, ENOUGH_CURRENCIES = 200, 100
# a slip is a value that comes once where the usual one comes so often, which itself has at least so many rows
SLIP_SHARE, SLIP_ROWS = 0.05, 20
# a value with so few rows says that new ones come now and then
RARE_ROWS = 2
# identifiers are names only where there are few, with so many rows each
FEW_IDENTIFIERS, ROWS_PER_IDENTIFIER = 10, 100
# missing values: at least so many, and so many times what the usual share explains, if one more had been missing before
LEAST_MISSING, TIMES_MISSING, ZERO_ALLOWANCE = 5, 5, 1
# a column that is filled in all but this share of rows should have a value; by the rows of one delivery alone a stricter one counts
MOSTLY_FILLED, NEARLY_FILLED, ALONE_ROWS = 0.1, 0.005, 1000
# a column counts as emptied when it had values in at least this share, and nearly all rows have none now
HAD_VALUES, EMPTIED, EMPTIED_ROWS = 0.5, 0.95, 100
# a value has gone when it came with so many deliveries in a row, and so many rows of it were to be expected
STEADY_DELIVERIES, EXPECTED_ROWS = 5, 30
# an amount is too large beyond so many times the median, and so many times what 99 of 100 stay below
TIMES_MEDIAN, TIMES_TOP = 100, 30
# a file's amounts have another unit when its median is so many times, or such a part of, the usual one
TIMES_UNIT, UNIT_ROWS = 50, 20
# a file's amounts seem to be in major units when so many, and such a share, have digits after the point, and none more than the currency has
FRACTIONS, FRACTION_SHARE = 3, 0.05


@dataclass
class Known:
    """A value that has come. rows: how many; deliveries: how many deliveries had it; absences: how many did not, although many rows of it were to be expected.

    is_noted: whether it was a finding itself when it came, so that it does not show how often new values come.
    """

    rows: int = 0
    deliveries: int = 0
    absences: int = 0
    is_noted: bool = False


@dataclass
class Learned:
    """What is known of a column in one application. values: None when there are too many different ones; rows: those with a value."""

    values: dict[str, Known] | None = field(default_factory=dict)
    rows: int = 0
    nulls: int = 0
    all_rows: int = 0
    last_new_at: int = 0
    # {currency: {step: rows}}
    sizes: dict[str, Counter[int]] = field(default_factory=dict)


# by (application, column)
AllLearned = dict[tuple[str, str], Learned]


@dataclass(frozen=True)
class Finding:
    """Something unusual. rows: how many rows; of_rows: of how many; what: in words, without the number; path: the file, where it is about one."""

    application: str
    column: str
    kind: str
    value: str
    rows: int
    of_rows: int
    what: str
    usual: str = ""
    path: str = ""
    examples: tuple[Place, ...] = ()


def judge(entity: Entity, learned: AllLearned, profile: Profile, settled: Settled) -> list[Finding]:
    """The findings of a delivery that nobody has settled."""
    findings = [
        *_judge_ids(profile),
        *_judge_values(entity, learned, profile),
        *_judge_missing(learned, profile),
        *_judge_gone(learned, profile),
        *_judge_amounts(learned, profile),
    ]
    return [f for f in findings if not settled.is_settled(entity.name, f.column, f.kind, f.value)]


def _judge_ids(profile: Profile) -> Iterator[Finding]:
    for (application, name), seen in profile.none_words.items():
        for word, rows in (seen.counts or {}).items():
            what = f"{word!r} is a word for none, where an id is expected: its rows count as one's"
            examples = tuple(seen.examples[word])
            yield Finding(application, name, NEW, word, rows, profile.rows[application], what, examples=examples)


def _judge_values(entity: Entity, learned: AllLearned, profile: Profile) -> Iterator[Finding]:
    for (application, name), seen in profile.values.items():
        column, known = entity.columns[name], learned.get((application, name), Learned())
        if not seen.counts or known.values is None or has_too_many_together(known, seen):
            continue
        totals = Counter({value: k.rows for value, k in known.values.items()}) + seen.counts
        misspelt = dict(_spellings(totals, seen.counts)) if is_spelt_freely(column) else {}
        for value, usual in misspelt.items():
            rows = seen.counts[value]
            yield Finding(
                application, name, SPELLING, value, rows, seen.rows, f"{value!r} is written nearly like {usual!r}",
                usual, examples=tuple(seen.examples.get(value, ())),
            )  # fmt: skip
        for value in sorted(seen.counts.keys() - known.values.keys() - misspelt.keys()):
            if is_surprising(entity, column, known):
                yield Finding(
                    application, name, NEW, value, seen.counts[value], seen.rows,
                    f"{value!r} has never come before, in {known.rows:,} rows with {len(known.values)} values",
                    examples=tuple(seen.examples.get(value, ())),
                )  # fmt: skip


def has_too_many_together(known: Learned, seen: Values) -> bool:
    values = (known.values or {}).keys() | (seen.counts or {}).keys()
    return has_too_many(len(values), known.rows + seen.rows)


def is_spelt_freely(column: Column) -> bool:
    """Whether the contract leaves open what a column says: codes and listed values are compared with their lists."""
    return not column.values and not column.code


def _spellings(totals: Counter[str], in_delivery: Counter[str]) -> Iterator[tuple[str, str]]:
    """(value, usual one) for the values of a delivery that are probably others, written differently."""
    by_rows = [value for value, _ in sorted(totals.items(), key=lambda item: (-item[1], item[0]))]
    places = {value: place for place, value in enumerate(by_rows)}
    for value in sorted(in_delivery):
        rows = totals[value]
        for usual in by_rows[: places[value]]:
            usual_rows = totals[usual]
            is_rare = usual_rows >= SLIP_ROWS and rows <= SLIP_SHARE * usual_rows
            if is_other_spelling(value, usual) or (is_rare and is_slip(value, usual)):
                yield value, usual
                break


def is_surprising(entity: Entity, column: Column, known: Learned) -> bool:
    """Whether a value that has never come is unusual.

    It is where the column's values have been the same for at least the later half of its rows, and where none of them is rare: rare values show
    that new ones come now and then. A company that grows gets new countries; it does not get new hotels.
    """
    if column.values or not known.values:
        return False
    if column.code == "currency" and entity.name != "fx_rates":
        return known.rows >= ENOUGH_CURRENCIES
    if known.rows < ENOUGH_ROWS or known.last_new_at > known.rows / 2:
        return False
    is_identifier = column.name.endswith("_id")
    if is_identifier and (len(known.values) > FEW_IDENTIFIERS or known.rows < ROWS_PER_IDENTIFIER * len(known.values)):
        return False
    return all(k.rows > RARE_ROWS or k.is_noted for k in known.values.values())


def _judge_missing(learned: AllLearned, profile: Profile) -> Iterator[Finding]:
    for (application, name, path), own in profile.missing.items():
        if own.nulls < LEAST_MISSING:
            continue
        known = learned.get((application, name), Learned())
        rows, nulls, where = known.all_rows, known.nulls, "before"
        if rows < ENOUGH_ROWS:
            others = [m for (a, n, p), m in profile.missing.items() if (a, n) == (application, name) and p != path]
            rows, nulls, where = sum(m.rows for m in others), sum(m.nulls for m in others), "in the other files"
        if rows < ENOUGH_ROWS:
            if own.rows >= ALONE_ROWS and own.nulls <= NEARLY_FILLED * own.rows:
                yield _missing(application, name, path, own, "has no value, where nearly all other rows have one")
            continue
        usual = nulls / rows
        is_sudden = usual <= MOSTLY_FILLED and own.nulls > TIMES_MISSING * own.rows * (nulls + ZERO_ALLOWANCE) / rows
        is_emptied = usual <= HAD_VALUES and own.rows >= EMPTIED_ROWS and own.nulls >= EMPTIED * own.rows
        if is_sudden or is_emptied:
            yield _missing(application, name, path, own, f"has no value, {where} {usual:.1%} had none")


def _missing(application: str, name: str, path: str, own: Missing, what: str) -> Finding:
    return Finding(application, name, MISSING, "", own.nulls, own.rows, what, path=path, examples=tuple(own.examples))


def _judge_gone(learned: AllLearned, profile: Profile) -> Iterator[Finding]:
    for (application, name), seen in profile.values.items():
        known = learned.get((application, name))
        if known is None or not known.values or seen.counts is None:
            continue
        for value in _absent(known, seen):
            k = known.values[value]
            if k.deliveries >= STEADY_DELIVERIES and not k.absences:
                expected = round(seen.rows * k.rows / known.rows)
                yield Finding(
                    application, name, GONE, value, 0, seen.rows,
                    f"{value!r} came with each of {k.deliveries} deliveries and no longer does; about {expected:,} rows were to be expected",
                )  # fmt: skip


def _absent(known: Learned, seen: Values) -> list[str]:
    """The known values that a delivery does not have although many rows of them were to be expected."""
    return [
        value for value, k in sorted((known.values or {}).items())
        if value not in (seen.counts or {}) and seen.rows * k.rows >= EXPECTED_ROWS * known.rows > 0
    ]  # fmt: skip


def _judge_amounts(learned: AllLearned, profile: Profile) -> Iterator[Finding]:
    for (application, name, currency, path), own in profile.amounts.items():
        if own.fractions >= max(FRACTIONS, FRACTION_SHARE * own.sizes.total()) and not own.is_finer:
            what = (
                f"has digits after the point, and never more than a {currency} has: major units in place of minor ones?"
            )
            yield _size(application, name, currency, path, own, own.fractions, what)
            continue
        known = learned.get((application, name), Learned()).sizes.get(currency, Counter())
        usual, is_known = known, known.total() >= ENOUGH_CURRENCIES
        if not is_known:
            usual = merged(
                a.sizes for (p, n, c, _), a in profile.amounts.items() if (p, n, c) == (application, name, currency)
            )
            if usual.total() < ENOUGH_CURRENCIES:
                continue
        median, top = percentile(usual, 0.5), percentile(usual, 0.99)
        limit = max(step_of(amount_at(median) * TIMES_MEDIAN), step_of(amount_at(top) * TIMES_TOP)) + 1
        too_large = sum(rows for step, rows in own.sizes.items() if step >= limit)
        if is_known and own.sizes.total() >= UNIT_ROWS:
            factor = amount_at(percentile(own.sizes, 0.5)) / amount_at(median)
            if factor >= TIMES_UNIT or factor <= 1 / TIMES_UNIT:
                word = f"{factor:,.0f} times" if factor > 1 else f"a {1 / factor:,.0f}th of"
                yield _size(
                    application,
                    name,
                    currency,
                    path,
                    own,
                    own.sizes.total(),
                    f"is about {word} the usual, in the median: another unit?",
                )
                continue
        if too_large:
            yield _size(
                application, name, currency, path, own, too_large,
                f"is more than {amount_at(limit):,.0f}; half of all are below {amount_at(median + 1):,.0f}, 99 of 100 below {amount_at(top + 1):,.0f}",
            )  # fmt: skip


def _size(application: str, name: str, currency: str, path: str, own: Amounts, rows: int, what: str) -> Finding:
    largest = f"{currency}, up to {own.largest[0][0]:,.0f}, {what}"
    places = tuple(place for _, place in own.largest[:rows])
    return Finding(application, name, SIZE, currency, rows, own.sizes.total(), largest, path=path, examples=places)


def learn(learned: AllLearned, profile: Profile, findings: list[Finding]) -> AllLearned:
    """What is known after a delivery: new objects for the columns that it has, to be stored.

    A file in which much more is missing than usual, or whose amounts are of another size, teaches nothing until somebody says that it is right.
    """
    after: AllLearned = {}
    for key, seen in profile.values.items():
        own = after.setdefault(key, _copy(learned.get(key)))
        if own.values is None or seen.counts is None or has_too_many_together(own, seen):
            own.values = None
            continue
        noted = {f.value for f in findings if (f.application, f.column) == key and f.kind in (NEW, SPELLING)}
        for value in _absent(own, seen):
            own.values[value].absences += 1
        if seen.counts.keys() - own.values.keys() - noted:
            own.last_new_at = own.rows + (seen.rows if own.values else seen.last_new_at)
        for value, rows in seen.counts.items():
            known = own.values.setdefault(value, Known(is_noted=value in noted))
            known.rows += rows
            known.deliveries += 1
        own.rows += seen.rows
    untaught = {(f.kind, f.application, f.column, f.path) for f in findings if f.kind == MISSING or f.rows == f.of_rows}
    for (application, name, path), missing in profile.missing.items():
        own = after.setdefault((application, name), _copy(learned.get((application, name))))
        is_unusual = (MISSING, application, name, path) in untaught and missing.nulls > NEARLY_FILLED * missing.rows
        if not is_unusual:
            own.all_rows += missing.rows
            own.nulls += missing.nulls
    for (application, name, currency, path), amounts in profile.amounts.items():
        own = after.setdefault((application, name), _copy(learned.get((application, name))))
        if (SIZE, application, name, path) not in untaught:
            own.sizes.setdefault(currency, Counter()).update(amounts.sizes)
    return after


def _copy(learned: Learned | None) -> Learned:
    if learned is None:
        return Learned()
    values = None if learned.values is None else {v: replace(k) for v, k in learned.values.items()}
    sizes = {currency: Counter(own) for currency, own in learned.sizes.items()}
    return Learned(values, learned.rows, learned.nulls, learned.all_rows, learned.last_new_at, sizes)

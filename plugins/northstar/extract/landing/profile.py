"""What one delivery holds, column by column: how often each value occurs, where a value is missing, how large the amounts are.

It is counted from the rows as they land, while they pass by, so it costs what the delivery costs and shows nothing that staging does not store.
A column with ever new values (a number of something, a text) is given up within the delivery; docs/semantics.md has the rules.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from northstar.contract import Column, Entity
from northstar.contract.codes import minor_digits
from northstar.privacy.keys import HASH_MARK, SEAL_MARK

# the most values that a column may have whose values are learned, and how many it may have for each row that was seen
MOST_VALUES, FEW_VALUES, VALUES_PER_ROW = 200, 50, 0.05
# so many rows show where something was found
EXAMPLES = 3
# amounts are counted by size: so many steps for each doubling
STEPS = 4
APPLICATION = "application"
# amounts are looked at as floats
TOLERANCE = 1e-4

# words that programs write for a value that is not there; as an id, they make one customer of all who have none
NONE_WORDS = (
    *("null", "NULL", "Null", "<null>", "(null)", "[null]", "none", "None", "NONE", "nan", "NaN", "NAN", "<NA>", "N/A", "n/a", "#N/A"),
    *("nil", "undefined", "\\N", "[object Object]", "NaT"),
)  # fmt: skip

# an origin of a row: (file or source, the number of the row in it); the number is None where rows have no place
Place = tuple[str, int | None]
Locate = Callable[[int], Place]


@dataclass
class Values:
    """The values of a column in one application. counts: {value: rows}; None when there are too many different ones."""

    counts: Counter[str] | None = field(default_factory=Counter)
    rows: int = 0
    examples: dict[str, list[Place]] = field(default_factory=dict)
    # how many rows had been seen when the last new value came
    last_new_at: int = 0


@dataclass
class Missing:
    """Rows of a column in one file: how many, how many without a value, and some of those."""

    rows: int = 0
    nulls: int = 0
    examples: list[Place] = field(default_factory=list)


@dataclass
class Amounts:
    """The amounts of a column in one currency and file. sizes: {step: rows}; largest: (amount, place), the largest first.

    fractions: how many have digits after the point; is_finer: whether one has more of them than the currency has.
    """

    sizes: Counter[int] = field(default_factory=Counter)
    largest: list[tuple[float, Place]] = field(default_factory=list)
    fractions: int = 0
    is_finer: bool = False


@dataclass
class Profile:
    """What a delivery of an entity holds. Keys are (application, column), for missing values and amounts also the file, for amounts the currency."""

    values: dict[tuple[str, str], Values] = field(default_factory=dict)
    missing: dict[tuple[str, str, str], Missing] = field(default_factory=dict)
    amounts: dict[tuple[str, str, str, str], Amounts] = field(default_factory=dict)
    # ids that are words for none
    none_words: dict[tuple[str, str], Values] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    # the files that have examples
    example_paths: set[str] = field(default_factory=set)

    def add(self, entity: Entity, rows: pa.RecordBatch, lines: pa.Array, path: str, locate: Locate) -> None:
        """Count rows in the landed schema. lines: the number of each in its reading; path: its file, or its source; locate: the place of a number."""
        if not rows.num_rows:
            return
        numbers = lines.to_numpy(zero_copy_only=False)

        def locate_and_note(number: int) -> Place:
            place = locate(number)
            self.example_paths.add(place[0])
            return place

        applications = rows.column(APPLICATION)
        for column in id_columns(entity):
            self._note_none_words(column.name, rows.column(column.name), applications, numbers, locate_and_note)
        names = {c.name for c in (*watched_columns(entity), *amount_columns(entity))} | {APPLICATION, "currency"}
        rows = rows.select([name for name in rows.schema.names if name in names])
        self._count(("", APPLICATION), applications, numbers, locate_and_note)
        parts = pc.unique(applications).to_pylist()
        for application in parts:
            if len(parts) == 1:
                part, own_numbers = rows, numbers
            else:
                mask = pc.equal(applications, application)
                part, own_numbers = rows.filter(mask), numbers[mask.to_numpy(zero_copy_only=False)]
            self.rows[application] += part.num_rows
            for column in watched_columns(entity):
                array = part.column(column.name)
                if has_names(column):
                    self._count((application, column.name), array, own_numbers, locate_and_note)
                if can_be_missing(column):
                    self._count_missing((application, column.name, path), array, own_numbers, locate_and_note)
            for column in amount_columns(entity):
                self._measure(application, column.name, path, part, own_numbers, locate_and_note)

    def _count(self, key: tuple[str, str], array: pa.Array, numbers: np.ndarray, locate: Locate) -> None:
        seen = self.values.setdefault(key, Values())
        if seen.counts is None:
            return
        encoded = array.dictionary_encode()
        found = encoded.dictionary.to_pylist()
        if has_too_many(len(seen.counts.keys() | set(found)), seen.rows + len(array)):
            seen.counts, seen.examples = None, {}
            return
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        counts = np.bincount(codes[codes >= 0], minlength=len(found))
        for code, value in enumerate(found):
            if value.startswith((HASH_MARK, SEAL_MARK)):
                # it is somebody's, and means nothing to whoever reads it
                continue
            examples = seen.examples.setdefault(value, [])
            if len(examples) < EXAMPLES:
                places = np.flatnonzero(codes == code)[: EXAMPLES - len(examples)]
                if value not in seen.counts:
                    seen.last_new_at = max(seen.last_new_at, seen.rows + int(places[0]) + 1)
                examples += [locate(int(numbers[place])) for place in places]
            seen.counts[value] += int(counts[code])
        seen.rows += int(counts.sum())

    def _note_none_words(
        self, name: str, array: pa.Array, applications: pa.Array, numbers: np.ndarray, locate: Locate
    ) -> None:
        mask = pc.is_in(array, pa.array(NONE_WORDS))
        if not pc.any(mask).as_py():
            return
        for place in np.flatnonzero(mask.to_numpy(zero_copy_only=False)).tolist():
            seen = self.none_words.setdefault((applications[place].as_py(), name), Values())
            word = array[place].as_py()
            assert seen.counts is not None, "words are few"
            seen.counts[word] += 1
            examples = seen.examples.setdefault(word, [])
            if len(examples) < EXAMPLES:
                examples.append(locate(int(numbers[place])))

    def _count_missing(self, key: tuple[str, str, str], array: pa.Array, numbers: np.ndarray, locate: Locate) -> None:
        missing = self.missing.setdefault(key, Missing())
        missing.rows += len(array)
        if array.null_count:
            missing.nulls += array.null_count
            if wanted := EXAMPLES - len(missing.examples):
                places = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[:wanted]
                missing.examples += [locate(int(numbers[place])) for place in places]

    def _measure(
        self, application: str, name: str, path: str, rows: pa.RecordBatch, numbers: np.ndarray, locate: Locate
    ) -> None:
        currencies = rows.column("currency")
        for currency in pc.unique(currencies).to_pylist():
            if currency is None:
                continue
            amounts = np.asarray(
                pc.if_else(pc.equal(currencies, currency), rows.column(name).cast(pa.float64()), None), dtype=float
            )
            places = np.flatnonzero(amounts > 0)
            if not len(places):
                continue
            own = self.amounts.setdefault((application, name, currency, path), Amounts())
            steps, counts = np.unique(np.floor(STEPS * np.log2(amounts[places])).astype(int), return_counts=True)
            own.sizes.update(dict(zip(steps.tolist(), counts.tolist(), strict=True)))
            fractions = amounts[places][amounts[places] % 1 != 0]
            own.fractions += len(fractions)
            as_major = fractions * 10 ** minor_digits(currency)
            own.is_finer = own.is_finer or bool((np.abs(as_major - np.round(as_major)) > TOLERANCE).any())
            top = places[np.argsort(-amounts[places], kind="stable")[:EXAMPLES]]
            found = [(float(amounts[p]), locate(int(numbers[p]))) for p in top]
            own.largest = sorted([*own.largest, *found], key=lambda f: -f[0])[:EXAMPLES]


def has_too_many(distinct: int, rows: int) -> bool:
    """Whether a column with so many different values in so many rows is none of a few names."""
    return distinct > MOST_VALUES or distinct > max(FEW_VALUES, VALUES_PER_ROW * rows)


def watched_columns(entity: Entity) -> tuple[Column, ...]:
    """The columns whose values, or lack of them, are learned: no times, no json, no number of the row itself, nothing personal in clear."""
    return tuple(
        c for c in entity.stored_columns.values()
        if c.name != APPLICATION and entity.key != (c.name,) and c.type in ("text", "int", "decimal", "bool")
    )  # fmt: skip


def id_columns(entity: Entity) -> tuple[Column, ...]:
    """The columns of ids."""
    return tuple(c for c in entity.stored_columns.values() if c.type == "text" and c.name.endswith("_id"))


def has_names(column: Column) -> bool:
    """Whether a column's texts are names that may be told apart: no free text, nothing hashed."""
    return column.is_name


def can_be_missing(column: Column) -> bool:
    return not column.required


def amount_columns(entity: Entity) -> tuple[Column, ...]:
    """The amounts of money that have a currency beside them."""
    if "currency" not in entity.columns:
        return ()
    return tuple(c for c in entity.columns.values() if c.type in ("int", "decimal") and "amount" in c.name)


def step_of(amount: float) -> int:
    """The step of an amount's size."""
    return math.floor(STEPS * math.log2(amount))


def amount_at(step: int) -> float:
    """The smallest amount of a step."""
    return float(2 ** (step / STEPS))


def percentile(sizes: Counter[int], share: float) -> int:
    """The step below or in which a share of the amounts lies. sizes: must not be empty."""
    wanted, seen = share * sizes.total(), 0
    for step in sorted(sizes):
        seen += sizes[step]
        if seen >= wanted:
            return step
    return max(sizes)


def merged(sizes: Iterable[Counter[int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for own in sizes:
        total.update(own)
    return total

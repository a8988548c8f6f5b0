"""From raw batches to the contract's types: pure functions on Arrow arrays, no database, no files.

`normalise` gives the good rows, typed, and for every bad row all the reasons why it is bad. Work is done on whole
columns; Python loops only over distinct values (json, hashes) and over rows that are already known to be bad.

What the contract marks as personal is hashed or left out. Values of columns that it does not know, and of bad rows, are kept as they
are only when they do not look personal; otherwise they are sealed (northstar.privacy.keys), so that they are not lost.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from northstar.contract import MAX_NAME_BYTES, Column, Entity
from northstar.contract.codes import CODES
from northstar.extract.landing.casts import (
    ARROW_TYPES,
    CASTS,
    DEEPEST,
    MOST_DIGITS,
    NULL_ESCAPE,
    ZONELESS,
    is_number,
    lost_digits,
    may_contain,
    texts,
)
from northstar.extract.landing.personal_values import (
    personal_columns,
    plain_name,
    safe_name,
    storable,
    without_personal_data,
)
from northstar.extract.landing.settled import NOTHING_SETTLED, Settled
from northstar.privacy.guard import MENTION_COLUMNS, Guard
from northstar.privacy.keys import seal
from northstar.privacy.names import is_personal_name
from northstar.privacy.personal import FIRST_LOOK_AT_UNKNOWN, MAX_SEARCHED, quote_safely
from northstar.warehouse.rows import Row

# the years that a time may lie in: one time of year 1 would make 17 million hourly periods, and Python's datetime ends with year 9999
EARLIEST, LATEST = 1990, 9999
# of a row's own time: 9999-12-31 stands for no end, and a row of that day would never be seen
LATEST_OWN = 2199
# a JSON document in a text; an id may lie in brackets ({3F25...}, as Microsoft writes them)
DOCUMENT = r"^\s*(\{\s*\"|\{\s*\}\s*$|\[\s*[\"\[{]|\[\s*\]\s*$)"
# an id that went through a number with an exponent; with a sign, since 1e10 may be an id
EXPONENT = r"^\d(\.\d+)?[eE]\+\d{2,3}$"
# what stands in a text for bytes that are none
NO_TEXT = "\ufffd"
# of a value that may be personal, its shape is shown
DIGIT, CAPITAL, LETTER = re.compile(r"\d"), re.compile(r"[^\W\d_a-z]"), re.compile(r"[a-z]")
# a row that breaks the contract: its line, the reasons, and the row as it may be stored
BadRow = tuple[int, list[str], Row]
# a problem: the mask of its rows, and its reason, which is one for all of them or is made from each one's value in a column
Describe = Callable[[object], str]
Problem = tuple[pa.Array, str | tuple[str, Describe]]


@dataclass
class Normalised:
    """`rows`: the good rows in the landed table's columns and `_extra`; `bad`: (line, reasons, raw row) of the others.

    refused: rows that are kept nowhere, for lack of consent or because they name an erased subject (`erased` of them).
    """

    rows: pa.RecordBatch
    bad: list[BadRow]
    refused: int
    erased: int = 0
    # the `_line` of each good row
    lines: pa.Array = field(default_factory=lambda: pa.array([], pa.int64()))


def landed_schema(entity: Entity) -> pa.Schema:
    """The Arrow schema of the rows that go to `staging.<entity>`: its stored columns and `_extra` (json text)."""
    fields = [pa.field(c.name, ARROW_TYPES[c.type]) for c in entity.stored_columns.values()]
    return pa.schema([*fields, pa.field("_extra", pa.string())])


def without_nulls(text: str) -> str:
    """Json text without escaped null bytes, which Postgres does not keep."""
    return NULL_ESCAPE.sub(r"\1", text) if "\\u0000" in text else text


def normalise(
    entity: Entity, batch: pa.RecordBatch, guard: Guard, is_replay: bool = False, settled: Settled = NOTHING_SETTLED
) -> Normalised:
    """Type and check a raw batch (columns by name, `_line`) against `entity`.

    is_replay: the rows come out of quarantine, their hashes are ours. settled: what the home's values.yml says.
    """
    pii_key = guard.key
    count = batch.num_rows
    masks: list[Problem] = []
    typed: dict[str, pa.Array] = {}
    unknown_countries: dict[str, pa.Array] = {}
    names = set(batch.schema.names)
    for column in entity.columns.values():
        raw = _given(batch.column(column.name)) if column.name in names else pa.nulls(count, pa.string())
        array, problems = _column(column, raw, partial(settled.mapped, entity, column))
        if column.code:
            array, strange = _codes(column, array)
            if column.code == "country" and column.name not in entity.key:
                # exports write names, or codes of their own: the row stays, its country is unknown
                unknown_countries[column.name] = _without_others(raw, strange)
            elif pc.any(strange).as_py():
                # without the value, which may be somebody's name
                problems.append((strange, f"{column.name}: no code of {column.note or column.code}"))
        masks += problems
        typed[column.name] = array
    typed["application"] = pc.fill_null(typed["application"], "default")
    masks += _row_checks(entity, typed)
    masks += settled.refused(entity, typed)
    bad_mask = _any_of([mask for mask, _ in masks], count)
    good = pc.invert(bad_mask)
    refused = 0
    is_erased = guard.erased_rows(entity, typed)
    erased = 0 if is_erased is None else pc.sum(is_erased).as_py() or 0
    unwanted = [] if is_erased is None else [is_erased]
    mentioned = guard.mentioning_rows(typed)
    if mentioned is not None:
        for name in (n for n in MENTION_COLUMNS if n in typed):
            typed[name] = pc.if_else(mentioned, pa.scalar("erased"), typed[name])
        # a bad row would be kept in quarantine as it came
        unwanted.append(pc.and_(bad_mask, mentioned))
    if "consent" in typed:
        unwanted.append(pc.fill_null(pc.equal(typed["consent"], False), False))
    if unwanted:
        # a refused row is not kept anywhere, not even when it is bad
        unwanted = _any_of(unwanted, count)
        refused = pc.sum(unwanted).as_py() or 0
        good = pc.and_(good, pc.invert(unwanted))
        bad_mask = pc.and_(bad_mask, pc.invert(unwanted))
    bad = _bad_rows(entity, batch, masks, bad_mask, pii_key)
    unknown = [n for n in batch.schema.names if n not in entity.columns and n != "_line"]
    arrays = []
    for column in entity.stored_columns.values():
        arrays.append(without_personal_data(column, typed[column.name], pii_key, is_replay))
    arrays.append(_extra_column(batch, unknown, unknown_countries, pii_key, is_replay))
    rows = pa.RecordBatch.from_arrays(arrays, schema=landed_schema(entity))
    lines = batch.column("_line")
    if refused or bad:
        rows, lines = rows.filter(good), lines.filter(good)
    return Normalised(rows, bad, refused, erased, lines)


def _given(raw: pa.Array) -> pa.Array:
    """A raw column with null for a text that is empty or blank, in whatever format it came."""
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if pa.types.is_null(raw.type):
        return pa.nulls(len(raw), pa.string())
    if (
        pa.types.is_large_string(raw.type)
        or pa.types.is_string_view(raw.type)
        or pa.types.is_binary(raw.type)
        or pa.types.is_fixed_size_binary(raw.type)
    ):
        raw = texts(raw)
    if not pa.types.is_string(raw.type):
        return raw
    is_blank = pc.or_(pc.equal(pc.binary_length(raw), 0), pc.utf8_is_space(raw))
    return pc.if_else(is_blank, pa.scalar(None, pa.string()), raw) if pc.any(is_blank).as_py() else raw


def _codes(column: Column, array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Codes of a column's standard in their usual case, null for what is none, and the mask of those."""
    codes = pc.utf8_upper(pc.utf8_trim_whitespace(array))
    is_known = pc.is_in(codes, pa.array(sorted(CODES[column.code or ""])))
    return _without_others(codes, is_known), pc.and_(pc.invert(is_known), pc.is_valid(codes))


def _words(array: pa.Array, values: tuple[str, ...]) -> pa.Array:
    """The words of a fixed set as the contract writes them, whatever their case; other texts as they are."""
    known = pa.array(values, pa.string())
    if pc.all(pc.is_in(array, pa.array([*values, None], pa.string()))).as_py():
        return array
    places = pc.index_in(pc.utf8_lower(pc.utf8_trim_whitespace(array)), pc.utf8_lower(known))
    return pc.coalesce(known.take(places), array)


def _without_others(array: pa.Array, mask: pa.Array) -> pa.Array:
    return pc.if_else(mask, array, pa.scalar(None, array.type))


def _column(column: Column, raw: pa.Array, mapped: Callable[[pa.Array], pa.Array]) -> tuple[pa.Array, list[Problem]]:
    try:
        array, invalid = CASTS[column.type](raw)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # a value that its own type can hold and ours cannot: the values are cast from their texts
        array, invalid = CASTS[column.type](pa.array(map(_as_text, _python_values(raw)), pa.string()))
    if column.type == "text":
        array = mapped(array)
    problems: list[tuple[pa.Array, str | Describe]] = []
    if invalid is not None and pc.any(invalid).as_py():
        problems.append((invalid, lambda v: _reason(column, v)))
    if column.exact:
        lost = lost_digits(raw, array)
        if lost is not None:
            problems.append(
                (lost, lambda v: f"{column.name}: {_shorten(v)} has more than twelve digits after the point")
            )
    if column.required:
        missing = pc.is_null(raw)
        if pc.any(missing).as_py():
            problems.append((missing, f"{column.name}: required"))
    if column.type == "text" and column.name.endswith("_id"):
        problems += _strange_ids(column, array)
    if values := column.values:
        array = _words(array, values)
        strange = pc.invert(pc.is_in(array, pa.array([*values, None], pa.string())))
        if pc.any(strange).as_py():
            problems.append((strange, lambda v: f"{column.name}: {_shorten(v)} is not one of {', '.join(values)}"))
    if column.is_name:
        long = pc.fill_null(pc.greater(pc.binary_length(array), MAX_NAME_BYTES), False)
        if pc.any(long).as_py():
            problems.append((long, f"{column.name}: longer than {MAX_NAME_BYTES} bytes"))
    for bound, compare, word in ((column.min, pc.less, "less"), (column.max, pc.greater, "more")):
        if bound is not None:
            outside = pc.fill_null(compare(array, pa.scalar(bound).cast(array.type)), False)
            if pc.any(outside).as_py():
                problems.append((outside, _describe_bound(column, bound, word)))
    if column.above is not None:
        outside = pc.fill_null(pc.less_equal(array, pa.scalar(column.above).cast(array.type)), False)
        if pc.any(outside).as_py():
            problems.append((outside, _describe_bound(column, column.above, "not more")))
    return array, [(mask, reason if isinstance(reason, str) else (column.name, reason)) for mask, reason in problems]


def _strange_ids(column: Column, array: pa.Array) -> list[tuple[pa.Array, str | Describe]]:
    """Ids that are none: an object that an API expanded in place of its id, what spreadsheets and floats, with their fifteen digits, made of several
    ids, and bytes that are no text."""
    problems: list[tuple[pa.Array, str | Describe]] = []
    for parts, pattern, why in (
        ((b"{", b"["), DOCUMENT, "a JSON document where an id is expected"),
        ((b"e+", b"E+"), EXPONENT, "an id that was made a number and has lost its digits"),
        ((NO_TEXT.encode(),), NO_TEXT, "an id whose bytes are no text"),
    ):
        if may_contain(array, *parts):
            mask = pc.fill_null(pc.match_substring_regex(array, pattern), False)
            if pc.any(mask).as_py():
                problems.append((mask, f"{column.name}: {why}"))
    return problems


def _describe_bound(column: Column, bound: float, word: str) -> Describe:
    return lambda v: f"{column.name}: {_shorten(v)} is {word} than {bound:g}"


def _row_checks(entity: Entity, typed: dict[str, pa.Array]) -> list[Problem]:
    checks: list[Problem] = []
    for column in entity.columns.values():
        if column.type in ("timestamp", "date"):
            year, latest = pc.year(typed[column.name]), LATEST_OWN if column.name == entity.own_time else LATEST
            for mask, words in (
                (pc.less(year, EARLIEST), f"before {EARLIEST}"),
                (pc.greater(year, latest), f"after {latest}"),
            ):
                if pc.any(mask).as_py():
                    checks.append((pc.fill_null(mask, False), f"{column.name}: {words}"))
        checks += _ranges(column, typed)
    if "valid_to" in typed:
        backwards = pc.fill_null(pc.less(typed["valid_to"], typed["valid_from"]), False)
        if pc.any(backwards).as_py():
            checks.append((backwards, "valid_to: before valid_from"))
    return checks


def _ranges(column: Column, typed: dict[str, pa.Array]) -> list[Problem]:
    """The problems of a column whose range depends on another one."""
    array, checks = typed[column.name], list[Problem]()
    for value, least, most in column.ranges:
        of_value = pc.equal(typed[column.by or column.name], value)
        bounds = (pa.scalar(bound).cast(array.type) for bound in (least, most))
        outside = pc.or_(*(compare(array, bound) for compare, bound in zip((pc.less, pc.greater), bounds, strict=True)))
        reason = f"{column.name}: not {least:g} to {most:g}"
        if value in column.whole:
            outside = pc.or_(outside, pc.not_equal(pc.floor(array), array))
            reason += ", whole"
        mask = pc.fill_null(pc.and_(of_value, outside), False)
        if pc.any(mask).as_py():
            checks.append((mask, f"{reason}, of {column.by} {value}"))
    return checks


def _python_values(array: pa.Array) -> list[object]:
    """The values as Python objects. Those that Python cannot represent (a day in year 300,000) are given as their number."""
    try:
        values: list[object] = array.to_pylist()
    except (OverflowError, ValueError):
        return [_python_value(scalar) for scalar in array]
    return values


def _python_value(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        return str(getattr(scalar, "value", scalar.type))


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return str(value)


def _reason(column: Column, value: object) -> str:
    kind = {
        "int": "a whole number",
        "decimal": "a number",
        "bool": "true or false",
        "json": f"valid JSON of at most {DEEPEST} levels",
    }.get(column.type)
    if column.type == "timestamp":
        zoneless = pc.match_substring_regex(pa.array([str(value)]), ZONELESS)[0].as_py()
        kind = "a time with a zone" if zoneless else "an ISO 8601 time"
    elif column.type == "date":
        kind = "a date like 2025-01-31"
    elif column.type == "text":
        return f"{column.name}: text with a null byte"
    elif column.type == "decimal" and is_number(str(value)):
        kind = f"a number that can be kept: it is beyond the {MOST_DIGITS} digits before the point"
    return f"{column.name}: {_shorten(value)} is not {kind}"


def _shorten(value: object) -> str:
    given = f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)
    if quote_safely(given) != given:
        shape = LETTER.sub("a", CAPITAL.sub("A", DIGIT.sub("9", given[:40])))
        return f"{shape!r} (its shape)"
    text = given.replace("\x00", "\\0")
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _any_of(masks: list[pa.Array], count: int) -> pa.Array:
    if not masks:
        return pa.array([False] * count, pa.bool_()) if count else pa.array([], pa.bool_())
    result = masks[0]
    for mask in masks[1:]:
        result = pc.or_(result, mask)
    return result


def _bad_rows(
    entity: Entity, batch: pa.RecordBatch, masks: list[Problem], bad_mask: pa.Array, pii_key: str
) -> list[BadRow]:
    if not masks or not pc.any(bad_mask).as_py():
        return []
    filtered = batch.filter(bad_mask)
    # JSON has no NaN, and a null in its place would be accepted when the row is replayed
    columns = [
        [str(v) if isinstance(v, float) and not math.isfinite(v) else v for v in _python_values(column)]
        for column in filtered.columns
    ]
    raw: list[Row] = [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]
    flags = [(mask.filter(bad_mask).to_pylist(), reason) for mask, reason in masks]
    personal = personal_columns()
    bad_rows: list[BadRow] = []
    for index, row in enumerate(raw):
        reasons = []
        for hits, reason in flags:
            if not hits[index]:
                continue
            if isinstance(reason, str):
                reasons.append(reason)
            else:
                name, describe = reason
                # the value of a personal column must not show up in the reason
                reasons.append(f"{name}: not acceptable" if plain_name(name) in personal else describe(row.get(name)))
        line = row.pop("_line")
        bad_rows.append((line, reasons, storable(row, pii_key, entity)))
    return bad_rows


def in_range(entity: Entity, done: Normalised, within: tuple[datetime, datetime] | None) -> tuple[Normalised, int]:
    """The rows whose own time lies in the half-open range, and how many lie outside it. A bad row without a time stays."""
    if within is None:
        return done, 0
    at = done.rows.column(entity.own_time)
    if pa.types.is_date(at.type):
        at = pc.assume_timezone(at.cast(pa.timestamp("us")), "UTC")
    start, end = (pa.scalar(moment, at.type) for moment in within)
    is_within = pc.and_(pc.greater_equal(at, start), pc.less(at, end))
    rows = done.rows.filter(is_within)
    bad = [rejected for rejected in done.bad if _may_lie_in(rejected[2].get(entity.own_time), within)]
    rows_outside = done.rows.num_rows - rows.num_rows + len(done.bad) - len(bad)
    return replace(done, rows=rows, bad=bad, lines=done.lines.filter(is_within)), rows_outside


def _may_lie_in(text: object, within: tuple[datetime, datetime]) -> bool:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return True
    return within[0] <= (at if at.tzinfo else at.replace(tzinfo=UTC)) < within[1]


def _extra_column(
    batch: pa.RecordBatch, unknown: list[str], countries: dict[str, pa.Array], key: str, is_replay: bool
) -> pa.Array:
    """What has no column of its own, as json texts. countries: what was written where a country is none, by column; it may be a name, and is sealed."""
    columns: dict[str, list[object]] = {}
    for name, array in countries.items():
        if array.null_count < len(array):
            sealed = {text: seal(text, key) for text in array.unique().to_pylist() if text is not None}
            columns[name] = [sealed.get(text) for text in array.to_pylist()]
    if not unknown and not columns:
        return pa.nulls(batch.num_rows, pa.string())
    for name in unknown:
        stored = _stored_column(name, _given(batch.column(name)), key, is_replay)
        if stored is not None:
            stored_name, values = stored
            earlier = columns.get(stored_name)
            columns[stored_name] = (
                values if earlier is None else [o if v is None else v for v, o in zip(values, earlier, strict=True)]
            )
    documents = []
    for row in zip(*columns.values(), strict=True) if columns else [()] * batch.num_rows:
        values_by_name = {name: value for name, value in zip(columns, row, strict=True) if value is not None}
        documents.append(without_nulls(orjson.dumps(values_by_name, default=str).decode()) if values_by_name else None)
    return pa.array(documents, pa.string())


def _stored_column(name: str, array: pa.Array, key: str, is_replay: bool) -> tuple[str, list[object]] | None:
    """The name and values of an unknown column as they may be stored (see storable); None for one that is left out.

    Texts are checked one by one only where a first look at the whole column finds something, and each distinct text once.
    """
    treatment = personal_columns().get(plain_name(name))
    if treatment == "drop":
        return None
    values = _python_values(array)
    if treatment is None and pa.types.is_string(array.type) and not is_personal_name(name):
        is_suspect = pc.or_(
            pc.match_substring_regex(array, FIRST_LOOK_AT_UNKNOWN), pc.greater(pc.utf8_length(array), MAX_SEARCHED)
        )
        looked_at = pc.fill_null(is_suspect, False).to_pylist()
    else:
        looked_at = [True] * len(values)
    stored: dict[str, object] = {}
    for place, (value, is_looked_at) in enumerate(zip(values, looked_at, strict=True)):
        if value is None or not is_looked_at:
            continue
        if not isinstance(value, str):
            values[place] = next(iter(storable({name: value}, key, mark="", is_replay=is_replay).values()))
            continue
        if value not in stored:
            stored[value] = next(iter(storable({name: value}, key, mark="", is_replay=is_replay).values()))
        values[place] = stored[value]
    return (name if treatment == "hash" else safe_name(name)), values

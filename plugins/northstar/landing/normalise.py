"""From raw batches to the contract's types: pure functions on Arrow arrays, no database, no files.

`normalise` gives the good rows, typed, and for every other row all the reasons why it is none. Work is done on whole
columns; Python loops only over distinct values (json, hashes) and over rows that are already known to be bad.

What the contract marks as personal is hashed or left out. What it does not know, and what a bad row holds, is kept as it is only when it
looks like nothing personal; else it is sealed (northstar.privacy.keys), so that it is not lost.
"""

import json
import math
import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, lru_cache, partial

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from northstar.contract import LONGEST_NAME, Column, Entity, entities
from northstar.privacy.guard import MENTIONS, Guard
from northstar.privacy.keys import HASHED, is_sealed, keyed_hash, seal
from northstar.privacy.personal import (
    EMAIL,
    FIRST_LOOK,
    LETTERS,
    is_personal,
    is_personal_name,
    is_prose,
    parsed,
    redacted,
    withheld,
)

ARROW_TYPES = {
    "text": pa.string(),
    "int": pa.int64(),
    "decimal": pa.decimal128(38, 12),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
    "json": pa.string(),
}
INTEGER = r"^[+-]?\d{1,18}(\.0*)?$"
DECIMAL = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
TIMESTAMP = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)$"
ZONELESS = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?$"
DATE = r"^\d{4}-\d{2}-\d{2}([T ]00:00:00(\.0+)?(Z|\+00:00)?)?$"
TRUE, FALSE = ["true", "t", "yes", "y", "1", "1.0"], ["false", "f", "no", "n", "0", "0.0"]
# one time of year 1 would make 17 million hourly periods; no reader's datetime goes beyond year 9999
EARLIEST, LATEST = 1990, 9999
NULL_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
# levels of a document that anybody writes
DEEPEST = 100
# numbers that are json, and that Postgres' jsonb cannot hold
TINY = re.compile(r"[eE]-\d{4}|\.\d{10000}")


@dataclass
class Normalised:
    """`rows`: the good rows in the landed table's columns and `_extra`; `bad`: (line, reasons, raw row) of the others.

    refused: rows that are kept nowhere, for lack of consent or because they name an erased subject (`erased` of them).
    """

    rows: pa.RecordBatch
    bad: list
    refused: int
    erased: int = 0


def landed_schema(entity: Entity) -> pa.Schema:
    """The Arrow schema of the rows that go to `staging.<entity>`: its stored columns and `_extra` (json text)."""
    fields = [pa.field(c.name, ARROW_TYPES[c.type]) for c in entity.stored_columns.values()]
    return pa.schema([*fields, pa.field("_extra", pa.string())])


@cache
def personal_columns() -> dict:
    """Names (see plain_name) that stand for personal data in any entity, with what to do ('hash' or 'drop')."""
    found = {}
    for entity in entities().values():
        for column in entity.columns.values():
            name = plain_name(column.name)
            if column.pii and found.get(name) != "drop":
                found[name] = column.pii
    return found


@lru_cache(10_000)
def plain_name(name: str) -> str:
    """A column's name as people say it: `E-Mail`, ` email` and `e_mail` are one."""
    return "".join(c for c in unicodedata.normalize("NFKC", str(name)).casefold() if c.isalnum())


def without_nulls(text: str) -> str:
    """Json text without escaped null bytes, which Postgres does not keep."""
    return NULL_ESCAPE.sub(r"\1", text) if "\\u0000" in text else text


def storable(row: dict, key: str, entity: Entity | None = None) -> dict:
    """A raw row as it may be stored: identifiers hashed, other personal data left out, what looks personal sealed.

    entity: what the row is of; without one nothing is known of its columns, nor whether a value stands in its own.
    """
    personal, kept = personal_columns(), {}
    for name, value in row.items():
        treatment = personal.get(plain_name(name))
        if treatment is None:
            kept[redacted(str(name))] = _storable(str(name), value, key, entity)
        elif treatment == "hash" and value is not None:
            kept[name] = HASHED + keyed_hash(str(value), key)
    return kept


def _storable(name: str, value, key: str, entity: Entity | None):
    if value is None or isinstance(value, bool):
        return value
    column = entity.columns.get(name) if entity else None
    if column is None and is_personal_name(name):
        return seal(_told(value), key)
    if not isinstance(value, str) or is_sealed(value, key):
        return value
    document = parsed(value)
    if document is not None:
        if _is_deep(value, document):
            return seal(value, key)
        scrubbed = _scrubbed(document, key)
        return value if scrubbed == document else orjson.dumps(scrubbed).decode()
    # free text belongs into a column of text alone
    is_text = column is not None and column.type == "text" and not column.values
    if is_personal(value) or (is_prose(value) and not is_text):
        return seal(value, key)
    return value


def sealed_row(row: dict, key: str) -> dict:
    """A raw row whose values may stand in the wrong columns: all that is more than a number or a time is sealed."""
    return {
        redacted(str(name)): seal(value, key) if isinstance(value, str) and LETTERS.search(value) else value
        for name, value in row.items()
    }


def _told(value) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _scrubbed(document, key: str):
    """A JSON document with what its keys call personal, and what looks so, sealed."""
    if isinstance(document, dict):
        return {
            redacted(k): seal(_told(v), key)
            if is_personal_name(k) and v is not None and not isinstance(v, bool)
            else _scrubbed(v, key)
            for k, v in document.items()
        }
    if isinstance(document, list):
        return [_scrubbed(v, key) for v in document]
    return seal(document, key) if isinstance(document, str) and is_personal(document) else document


def normalise(entity: Entity, batch: pa.RecordBatch, guard: Guard) -> Normalised:
    """Type and check a raw batch (columns by name, `_line`) against `entity`."""
    pii_key = guard.key
    count, masks, typed = batch.num_rows, [], {}
    names = set(batch.schema.names)
    for column in entity.columns.values():
        raw = batch.column(column.name) if column.name in names else pa.nulls(count, pa.string())
        array, problems = _column(column, raw)
        masks += problems
        typed[column.name] = array
    typed["application"] = pc.fill_null(typed["application"], "default")
    masks += _row_checks(entity, typed)
    bad_mask = _any([mask for mask, _ in masks], count)
    good = pc.invert(bad_mask)
    refused = 0
    gone = guard.erased(entity, typed)
    erased = 0 if gone is None else pc.sum(gone).as_py() or 0
    unwanted = [] if gone is None else [gone]
    mentioned = guard.mentioning(typed)
    if mentioned is not None:
        for name in (n for n in MENTIONS if n in typed):
            typed[name] = pc.if_else(mentioned, pa.scalar("erased"), typed[name])
        # a bad row would be kept as it came
        unwanted.append(pc.and_(bad_mask, mentioned))
    if "consent" in typed:
        unwanted.append(pc.fill_null(pc.equal(typed["consent"], False), False))
    if unwanted:
        # a refused row is not kept anywhere, not even when it is bad
        unwanted = _any(unwanted, count)
        refused = pc.sum(unwanted).as_py() or 0
        good = pc.and_(good, pc.invert(unwanted))
        bad_mask = pc.and_(bad_mask, pc.invert(unwanted))
    bad = _bad_rows(entity, batch, masks, bad_mask, pii_key)
    unknown = [n for n in batch.schema.names if n not in entity.columns and n != "_line"]
    arrays = []
    for column in entity.stored_columns.values():
        arrays.append(_without_personal_data(column, typed[column.name], pii_key))
    arrays.append(_extra(batch, unknown, pii_key))
    rows = pa.RecordBatch.from_arrays(arrays, schema=landed_schema(entity))
    if refused or bad:
        rows = rows.filter(good)
    return Normalised(rows, bad, refused, erased)


def _column(column: Column, raw: pa.Array) -> tuple[pa.Array, list]:
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if pa.types.is_null(raw.type):
        raw = pa.nulls(len(raw), pa.string())
    try:
        array, invalid = CASTS[column.type](raw)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # a value that its type can hold and ours cannot: by its text, one by one
        array, invalid = CASTS[column.type](pa.array(map(_written, _values(raw)), pa.string()))
    problems = []
    if invalid is not None and pc.any(invalid).as_py():
        problems.append((invalid, lambda v: _reason(column, v)))
    if column.required:
        missing = pc.is_null(raw)
        if pc.any(missing).as_py():
            problems.append((missing, f"{column.name}: required"))
    if column.values:
        strange = pc.invert(pc.is_in(array, pa.array([*column.values, None], pa.string())))
        if pc.any(strange).as_py():
            problems.append((strange, lambda v: f"{column.name}: {_short(v)} is not one of {', '.join(column.values)}"))
    if column.is_name:
        long = pc.fill_null(pc.greater(pc.binary_length(array), LONGEST_NAME), False)
        if pc.any(long).as_py():
            problems.append((long, f"{column.name}: longer than {LONGEST_NAME} bytes"))
    for bound, compare, word in ((column.min, pc.less, "less"), (column.max, pc.greater, "more")):
        if bound is not None:
            outside = pc.fill_null(compare(array, pa.scalar(bound).cast(array.type)), False)
            if pc.any(outside).as_py():
                problems.append((outside, lambda v, b=bound, w=word: f"{column.name}: {_short(v)} is {w} than {b:g}"))
    return array, [(mask, reason if isinstance(reason, str) else (column.name, reason)) for mask, reason in problems]


def _row_checks(entity: Entity, typed: dict) -> list:
    checks = []
    for column in entity.columns.values():
        if column.type in ("timestamp", "date"):
            year = pc.year(typed[column.name])
            for mask, words in (
                (pc.less(year, EARLIEST), f"before {EARLIEST}"),
                (pc.greater(year, LATEST), f"after {LATEST}"),
            ):
                if pc.any(mask).as_py():
                    checks.append((pc.fill_null(mask, False), f"{column.name}: {words}"))
    if "valid_to" in typed:
        backwards = pc.fill_null(pc.less(typed["valid_to"], typed["valid_from"]), False)
        if pc.any(backwards).as_py():
            checks.append((backwards, "valid_to: before valid_from"))
    return checks


def _values(array: pa.Array) -> list:
    """The values as Python's own, those that Python has none for (a day in year 300,000) as their number."""
    try:
        return array.to_pylist()
    except (OverflowError, ValueError):
        return [_value(scalar) for scalar in array]


def _value(scalar: pa.Scalar):
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        return str(getattr(scalar, "value", scalar.type))


def _written(value) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return str(value)


def _reason(column: Column, value) -> str:
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
    return f"{column.name}: {_short(value)} is not {kind}"


def _short(value) -> str:
    text = withheld(str(value)).replace("\x00", "\\0")
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _any(masks: list, count: int) -> pa.Array:
    if not masks:
        return pa.array([False] * count, pa.bool_()) if count else pa.array([], pa.bool_())
    result = masks[0]
    for mask in masks[1:]:
        result = pc.or_(result, mask)
    return result


def _bad_rows(entity: Entity, batch: pa.RecordBatch, masks: list, bad_mask: pa.Array, pii_key: str) -> list:
    if not masks or not pc.any(bad_mask).as_py():
        return []
    filtered = batch.filter(bad_mask)
    # json has no word for nan, and a null would pass on the next try
    columns = [
        [str(v) if isinstance(v, float) and not math.isfinite(v) else v for v in _values(column)]
        for column in filtered.columns
    ]
    raw = [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]
    flags = [(mask.filter(bad_mask).to_pylist(), reason) for mask, reason in masks]
    personal, found = personal_columns(), []
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
        found.append((line, reasons, storable(row, pii_key, entity)))
    return found


def in_range(entity: Entity, done: Normalised, within: tuple[datetime, datetime] | None) -> tuple[Normalised, int]:
    """What of it lies, by its own time, in the half-open range, and how many rows do not; a bad row without a time stays."""
    if within is None:
        return done, 0
    at = done.rows.column(entity.own_time)
    if pa.types.is_date(at.type):
        at = pc.assume_timezone(at.cast(pa.timestamp("us")), "UTC")
    start, end = (pa.scalar(moment, at.type) for moment in within)
    rows = done.rows.filter(pc.and_(pc.greater_equal(at, start), pc.less(at, end)))
    bad = [rejected for rejected in done.bad if _may_lie_in(rejected[2].get(entity.own_time), within)]
    beside = done.rows.num_rows - rows.num_rows + len(done.bad) - len(bad)
    return replace(done, rows=rows, bad=bad), beside


def _may_lie_in(text, within: tuple[datetime, datetime]) -> bool:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return True
    return within[0] <= (at if at.tzinfo else at.replace(tzinfo=UTC)) < within[1]


def _without_personal_data(column: Column, array: pa.Array, key: str) -> pa.Array:
    if column.pii == "hash":
        return _hashed(array, key)
    if column.type == "json":
        return _changed(array, FIRST_LOOK, partial(_scrubbed_text, key=key))
    if column.type == "text" and not column.values:
        # an identifier has to stay one: the same address is the same hash everywhere
        is_id = column.name.endswith("_id")
        return _changed(array, "@", partial(_hashed_address, key=key) if is_id else partial(EMAIL.sub, "[e-mail]"))
    return array


def _hashed(array: pa.Array, key: str) -> pa.Array:
    encoded = array.dictionary_encode()
    hashes = [None if v is None else keyed_hash(v, key) for v in encoded.dictionary.to_pylist()]
    return pa.array(hashes, pa.string()).take(encoded.indices)


def _changed(array: pa.Array, pattern: str, change) -> pa.Array:
    """The array with the values that hold a pattern changed."""
    found = pc.fill_null(pc.match_substring_regex(array, pattern), False)
    if not pc.any(found).as_py():
        return array
    encoded = array.filter(found).dictionary_encode()
    changed = pa.array([change(v) for v in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)
    return pc.replace_with_mask(array, found, changed)


def _scrubbed_text(text: str, key: str) -> str:
    document = orjson.loads(text)
    scrubbed = _scrubbed(document, key)
    return text if scrubbed == document else orjson.dumps(scrubbed).decode()


def _hashed_address(value: str, key: str) -> str:
    return HASHED + keyed_hash(value, key) if EMAIL.search(value) else value


def _extra(batch: pa.RecordBatch, unknown: list, key: str) -> pa.Array:
    if not unknown:
        return pa.nulls(batch.num_rows, pa.string())
    values = []
    for row in zip(*(_values(batch.column(name)) for name in unknown), strict=True):
        given = {k: v for k, v in zip(unknown, row, strict=True) if v is not None}
        kept = storable(given, key)
        kept = {k: v[len(HASHED) :] if isinstance(v, str) and v.startswith(HASHED) else v for k, v in kept.items()}
        values.append(without_nulls(orjson.dumps(kept, default=str).decode()) if kept else None)
    return pa.array(values, pa.string())


def _strings(raw: pa.Array) -> pa.Array:
    if pa.types.is_string(raw.type):
        return raw
    if pa.types.is_binary(raw.type) or pa.types.is_large_binary(raw.type):
        return pa.array([None if v is None else v.decode("utf-8", "replace") for v in raw.to_pylist()], pa.string())
    if pa.types.is_nested(raw.type):
        return pa.array(
            [None if v is None else orjson.dumps(v, default=str).decode() for v in raw.to_pylist()], pa.string()
        )
    return raw.cast(pa.string())


def _keep(strings: pa.Array, valid: pa.Array) -> pa.Array:
    return pc.if_else(valid, strings, pa.scalar(None, strings.type))


def _parse(strings: pa.Array, valid: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """Cast what the pattern accepted; what the cast still refuses (month 13) is found by halving."""
    array, refused = _cast_halving(_keep(strings, valid), kind)
    invalid = pc.and_(pc.invert(valid), pc.is_valid(strings))
    if refused:
        flags = [False] * len(strings)
        for index in refused:
            flags[index] = True
        invalid = pc.or_(invalid, pa.array(flags, pa.bool_()))
    return array, invalid


def _cast_halving(strings: pa.Array, kind: pa.DataType, offset: int = 0) -> tuple[pa.Array, list]:
    try:
        return strings.cast(kind), []
    except pa.ArrowInvalid:
        if len(strings) == 1:
            return pa.nulls(1, kind), [offset]
        middle = len(strings) // 2
        left, bad_left = _cast_halving(strings.slice(0, middle), kind, offset)
        right, bad_right = _cast_halving(strings.slice(middle), kind, offset + middle)
        return pa.concat_arrays([left, right]), bad_left + bad_right


def _match(strings: pa.Array, pattern: str) -> pa.Array:
    return pc.fill_null(pc.match_substring_regex(strings, pattern), False)


def _to_text(raw: pa.Array) -> tuple[pa.Array, pa.Array]:
    strings = _strings(raw)
    return strings, pc.fill_null(pc.match_substring(strings, "\x00"), False)


def _to_int(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    if pa.types.is_integer(raw.type) and raw.type != pa.uint64():
        return raw.cast(pa.int64()), None
    strings = pc.utf8_trim_whitespace(_strings(raw))
    valid = _match(strings, INTEGER)
    return _parse(pc.replace_substring_regex(strings, r"\.0*$", ""), valid, pa.int64())


def _to_decimal(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    if pa.types.is_integer(raw.type):
        raw = raw.cast(pa.string())
    strings = pc.utf8_trim_whitespace(_strings(raw))
    valid = _match(strings, DECIMAL)
    try:
        array = _keep(strings, valid).cast(ARROW_TYPES["decimal"])
        return array, pc.and_(pc.invert(valid), pc.is_valid(strings))
    except pa.ArrowInvalid:
        wide, invalid = _parse(strings, valid, pa.decimal256(76, 38))
        rounded = pc.round(wide, 12, "half_towards_infinity")
        try:
            return rounded.cast(ARROW_TYPES["decimal"]), invalid
        except pa.ArrowInvalid:
            array, refused = _cast_halving(rounded, ARROW_TYPES["decimal"])
            flags = pa.array([i in set(refused) for i in range(len(array))], pa.bool_())
            return array, pc.or_(invalid, flags)


def _to_bool(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    if pa.types.is_boolean(raw.type):
        return raw, None
    words = pc.utf8_lower(pc.utf8_trim_whitespace(_strings(raw)))
    yes = pc.is_in(words, pa.array(TRUE))
    no = pc.is_in(words, pa.array(FALSE))
    known = pc.or_(yes, no)
    return pc.if_else(known, yes, pa.scalar(None, pa.bool_())), pc.and_(pc.invert(known), pc.is_valid(words))


def _to_timestamp(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    kind = ARROW_TYPES["timestamp"]
    if pa.types.is_timestamp(raw.type):
        return (
            pc.assume_timezone(raw.cast(pa.timestamp("us"), safe=False), "UTC")
            if raw.type.tz is None
            else raw.cast(kind, safe=False)
        ), None
    if pa.types.is_date(raw.type):
        return pc.assume_timezone(raw.cast(pa.timestamp("us")), "UTC"), None
    strings = pc.utf8_trim_whitespace(_strings(raw))
    valid = _match(strings, TIMESTAMP)
    return _parse(pc.replace_substring_regex(strings, r"(\.\d{6})\d+", r"\1"), valid, kind)


def _to_date(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    if pa.types.is_date(raw.type):
        return raw.cast(pa.date32()), None
    if pa.types.is_timestamp(raw.type):
        return raw.cast(pa.timestamp("us"), safe=False).cast(pa.date32(), safe=False), None
    strings = pc.utf8_trim_whitespace(_strings(raw))
    valid = _match(strings, DATE)
    return _parse(pc.utf8_slice_codeunits(strings, 0, 10), valid, pa.date32())


def _to_json(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    strings = _strings(raw)
    encoded = strings.dictionary_encode()
    ok = [v is None or _is_json(v) for v in encoded.dictionary.to_pylist()]
    if all(ok):
        return strings, None
    valid = pc.fill_null(pa.array(ok, pa.bool_()).take(encoded.indices), True)
    return _keep(strings, valid), pc.invert(valid)


def _is_json(text: str) -> bool:
    if "\x00" in text or ("\\u0000" in text and NULL_ESCAPE.search(text)):
        return False
    try:
        if _is_deep(text, orjson.loads(text)):
            return False
        if TINY.search(text):
            json.loads(text, parse_float=_stored_number)
    except (ValueError, RecursionError):
        return False
    return True


def _is_deep(text: str, document) -> bool:
    """Whether a document is nested deeper than it can be looked through; of the many that are not, a count of brackets says so."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    level = [document]
    for _ in range(DEEPEST):
        level = [v for d in level for v in (d.values() if isinstance(d, dict) else d if isinstance(d, list) else ())]
    return bool(level)


def _stored_number(number: str) -> float:
    mantissa, _, exponent = number.lower().partition("e")
    if len(mantissa) + abs(int(exponent or 0)) > 16_000:
        raise ValueError("more digits than Postgres keeps")
    return float(number)


CASTS = {
    "text": _to_text,
    "int": _to_int,
    "decimal": _to_decimal,
    "bool": _to_bool,
    "timestamp": _to_timestamp,
    "date": _to_date,
    "json": _to_json,
}

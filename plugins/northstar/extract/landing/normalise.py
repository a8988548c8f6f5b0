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

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from northstar.contract import LONGEST_NAME, WRITTEN, Column, Entity, entities
from northstar.privacy.guard import MENTIONS, Guard, pseudonym
from northstar.privacy.keys import HASHED, SEALED, kept_hash, keyed_hash, seal
from northstar.privacy.names import is_personal_name
from northstar.privacy.personal import (
    FIRST_LOOK,
    FIRST_LOOK_AT_ADDRESSES,
    FIRST_LOOK_AT_TEXT,
    FIRST_LOOK_AT_UNKNOWN,
    LONG,
    TIME,
    is_personal,
    is_prose,
    parsed,
    redacted,
    says_nothing,
    withheld,
    without_address,
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
SHORT_NUMBER = re.compile(r"[+-]?(\d{1,6}([.,]\d{1,6})?)?")
# levels of a document that anybody writes
DEEPEST = 100
# numbers that are json, and that Postgres' jsonb cannot hold
TINY = re.compile(r"[eE]-\d{4}|\.\d{10000}")


# what an e-mail address is written with, encoded or not, and what our hashes begin with
ADDRESS_SIGNS = (b"@", b"%", b"&", b"\\u", HASHED.encode())


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


def storable(row: dict, key: str, entity: Entity | None = None, mark: str = HASHED, is_replay: bool = False) -> dict:
    """A raw row as it may be stored: identifiers hashed, other personal data left out, what looks personal sealed.

    entity: what the row is of; without one nothing is known of its columns, nor whether a value stands in its own.
    mark: what a hash begins with. is_replay: the row was in quarantine, and its hashes are ours.
    """
    personal, kept = personal_columns(), {}
    for name, value in row.items():
        treatment = personal.get(plain_name(name))
        if treatment is None:
            column = entity.columns.get(name) if entity else None
            kept[_name(str(name))] = _storable(str(name), value, key, column)
        elif treatment == "hash" and value is not None:
            kept[name] = mark + _hash(str(value), key, is_replay)
    return kept


@lru_cache(2_000)
def _name(name: str) -> str:
    return redacted(name)


def _hash(value: str, key: str, is_replay: bool) -> str:
    """The keyed hash of an identifier; of one that comes out of quarantine, the hash that it is already."""
    return (kept_hash(value) if is_replay else None) or keyed_hash(value, key)


def _storable(name: str, value, key: str, column: Column | None):
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is None or isinstance(value, bool):
        return value
    if column is None and is_personal_name(name) and not (isinstance(value, str) and says_nothing(value)):
        return seal(_told(value), key)
    # free text belongs into a column of text alone
    is_free = column is None or column.type != "text" or bool(column.values)
    document = parsed(value) if isinstance(value, str) else value
    if isinstance(document, dict | list | tuple):
        if isinstance(value, str) and _is_deep(value, document):
            return seal(value, key)
        scrubbed = _scrubbed(document, key, is_free and (column is None or column.type != "json"))
        return value if scrubbed == document else _told(scrubbed) if isinstance(value, str) else scrubbed
    if column is not None and column.pattern and not re.fullmatch(column.pattern, str(value)):
        return seal(str(value), key)
    return _without(value, key, is_free)


def _without(value, key: str, is_free: bool):
    """One value as it may be stored. is_free: what people write is sealed whatever it says."""
    if not isinstance(value, str):
        return seal(str(value), key) if isinstance(value, int) and is_personal(str(value)) else value
    if TIME.fullmatch(value):
        return value
    # what looks sealed is sealed too: so all that is stored and opens is what this home has sealed
    if value.startswith(SEALED) or is_personal(value) or (is_free and is_prose(value)):
        return seal(value, key)
    return value


def sealed_row(row: dict, key: str) -> dict:
    """A raw row whose values may stand in the wrong columns: all that is more than a short number or a time is sealed."""
    return {
        _name(str(name)): seal(value, key) if isinstance(value, str) and not _is_plain(value) else value
        for name, value in row.items()
    }


def _is_plain(text: str) -> bool:
    return bool(SHORT_NUMBER.fullmatch(text.strip()) or TIME.fullmatch(text.strip()))


def _told(value) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _scrubbed(document, key: str, is_free: bool, levels: int = DEEPEST):
    """A JSON document with what its keys call personal, and what looks so, sealed; documents within it that are text, too.

    is_free: free text is sealed whatever it says. levels: what lies deeper is sealed whole.
    """
    if isinstance(document, bytes):
        document = document.decode("utf-8", "replace")
    if isinstance(document, dict | list | tuple) and not levels:
        return seal(_told(document), key)
    if isinstance(document, dict):
        return {
            _name(str(k)): seal(_told(v), key)
            if v is not None
            and not isinstance(v, bool)
            and is_personal_name(str(k))
            and not (isinstance(v, str) and says_nothing(v))
            else _scrubbed(v, key, is_free, levels - 1)
            for k, v in document.items()
        }
    if isinstance(document, list | tuple):
        return [_scrubbed(v, key, is_free, levels - 1) for v in document]
    within = parsed(document) if isinstance(document, str) else None
    if within is not None:
        if _is_deep(document, within):
            return seal(document, key)
        scrubbed = _scrubbed(within, key, is_free, levels - 1)
        return document if scrubbed == within else _told(scrubbed)
    return _without(document, key, is_free)


def normalise(entity: Entity, batch: pa.RecordBatch, guard: Guard, is_replay: bool = False) -> Normalised:
    """Type and check a raw batch (columns by name, `_line`) against `entity`. is_replay: the rows come out of quarantine, their hashes are ours."""
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
        arrays.append(_without_personal_data(column, typed[column.name], pii_key, is_replay))
    arrays.append(_extra(batch, unknown, pii_key, is_replay))
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
    if column.pattern:
        strange = pc.invert(pc.fill_null(pc.match_substring_regex(array, column.pattern), True))
        if pc.any(strange).as_py():
            # the value itself may be anybody's name
            problems.append((strange, f"{column.name}: not {column.note or column.pattern}"))
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


def _without_personal_data(column: Column, array: pa.Array, key: str, is_replay: bool) -> pa.Array:
    if column.pii == "hash":
        return _hashed(array, key, is_replay)
    if column.type == "json":
        return _changed(array, f"{FIRST_LOOK}|{SEALED}", partial(_scrubbed_text, key=key))
    if column.type == "text" and not column.values:
        if column.name not in WRITTEN and not _may_hold_address(array):
            return array
        if column.name.endswith("_id"):
            # an identifier has to stay one: the same address is the same hash everywhere
            return _changed(array, f"{FIRST_LOOK_AT_ADDRESSES}|^{HASHED}", partial(pseudonym, key=key))
        if column.name not in WRITTEN:
            return _changed(array, FIRST_LOOK_AT_ADDRESSES, without_address)
        return _changed(array, FIRST_LOOK_AT_TEXT, redacted)
    return array


def _may_hold_address(array: pa.Array) -> bool:
    """Whether any text of a column has what an address is written with, or what looks like a hash of ours: a look at all its bytes at once."""
    data = array.buffers()[2]
    if data is None:
        return False
    text = data.to_pybytes()
    return not text.isascii() or any(sign in text for sign in ADDRESS_SIGNS)


def _hashed(array: pa.Array, key: str, is_replay: bool) -> pa.Array:
    encoded = array.dictionary_encode()
    hashes = [None if v is None else _hash(v, key, is_replay) for v in encoded.dictionary.to_pylist()]
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
    scrubbed = _scrubbed(document, key, is_free=False)
    return text if scrubbed == document else orjson.dumps(scrubbed).decode()


def _extra(batch: pa.RecordBatch, unknown: list, key: str, is_replay: bool) -> pa.Array:
    if not unknown:
        return pa.nulls(batch.num_rows, pa.string())
    columns: dict[str, list] = {}
    for name in unknown:
        stored = _stored_column(name, batch.column(name), key, is_replay)
        if stored is not None:
            known, values = stored
            earlier = columns.get(known)
            columns[known] = (
                values if earlier is None else [o if v is None else v for v, o in zip(values, earlier, strict=True)]
            )
    texts = []
    for row in zip(*columns.values(), strict=True) if columns else [()] * batch.num_rows:
        kept = {name: value for name, value in zip(columns, row, strict=True) if value is not None}
        texts.append(without_nulls(orjson.dumps(kept, default=str).decode()) if kept else None)
    return pa.array(texts, pa.string())


def _stored_column(name: str, array: pa.Array, key: str, is_replay: bool) -> tuple[str, list] | None:
    """The name and values of an unknown column as they may be stored (see storable); None for one that is left out.

    Of texts only those are looked at one by one in which a first look at all of them finds anything, and each of these once.
    """
    treatment = personal_columns().get(plain_name(name))
    if treatment == "drop":
        return None
    values = _values(array)
    if treatment is None and pa.types.is_string(array.type) and not is_personal_name(name):
        found = pc.or_(pc.match_substring_regex(array, FIRST_LOOK_AT_UNKNOWN), pc.greater(pc.utf8_length(array), LONG))
        looked_at = pc.fill_null(found, False).to_pylist()
    else:
        looked_at = [True] * len(values)
    stored: dict = {}
    for place, (value, is_looked_at) in enumerate(zip(values, looked_at, strict=True)):
        if value is None or not is_looked_at:
            continue
        if not isinstance(value, str):
            values[place] = next(iter(storable({name: value}, key, mark="", is_replay=is_replay).values()))
            continue
        if value not in stored:
            stored[value] = next(iter(storable({name: value}, key, mark="", is_replay=is_replay).values()))
        values[place] = stored[value]
    return (name if treatment == "hash" else _name(name)), values


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
        invalid = pc.or_(invalid, _flags(refused, len(strings)))
    return array, invalid


def _flags(places: list, count: int) -> pa.Array:
    flags = np.zeros(count, bool)
    flags[places] = True
    return pa.array(flags)


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
            return array, pc.or_(invalid, _flags(refused, len(array)))


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

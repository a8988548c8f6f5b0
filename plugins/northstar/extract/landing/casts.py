"""Casts to the contract's types: from an Arrow array of texts to (typed array, mask of the values that are not of that type)."""

import json
import re
from decimal import Context, Decimal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

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
# a number that may have more digits after the point than are kept
MANY_DIGITS = r"\.\d{12}\d*[1-9]|[eE]-"
EVERY_DIGIT = Context(prec=400)
# what decimals hold before the point. Arrow wraps some of the larger numbers instead of refusing them
MOST_DIGITS = 26
TIMESTAMP = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)$"
# ISO 8601's other form, without separators
BASIC = r"^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})(\.\d+)?(Z|[+-]\d{2}(?::?\d{2})?)$"
# other ways of ISO 8601 and RFC 3339 to write a time: small letters, a comma, the end of a day, a leap second
ZONE = r"(Z|[+-]\d{2}(?::?\d{2})?)$"
SMALL_OR_COMMA = r"(?i)^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)$"
DAY_END = rf"^(\d{{4}}-\d{{2}}-\d{{2}}[T ])24:00(?::00(?:\.0+)?)?{ZONE}"
LEAP_SECOND = rf"^(\d{{4}}-\d{{2}}-\d{{2}}[T ]\d{{2}}:59):60(\.\d+)?{ZONE}"
BASIC_DATE = r"^(\d{4})(\d{2})(\d{2})$"
ZONELESS = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?$"
DATE = r"^\d{4}-\d{2}-\d{2}([T ]00:00:00(\.0+)?(Z|\+00:00)?)?$"
TRUE, FALSE = ["true", "t", "yes", "y", "1", "1.0"], ["false", "f", "no", "n", "0", "0.0"]
NULL_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
# whole numbers below it are exact as floats
EXACT = 2**53
# the most levels that a JSON document may have
DEEPEST = 100
# numbers that JSON allows and Postgres' jsonb cannot hold
TINY = re.compile(r"[eE]-\d{4}|\.\d{10000}")


def texts(raw: pa.Array) -> pa.Array:
    """Values of any type as texts."""
    if pa.types.is_string(raw.type):
        return raw
    if pa.types.is_binary(raw.type) or pa.types.is_large_binary(raw.type) or pa.types.is_fixed_size_binary(raw.type):
        return pa.array([None if v is None else v.decode("utf-8", "replace") for v in raw.to_pylist()], pa.string())
    if pa.types.is_nested(raw.type):
        return pa.array(
            [None if v is None else orjson.dumps(v, default=str).decode() for v in raw.to_pylist()], pa.string()
        )
    if pa.types.is_duration(raw.type):
        # as 0:00:05: its number alone says nothing without the unit
        return pa.array([None if v is None else str(v) for v in raw.to_pylist()], pa.string())
    if pa.types.is_floating(raw.type):
        return pa.array([None if v is None else _plain_float(v) for v in raw.to_pylist()], pa.string())
    if pa.types.is_decimal(raw.type):
        return pa.array([None if v is None else f"{v:f}" for v in raw.to_pylist()], pa.string())
    return raw.cast(pa.string())


def _plain_float(value: float) -> str:
    """A float as its shortest text, and a whole one without a point: pandas makes floats of whole numbers as soon as one is missing.

    One that may stand for several whole numbers has an exponent.
    """
    if not value.is_integer():
        return repr(value)
    return str(int(value)) if abs(value) < EXACT else f"{value:.16e}"


def may_contain(strings: pa.Array, *parts: bytes) -> bool:
    """Whether some text may have one of these parts: a look at the bytes of all texts at once, a tenth of the time of a search in each."""
    data = strings.buffers()[2]
    held = data.to_pybytes() if data is not None else b""
    return any(part in held for part in parts)


def _only_valid(strings: pa.Array, valid: pa.Array) -> pa.Array:
    return pc.if_else(valid, strings, pa.scalar(None, strings.type))


def _parse(strings: pa.Array, valid: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """Cast the values that the pattern accepted. Those that the cast still refuses (month 13) are found by halving."""
    array, refused = _cast_halving(_only_valid(strings, valid), kind)
    invalid = pc.and_(pc.invert(valid), pc.is_valid(strings))
    if refused:
        invalid = pc.or_(invalid, _mask_of(refused, len(strings)))
    return array, invalid


def _mask_of(places: list[int], count: int) -> pa.Array:
    flags = np.zeros(count, bool)
    flags[places] = True
    return pa.array(flags)


def _cast_halving(strings: pa.Array, kind: pa.DataType, offset: int = 0) -> tuple[pa.Array, list[int]]:
    try:
        return strings.cast(kind), []
    except pa.ArrowInvalid:
        if len(strings) == 1:
            return pa.nulls(1, kind), [offset]
        middle = len(strings) // 2
        left, bad_left = _cast_halving(strings.slice(0, middle), kind, offset)
        right, bad_right = _cast_halving(strings.slice(middle), kind, offset + middle)
        return pa.concat_arrays([left, right]), bad_left + bad_right


def _are_numbers(strings: pa.Array) -> pa.Array:
    """The mask of the texts that are numbers which decimals can hold."""
    valid = _matches(strings, DECIMAL)
    longest = pc.max(pc.binary_length(strings)).as_py() or 0
    if longest <= MOST_DIGITS and not may_contain(strings, b"e", b"E"):
        return valid
    is_suspect = pc.or_(pc.greater(pc.binary_length(strings), MOST_DIGITS), _matches(strings, "[eE]"))
    suspects = pc.fill_null(pc.and_(valid, is_suspect), False)
    places = np.flatnonzero(suspects.to_numpy(zero_copy_only=False)).tolist()
    too_large = [place for place in places if has_too_many_digits(strings[place].as_py())]
    return pc.and_(valid, pc.invert(_mask_of(too_large, len(strings)))) if too_large else valid


def is_number(text: str) -> bool:
    """Whether a text is a number, however large."""
    return re.match(DECIMAL, text.strip(), re.ASCII) is not None


def has_too_many_digits(number: str) -> bool:
    """Whether a number, as DECIMAL has it, has more digits before the point than decimals hold."""
    return bool(Decimal(number).copy_abs() >= 10**MOST_DIGITS)


def _matches(strings: pa.Array, pattern: str) -> pa.Array:
    return pc.fill_null(pc.match_substring_regex(strings, pattern), False)


def _to_text(raw: pa.Array) -> tuple[pa.Array, pa.Array]:
    strings = texts(raw)
    return strings, pc.fill_null(pc.match_substring(strings, "\x00"), False)


def _to_int(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    if pa.types.is_integer(raw.type) and raw.type != pa.uint64():
        return raw.cast(pa.int64()), None
    if pa.types.is_decimal(raw.type) or pa.types.is_floating(raw.type):
        return _to_whole(raw)
    strings = pc.utf8_trim_whitespace(texts(raw))
    valid = _matches(strings, INTEGER)
    array, invalid = _parse(pc.replace_substring_regex(strings, r"\.0*$", ""), valid, pa.int64())
    # 1e3, 7.50e1: what spreadsheets make of large numbers
    scientific = pc.and_(invalid, _are_numbers(strings))
    if not pc.any(scientific).as_py():
        return array, invalid
    numbers, _ = _parse(strings, scientific, pa.decimal256(76, 38))
    whole_numbers, unfit = _to_whole(numbers)
    is_read = pc.and_(scientific, pc.and_(pc.is_valid(numbers), pc.invert(unfit)))
    return pc.if_else(is_read, whole_numbers, array), pc.and_(invalid, pc.invert(is_read))


def _to_whole(numbers: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Decimals or floats as whole numbers; refused are those with a fraction, and those of more digits than INTEGER takes."""
    if pa.types.is_floating(numbers.type):
        numbers = numbers.cast(pa.float64())
    limit = pa.scalar(10.0**18 if pa.types.is_floating(numbers.type) else 10**18)
    fits = pc.fill_null(pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), limit)), False)
    return _only_valid(numbers, fits).cast(pa.int64()), pc.and_(pc.invert(fits), pc.is_valid(numbers))


def _to_decimal(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    if pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type) or pa.types.is_decimal(raw.type):
        raw = raw.cast(pa.string())
    strings = pc.utf8_trim_whitespace(texts(raw))
    valid = _are_numbers(strings)
    try:
        array = _only_valid(strings, valid).cast(ARROW_TYPES["decimal"])
        return array, pc.and_(pc.invert(valid), pc.is_valid(strings))
    except pa.ArrowInvalid:
        wide, invalid = _parse(strings, valid, pa.decimal256(76, 38))
        rounded = pc.round(wide, 12, "half_towards_infinity")
        try:
            return rounded.cast(ARROW_TYPES["decimal"]), invalid
        except pa.ArrowInvalid:
            array, refused = _cast_halving(rounded, ARROW_TYPES["decimal"])
            return array, pc.or_(invalid, _mask_of(refused, len(array)))


def lost_digits(raw: pa.Array, kept: pa.Array) -> pa.Array | None:
    """The mask of the numbers of which `kept`, their decimals, have less than `raw` says; None where none is.

    What a float writes beyond its fifteen digits (0.30000000000000004) is no digit of the number.
    """
    if pa.types.is_integer(raw.type) or kept.null_count == len(kept):
        return None
    # a float of less bits writes less digits
    given = raw.cast(pa.string()) if pa.types.is_float32(raw.type) else texts(raw)
    strings = pc.utf8_trim_whitespace(given)
    suspects = pc.and_(_matches(strings, MANY_DIGITS), pc.is_valid(kept))
    places = np.flatnonzero(suspects.to_numpy(zero_copy_only=False)).tolist()
    lost = [place for place in places if _has_lost(Decimal(strings[place].as_py()), kept[place].as_py())]
    return _mask_of(lost, len(strings)) if lost else None


def _has_lost(number: Decimal, kept: Decimal) -> bool:
    if number == kept:
        return False
    is_of_a_float = len(number.normalize(EVERY_DIGIT).as_tuple().digits) <= 17
    return not (is_of_a_float and EVERY_DIGIT.subtract(number, kept).copy_abs() * 10**15 <= abs(number))


def _to_bool(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    if pa.types.is_boolean(raw.type):
        return raw, None
    if pa.types.is_decimal(raw.type) or pa.types.is_floating(raw.type):
        is_one, is_zero = (pc.fill_null(pc.equal(raw, pa.scalar(n, pa.int64())), False) for n in (1, 0))
        is_known = pc.or_(is_one, is_zero)
        return _only_valid(is_one, is_known), pc.and_(pc.invert(is_known), pc.is_valid(raw))
    words = pc.utf8_lower(pc.utf8_trim_whitespace(texts(raw)))
    is_true = pc.is_in(words, pa.array(TRUE))
    is_false = pc.is_in(words, pa.array(FALSE))
    is_known = pc.or_(is_true, is_false)
    return pc.if_else(is_known, is_true, pa.scalar(None, pa.bool_())), pc.and_(pc.invert(is_known), pc.is_valid(words))


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
    strings = pc.utf8_trim_whitespace(texts(raw))
    if pc.any(_matches(strings, BASIC)).as_py():
        strings = pc.replace_substring_regex(strings, BASIC, r"\1-\2-\3T\4:\5:\6\7\8")
    valid = _matches(strings, TIMESTAMP)
    if (
        pc.all(pc.or_kleene(valid, pc.is_null(strings))).as_py()
        and not pc.any(_matches(strings, "[T ]24:|:60")).as_py()
    ):
        return _parse_times(strings, valid, kind)
    is_other = _matches(strings, SMALL_OR_COMMA)
    strings = pc.if_else(is_other, pc.replace_substring(pc.utf8_upper(strings), ",", "."), strings)
    is_day_end, is_leap = _matches(strings, DAY_END), _matches(strings, LEAP_SECOND)
    # the instant after: of the day's beginning by a day, of the second before by a second
    strings = pc.replace_substring_regex(strings, DAY_END, r"\100:00:00\2")
    strings = pc.replace_substring_regex(strings, LEAP_SECOND, r"\1:59\2\3")
    array, invalid = _parse_times(strings, _matches(strings, TIMESTAMP), kind)
    for mask, seconds in ((is_day_end, 86_400), (is_leap, 1)):
        array = pc.if_else(mask, pc.add(array, pa.scalar(seconds * 1_000_000, pa.duration("us"))), array)
    return array, invalid


def _parse_times(strings: pa.Array, valid: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    return _parse(pc.replace_substring_regex(strings, r"(\.\d{6})\d+", r"\1"), valid, kind)


def _to_date(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    if pa.types.is_date(raw.type):
        return raw.cast(pa.date32()), None
    if pa.types.is_timestamp(raw.type):
        return raw.cast(pa.timestamp("us"), safe=False).cast(pa.date32(), safe=False), None
    strings = pc.utf8_trim_whitespace(texts(raw))
    if pc.any(_matches(strings, BASIC_DATE)).as_py():
        strings = pc.replace_substring_regex(strings, BASIC_DATE, r"\1-\2-\3")
    valid = _matches(strings, DATE)
    return _parse(pc.utf8_slice_codeunits(strings, 0, 10), valid, pa.date32())


def _to_json(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    strings = texts(raw)
    encoded = strings.dictionary_encode()
    ok = [v is None or _is_json(v) for v in encoded.dictionary.to_pylist()]
    if all(ok):
        return strings, None
    valid = pc.fill_null(pa.array(ok, pa.bool_()).take(encoded.indices), True)
    return _only_valid(strings, valid), pc.invert(valid)


def _is_json(text: str) -> bool:
    if "\x00" in text or ("\\u0000" in text and NULL_ESCAPE.search(text)):
        return False
    try:
        if is_deep(text, orjson.loads(text)):
            return False
        if TINY.search(text):
            json.loads(text, parse_float=_stored_number)
    except (ValueError, RecursionError):
        return False
    return True


def is_deep(text: str, document: object) -> bool:
    """Whether a document is nested too deep to be searched. For most documents a count of brackets is enough to say that it is not."""
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

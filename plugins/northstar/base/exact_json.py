"""JSON without loss: numbers that neither 64 bits nor a float can hold stay as they were written.

orjson reads such a whole number as a float, so that different ids become one, and refuses to write it.
"""

import json
import re

import orjson

# a number of more digits than a float holds; a text that looks so costs a second look at the document, and no more
LONG_NUMBER = re.compile(rb"[:,\[\s]-?\d[\d.]{15,}")
LARGEST = 2**63


class Number(str):
    """A number as it was written."""

    __slots__ = ()


def loads(data: bytes) -> object:
    """A document, with its long numbers as Number. Raises ValueError for what is no JSON."""
    document = orjson.loads(data)
    if not LONG_NUMBER.search(data):
        return document
    try:
        exact: object = json.loads(data, parse_int=_whole, parse_float=_decimal)
    except RecursionError as exc:
        raise ValueError("nested too deep") from exc
    return exact


def dumps(document: object) -> str:
    """A document as text; what JSON has no form for is written as its text."""
    try:
        return orjson.dumps(document, default=_form, option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode()
    except orjson.JSONEncodeError:
        # a whole number that is larger than 64 bits
        return json.dumps(document, default=str, ensure_ascii=False, separators=(",", ":"))


def _form(value: object) -> object:
    if isinstance(value, Number):
        return orjson.Fragment(str(value))
    return dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else str(value)


def _whole(digits: str) -> int | Number:
    number = int(digits)
    return number if -LARGEST <= number < LARGEST else Number(digits)


def _decimal(digits: str) -> float | Number:
    return float(digits) if len(digits) <= 16 else Number(digits)

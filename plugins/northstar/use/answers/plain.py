"""Answers as plain data, for whatever writes them: JSON, CSV, Arrow."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from northstar.base.exact_json import Number
from northstar.base.tables import plain_text


def exact_number(value: Decimal) -> object:
    """A number as JSON can write it without loss: its own digits."""
    return Number(plain_text(value)) if value.is_finite() else str(value)


def float_number(value: Decimal) -> object:
    """A number as programs have it that know no others."""
    if not value.is_finite():
        return str(value)
    return int(value) if value == value.to_integral_value() else float(value)


def plain(value: object, number: Callable[[Decimal], object] = exact_number) -> object:
    """An answer, or a part of it, as dicts, lists, texts and numbers; times as ISO texts in UTC."""
    if is_dataclass(value):
        return {part.name: plain(getattr(value, part.name), number) for part in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part, number) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, number) for part in value]
    if isinstance(value, Decimal):
        return number(value)
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC).isoformat().removesuffix('+00:00')}Z" if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)

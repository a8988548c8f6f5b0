"""Stripe's values in the forms that land: names, times, countries, amounts."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import overload

from northstar.extract.sources.http import Json

# currencies whose minor unit is another one for Stripe than for ISO 4217: how many of ISO's are one of Stripe's. Stripe counts ISK and UGX
# in hundredths, which they do not have, and MGA in whole ariary, which have hundredths
ISO_UNITS = {"ISK": Decimal("0.01"), "UGX": Decimal("0.01"), "MGA": Decimal(100)}


def id_of(thing: Json) -> str | None:
    """The id of an object that is given as a whole, or as its id alone."""
    name: str | None = thing["id"] if isinstance(thing, dict) else thing
    return name


def time_of(seconds: float) -> str:
    """A time in seconds since 1970 as text, so that earlier is less."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def seconds_of(text: str) -> int:
    """A time in seconds since 1970."""
    return int(datetime.fromisoformat(text).timestamp())


def plain(value: Decimal | int | None) -> str | None:
    """A number as text, to the 12 digits that the warehouse keeps, without trailing zeros."""
    if value is None:
        return None
    return f"{round(Decimal(value), 12).normalize():f}"


@overload
def minor_units(amount: Decimal | int, currency: str) -> Decimal: ...
@overload
def minor_units(amount: Decimal | int | None, currency: str) -> Decimal | None: ...
def minor_units(amount: Decimal | int | None, currency: str) -> Decimal | None:
    """An amount of Stripe's in the minor unit of ISO 4217; None stays None."""
    return None if amount is None else Decimal(amount) * ISO_UNITS.get(currency.upper(), 1)


def whole(amount: int, currency: str) -> int:
    """An amount that was paid, in whole minor units."""
    return int(minor_units(amount, currency))

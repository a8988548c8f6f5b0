"""What the values of a column are told to be: the patterns of its dates, its currency, its numbers.

A guess is only made where the values allow it: dates that cannot all be read with one order of day and month have no pattern.
"""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from northstar.contract.codes import CURRENCIES

# how many values of a column are looked at
LOOKED_AT = 1_000
# the share of the values that a guess has to explain; the others may be blanks of a kind ("n/a")
ENOUGH = 0.9
MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|january|february|march|april|june|july|august|september|october|november|december)"
# dates as they are written, and the patterns that may be meant: the order of day and month is told by other values of the column
DATES = [
    (r"(?P<year>\d{4})(?P<mark>[-/.])\d{1,2}(?P=mark)\d{1,2}", ["%Y{mark}%m{mark}%d"]),
    (r"\d{1,2}(?P<mark>[-/. ])\d{1,2}(?P=mark)(?P<year>\d{4})", ["%d{mark}%m{mark}%Y", "%m{mark}%d{mark}%Y"]),
    (r"\d{1,2}(?P<mark>[-/.])\d{1,2}(?P=mark)\d{2}", ["%d{mark}%m{mark}%y", "%m{mark}%d{mark}%y"]),
    (rf"\d{{1,2}}(?P<dot>\.?)(?P<mark>[-/ ]){MONTH}(?P<comma>[., ]?)(?P<mark2>[-/ ]?)(?P<year>\d{{4}})", ["%d{dot}{mark}{month}{comma}{mark2}%Y"]),
    (rf"\d{{1,2}}(?P<dot>\.?)(?P<mark>[-/ ]){MONTH}(?P<mark2>[-/ ])\d{{2}}", ["%d{dot}{mark}{month}{mark2}%y"]),
    (rf"{MONTH}(?P<mark> )\d{{1,2}}(?P<comma>,? )(?P<year>\d{{4}})", ["{month}{mark}%d{comma}%Y"]),
    (r"(?P<year>(?:19|20)\d{2})(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])", ["%Y%m%d"]),
]  # fmt: skip
WEEKDAY = r"(?:(?P<weekday>(?:mon|tue|wed|thu|fri|sat|sun)|(?:mon|tues|wednes|thurs|fri|satur|sun)day)(?P<after>,? ))?"
TIME = r"(?:(?P<gap>T| at |, | {1,2})(?:(?P<hour>\d{1,2}):\d{2}(?P<seconds>:\d{2})?(?P<fraction>\.\d{1,9})?|(?P<compact>\d{6}))(?P<half>(?P<space> ?)[ap]m)?)?"
ZONE = r"(?P<zone>Z| ?[+-]\d{2}(?::?\d{2})?| (?:UTC|GMT))?"
FORMS = [(re.compile(f"{WEEKDAY}{date}{TIME}{ZONE}", re.IGNORECASE), patterns) for date, patterns in DATES]

SIGNS = {
    "US$": "USD", "CA$": "CAD", "C$": "CAD", "AU$": "AUD", "A$": "AUD", "NZ$": "NZD", "HK$": "HKD", "R$": "BRL", "MX$": "MXN", "S$": "SGD",
    "€": "EUR", "£": "GBP", "$": "USD", "¥": "JPY", "₹": "INR", "₩": "KRW", "zł": "PLN", "Kč": "CZK", "₺": "TRY", "₽": "RUB", "₪": "ILS",
    "₫": "VND", "₱": "PHP", "฿": "THB", "₴": "UAH", "₦": "NGN",
}  # fmt: skip
CURRENCY = re.compile(
    r"(?<![A-Za-z])([A-Za-z]{3})(?![A-Za-z])|" + "|".join(re.escape(s) for s in sorted(SIGNS, key=len, reverse=True))
)


def guess_patterns(values: Iterable[str]) -> list[str]:
    """The patterns, as `parse:` of a mapping takes them, with which nearly all of the values can be read; that of the most values first.

    [] where there are none: the values are no dates, they need a locale, or some can only have the day first and others only the month.
    A column that may have either order is given the order that fits better; `both_orders` tells that it is so.
    """
    texts = _filled(values)
    found = [_patterns_of(text) for text in texts]
    if not texts or sum(map(bool, found)) < ENOUGH * len(texts):
        return []
    day_first, month_first = (_is_possible(found, order) for order in ("%d%m", "%m%d"))
    if not (day_first or month_first):
        return []
    preferred = "%d%m" if not month_first or (day_first and _prefers_day_first(texts, found)) else "%m%d"
    count = Counter(_in_order(patterns, preferred) for patterns in found if patterns)
    # %Y takes two digits for a year of the first century, where %y refuses four
    return sorted(count, key=lambda pattern: ("%Y" in pattern, -count[pattern], pattern))


def both_orders(values: Iterable[str]) -> bool:
    """Whether nothing in the values says if the day or the month stands first."""
    found = [patterns for patterns in map(_patterns_of, _filled(values)) if patterns]
    return any(len(p) > 1 for p in found) and all(_is_possible(found, order) for order in ("%d%m", "%m%d"))


def guess_currency(values: Iterable[str]) -> str | None:
    """The ISO 4217 code that nearly all of the values are, or carry as a code or a sign; None where there is none, or more than one.

    A bare $ is taken for the US dollar, and ¥ for the yen.
    """
    texts = _filled(values)
    named = Counter(code for code in map(currency_of, texts) if code)
    if len(named) != 1 or named.total() < ENOUGH * len(texts):
        return None
    return next(iter(named))


def currency_of(text: str) -> str | None:
    for match in CURRENCY.finditer(text):
        code = SIGNS.get(match[0]) or match[0].upper()
        if code in CURRENCIES:
            return code
    return None


def _filled(values: Iterable[str]) -> list[str]:
    return [text for value in values if value is not None and (text := value.strip())][:LOOKED_AT]


def _patterns_of(text: str) -> list[str]:
    """The patterns with which a text is a date that exists: one, two where day and month may change places, or none."""
    for form, patterns in FORMS:
        match = form.fullmatch(text)
        if not match:
            continue
        parts = {name: part or "" for name, part in match.groupdict().items()}
        if parts.get("month"):
            parts["month"] = "%b" if len(parts["month"]) == 3 else "%B"
        weekday = f"{'%a' if len(parts['weekday']) == 3 else '%A'}{parts['after']}" if parts["weekday"] else ""
        written = [weekday + pattern.format(**parts) + _time(parts) + _zone(parts["zone"]) for pattern in patterns]
        return [pattern for pattern in written if _exists(text, pattern)]
    return []


def _time(parts: dict[str, str]) -> str:
    if parts["compact"]:
        return f"{parts['gap']}%H%M%S"
    if not parts["hour"]:
        return ""
    fraction = "" if not parts["fraction"] else ".%f" if len(parts["fraction"]) <= 7 else ".%n"
    hour, half = ("%I", f"{parts['space']}%p") if parts["half"] else ("%H", "")
    return f"{parts['gap']}{hour}:%M{':%S' if parts['seconds'] else ''}{fraction}{half}"


def _zone(zone: str) -> str:
    if not zone or zone.strip().upper() in ("Z", "UTC", "GMT"):
        # a letter of the pattern: times without an offset are taken for UTC
        return zone
    return f"{' ' if zone.startswith(' ') else ''}%z"


def _exists(text: str, pattern: str) -> bool:
    if ".%n" in pattern:
        text, pattern = re.sub(r"(\.\d{6})\d{1,3}", r"\1", text), pattern.replace("%n", "%f")
    try:
        datetime.strptime(text, pattern)
    except ValueError:
        return False
    return True


def _order(pattern: str) -> str:
    return "".join(re.findall("%[dm]", pattern)[:2])


def _is_possible(found: list[list[str]], order: str) -> bool:
    """Whether every date that has the day or the month first can be read in an order."""
    orders = [{_order(p) for p in patterns} for patterns in found if patterns and re.search("%d.%m.%[yY]|%m.%d.%[yY]", patterns[0])]  # fmt: skip
    return all(order in possible for possible in orders)


def _in_order(patterns: list[str], order: str) -> str:
    return next((pattern for pattern in patterns if _order(pattern) == order), patterns[0])


def _prefers_day_first(texts: list[str], found: list[list[str]]) -> bool:
    """Whether the day stands first, where both are possible: months repeat more than days do, then a dot or a dash speaks for it, then no am or pm."""
    parts = [re.split(r"[-/. ]", text)[:2] for text, patterns in zip(texts, found, strict=True) if len(patterns) > 1]
    first, second = (len({part[place] for part in parts}) for place in (0, 1))
    if first != second:
        return first > second
    return not any("/" in text and text.lower().endswith("m") for text in texts)


def is_iso(values: list[str]) -> bool:
    """Whether the values are times that the contract takes as they are."""
    return all(
        re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)", v.strip()) for v in values
    )


def epoch_unit(values: list[str]) -> int | None:
    """1 for seconds since 1970, 1000 for milliseconds; None for other values."""
    for unit, digits in ((1, 10), (1000, 13)):
        if all(re.fullmatch(rf"1\d{{{digits - 1}}}(\.\d+)?", v.strip()) for v in values):
            return unit
    return None


def has_dates(values: list[str]) -> bool:
    return sum(bool(_patterns_of(v.strip())) for v in values) >= ENOUGH * len(values)


def is_plain_number(value: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[\d.,]*\d[\d.,]*", value.strip()))


def is_number(value: str) -> bool:
    bare = re.sub(r"[A-Za-z]{3}|[^\w.,+-]", "", value)
    return is_plain_number(bare) and not _patterns_of(value.strip())

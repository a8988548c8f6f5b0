"""Numbers and days as a reader's locale writes them."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from northstar.base.clock import Calendar
from northstar.base.errors import NorthstarError
from northstar.base.formats import format_change, format_count, format_value
from northstar.base.locales import choose_locale, locale_name, parse_locale, separators, write_number, written_in
from northstar.use.words import period

DAY = date(2026, 3, 2)


@pytest.mark.parametrize(("name", "amount", "big", "day", "month"), [
    ("", "-1,234,567.50 EUR", "1,234,567", "2 Mar 2026", "Mar 2026"),
    ("de", "-1.234.567,50 EUR", "1.234.567", "2. März 2026", "März 2026"),
    ("de-CH", "-1’234’567.50 EUR", "1’234’567", "2. März 2026", "März 2026"),
    ("fr-FR", "-1\u202f234\u202f567,50 EUR", "1\u202f234\u202f567", "2 mars 2026", "mars 2026"),
    # by two, as in lakh and crore
    ("en_IN", "-12,34,567.50 EUR", "12,34,567", "2 Mar 2026", "Mar 2026"),
    ("en-US", "-1,234,567.50 EUR", "1,234,567", "Mar 2, 2026", "Mar 2026"),
    ("ja", "-1,234,567.50 EUR", "1,234,567", "2026年3月2日", "2026年3月"),
])  # fmt: skip
def test_a_locale_writes_numbers_amounts_and_periods_its_own_way(name, amount, big, day, month):
    with written_in(choose_locale([name] if name else [])):
        for value in (Decimal("-1234567.5"), -1234567.5):
            assert format_value(value, "money", "EUR") == amount
        assert format_value(1234567, "count") == format_count(1234567) == big
        assert period(DAY, "day", Calendar()) == day and period(DAY, "month", Calendar()) == month
        assert period(DAY, "week", Calendar()) == f"week of {day}"
    assert locale_name() == "" and separators() is None


def test_a_moment_has_the_day_of_its_own_time_zone_in_each_locale():
    moment = datetime.fromisoformat("2026-03-02T00:00:00+09:00")
    for name, words in (("en-US", "Mar 2, 2026"), ("de", "2. März 2026")):
        with written_in(parse_locale(name)):
            assert period(moment, "day", Calendar()) == words
            assert period(datetime(2026, 3, 2, 14, tzinfo=UTC), "hour", Calendar()).endswith("14:00")


def test_what_is_written_is_never_another_number():
    numbers = ["0", "-0.0", "999", "1000", "-1000", "0.005", "12345678901234567890.123456789", "1e3", "inf"]
    for name in ("de", "fr", "hi", "en-US", "pl", "ar-EG", "fa-IR"):
        with written_in(parse_locale(name)):
            decimal, group = separators()
            for text in numbers[:7]:
                said = write_number(text).replace(group, "").replace(decimal, ".")
                for sign in "\u2212\u200e\u200f\u061c":
                    said = said.replace(sign, "-" if sign == "\u2212" else "")
                assert Decimal(said) == Decimal(text) and len(said.partition(".")[2]) == len(text.partition(".")[2]), (name, text)  # fmt: skip
            assert format_change(110, 100, "count").startswith("+10")
    assert [write_number(text) for text in numbers] == ["0", "-0.0", "999", "1,000", "-1,000", "0.005", "12,345,678,901,234,567,890.123456789", "1e3", "inf"]  # fmt: skip


def test_the_first_language_that_is_known_counts():
    assert str(choose_locale(["xx-YY", "*", "", "../../etc", "de-AT", "fr"])) == "de_AT"
    # English without a country is written as everywhere else
    assert choose_locale(["en", "de"]) is None and choose_locale([]) is None
    assert str(choose_locale(["zz"], "fr")) == "fr" and choose_locale([], "en") is None
    # a browser has few languages, and a request may name any number
    assert choose_locale([*["xx"] * 50, "de"]) is None
    with pytest.raises(
        NorthstarError,
        match="'klingon' is no locale; give a language, or a language with a country, such as de or en-GB",
    ):
        parse_locale("klingon")

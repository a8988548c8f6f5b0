"""What values are told to be: their patterns are those with which a mapping reads them."""

import pytest

from northstar.extract.landing.engine import Engine
from northstar.extract.landing.value_guesses import both_orders, guess_currency, guess_patterns


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with Engine(tmp_path_factory.mktemp("spill")) as made:
        yield made


DATES = [
    (["2025-01-31", "2024-02-29"], ["%Y-%m-%d"], "2025-01-31 00:00:00"),
    (["2025-01-31 09:05:06.123", "2024-12-01 00:00:00.5"], ["%Y-%m-%d %H:%M:%S.%f"], "2025-01-31 09:05:06.123"),
    (["2025-01-31T09:05:06Z"], ["%Y-%m-%dT%H:%M:%SZ"], "2025-01-31 09:05:06"),
    (["2025-01-31T09:05:06+02:00"], ["%Y-%m-%dT%H:%M:%S%z"], "2025-01-31 07:05:06"),
    (["2025-01-31 09:05:06.123456789 UTC"], ["%Y-%m-%d %H:%M:%S.%n UTC"], "2025-01-31 09:05:06.123456789"),
    (["31/01/2025 09:05", "01/02/2025 9:05"], ["%d/%m/%Y %H:%M"], "2025-01-31 09:05:00"),
    (["1/31/2025 3:04 PM", "1/2/2025 12:00 AM"], ["%m/%d/%Y %I:%M %p"], "2025-01-31 15:04:00"),
    (["31.01.25", "01.02.25"], ["%d.%m.%y"], "2025-01-31 00:00:00"),
    (["Jan 31, 2025", "May 1, 2025"], ["%b %d, %Y"], "2025-01-31 00:00:00"),
    (["Jan 31, 2025, 9:05:06 AM"], ["%b %d, %Y, %I:%M:%S %p"], "2025-01-31 09:05:06"),
    (["31 January 2025"], ["%d %B %Y"], "2025-01-31 00:00:00"),
    (["31-Jan-2025"], ["%d-%b-%Y"], "2025-01-31 00:00:00"),
    (["Fri, 31 Jan 2025 09:05:06 GMT"], ["%a, %d %b %Y %H:%M:%S GMT"], "2025-01-31 09:05:06"),
    (["31/Jan/25 9:05 AM"], ["%d/%b/%y %I:%M %p"], "2025-01-31 09:05:00"),
    (["20250131", "20240229"], ["%Y%m%d"], "2025-01-31 00:00:00"),
    (["20250131T090506Z"], ["%Y%m%dT%H%M%SZ"], "2025-01-31 09:05:06"),
]


@pytest.mark.parametrize(("values", "patterns", "first"), DATES)
def test_patterns_are_those_with_which_a_mapping_reads_the_values(engine, values, patterns, first):
    assert guess_patterns(values) == patterns
    times = [engine.rows("select cast(try_strptime($1, $2) as varchar)", [v, patterns[0]])[0][0] for v in values]
    assert times[0].removesuffix("+00") == first and None not in times


def test_values_written_in_several_ways_have_several_patterns():
    assert guess_patterns(["31/01/2025", "1/2/2025 9:05", "2/2/2025 9:05"]) == ["%d/%m/%Y %H:%M", "%d/%m/%Y"]
    # a year of two digits is tried first, since %Y takes it for one of the first century
    assert guess_patterns(["31/01/2025", "30/01/2025", "1/2/25"]) == ["%d/%m/%y", "%d/%m/%Y"]


def test_the_order_of_day_and_month_comes_from_the_values():
    assert guess_patterns(["13/01/2025", "05/06/2025"]) == ["%d/%m/%Y"]
    assert guess_patterns(["01/13/2025", "05/06/2025"]) == ["%m/%d/%Y"]
    assert guess_patterns(["01/02/2025", "01/03/2025", "01/04/2025"]) == ["%m/%d/%Y"]
    assert guess_patterns(["02/01/2025", "03/01/2025", "04/01/2025"]) == ["%d/%m/%Y"]
    assert not both_orders(["13/01/2025", "05/06/2025"]) and not both_orders(["2025-01-02"])
    assert both_orders(["01/02/2025", "01/03/2025"])


def test_dates_that_no_order_fits_have_no_pattern():
    assert guess_patterns(["13/01/2025", "01/13/2025", "01/02/2025"]) == []
    assert guess_patterns(["31/02/2025"]) == []


@pytest.mark.parametrize(
    "values", [[], [""], ["12.50"], ["x"], ["1735689600"], ["31. Januar 2025"], ["12/345"], ["2025"]]
)
def test_what_is_no_date_has_no_pattern(values):
    assert guess_patterns(values) == []


def test_a_few_values_that_are_no_dates_do_not_hide_the_others():
    assert guess_patterns(["2025-01-31"] * 9 + ["n/a"]) == ["%Y-%m-%d"]
    assert guess_patterns(["2025-01-31"] * 8 + ["n/a"] * 2) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["eur", "EUR", ""], "EUR"),
        (["12.50 €", "€3"], "EUR"),
        (["$12.50", "US$3"], "USD"),
        (["A$12", "A$3.00"], "AUD"),
        (["GBP 5", "5 GBP"], "GBP"),
        (["1 200,00 zł"], "PLN"),
        (["EUR", "USD"], None),
        (["12.50", "3"], None),
        (["the", "end"], None),
        (["EURO"], None),
        ([], None),
    ],
)
def test_a_currency_is_told_by_its_code_or_its_sign(values, expected):
    assert guess_currency(values) == expected

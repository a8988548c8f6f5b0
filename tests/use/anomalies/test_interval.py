"""What values are expected to be, on series whose answers can be worked out by hand, and on noise with known odds."""

import numpy as np
import pytest
from scipy import special

from northstar.use.anomalies.interval import FEWEST, PER_YEAR, YEARS, Basis, SeriesMatrix, basis_of, judge

COUNT, SHARE, PLAIN = Basis("root", is_count=True), Basis("plain", is_share=True), Basis("plain")
RANDOM = np.random.default_rng(11)


def newest(values, basis=PLAIN, grain="week", bases=None):
    """(expected, low, high, times_a_year) of the newest value of a series."""
    row = np.array([values], dtype=float)
    base = np.full_like(row, np.nan) if bases is None else np.array([bases], dtype=float)
    found = judge(SeriesMatrix(grain, row, base, np.array([0]), [basis]), row.shape[1] - 1)
    return tuple(float(end[0, -1]) for end in (found.expected, found.low, found.high, found.times_a_year))


def test_the_interval_is_as_wide_as_the_forecast_was_wrong():
    # of the eight values before, the lowest and the highest are left out: (3 * 10 + 3 * 12) / 6 = 11, which is wrong by 1 each time, in 26 weeks;
    # Student's t with 25 degrees of freedom, for a value of which one of 520 is as far off on either side, a little wider for being known from 26
    expected, low, high, times = newest([10, 12] * 30 + [11])
    far = -special.stdtrit(25, 1 / (YEARS * 52) / 2) * np.sqrt(1 + 1 / 26)
    assert (expected, low, high) == pytest.approx((11, 11 - far, 11 + far))
    assert times > 1
    assert newest([10, 12] * 30 + [11 + 1.01 * far])[3] < 1 / YEARS < newest([10, 12] * 30 + [11 + 0.99 * far])[3]


def test_a_day_is_compared_with_its_day_of_the_week():
    week = [100, 104, 98, 102, 99, 20, 18]
    days = [value + n % 3 for n in range(10) for value in week]
    # seventy days end with a Sunday: a Monday follows
    assert newest([*days, 101], COUNT, "day")[3] > 1
    assert newest([*days, 30], COUNT, "day")[3] < 1 / YEARS
    # that few are usual two days before
    assert newest([*days[:-2], 21], COUNT, "day")[3] > 1


def test_small_counts_and_shares_of_few_are_chance():
    calm = list(RANDOM.binomial(40, 0.05, 60) / 40 * 100)
    assert newest([*calm, 100], SHARE, "day", [40] * 60 + [1])[3] > 1
    assert newest([*calm, 60], SHARE, "day", [40] * 60 + [40])[3] < 1 / YEARS
    # one or two of what never was are nothing, six are something
    assert newest([0] * 60 + [2], COUNT, "day")[3] > 1 / YEARS > newest([0] * 60 + [6], COUNT, "day")[3]


def test_what_jumps_now_and_then_has_a_wide_interval_and_what_seldom_moves_none():
    # every second day a sale of 500 to 900: neither that nor a day without one is unusual
    sales = [500 + 50 * (n % 9) if n % 2 == 0 else 20 * (n % 5) + 10 for n in range(80)]
    assert newest([*sales, 950], Basis("root"), "day")[3] > 1 / YEARS
    # an amount that changed twice in eighty days, as much as it does now, is not judged at all
    stock = [300] * 40 + [340] * 30 + [350] * 10
    assert np.isnan(newest([*stock, 390], Basis("log"), "day")[3])


def test_a_value_that_is_gone_is_unusual_where_it_always_was():
    rate = list(95 + RANDOM.normal(0, 1, 60))
    assert newest([*rate, np.nan], SHARE, "day", [40] * 60 + [0])[3] < 1 / YEARS
    # and stays so on the second day, of a count as of a rate
    assert newest([*rate, np.nan, np.nan], SHARE, "day", [40] * 60 + [0, 0])[3] < 1 / YEARS
    assert newest([*[30 + n % 5 for n in range(60)], np.nan, np.nan], COUNT, "day")[3] < 1 / YEARS
    # of one or two a day none may come, and where none came before none comes again
    assert newest([*rate, np.nan], SHARE, "day", [2] * 60 + [0])[3] > 1
    some = [np.nan if n % 9 == 4 else 30 + n % 5 for n in range(60)]
    assert newest([*some, np.nan], COUNT, "day")[3] > 1


def test_an_anomaly_of_the_past_does_not_hide_the_next_one():
    noise = list(100 + RANDOM.normal(0, 3, 70))
    assert newest([*noise, 160], PLAIN, "day")[3] < 1 / YEARS
    assert newest([*noise[:50], 160, *noise[50:], 160], PLAIN, "day")[3] < 1 / YEARS
    # a level that stays is the new one after two weeks
    assert newest([*noise, *(160 + RANDOM.normal(0, 3, 20))], PLAIN, "day")[3] > 1 / YEARS


def test_too_few_values_say_nothing():
    for grain, fewest in FEWEST.items():
        assert np.isnan(newest([5, 6] * (fewest // 2) + [50], PLAIN, grain)[3])


def test_chance_alone_is_an_anomaly_no_more_often_than_is_said():
    counts, levels = RANDOM.poisson(30, (60, 200)), RANDOM.normal(50, 4, (60, 200))
    for values, basis in ((counts, COUNT), (levels, PLAIN)):
        none = np.full(values.shape, np.nan)
        found = judge(SeriesMatrix("day", values.astype(float), none, np.zeros(60, dtype=int), [basis] * 60), 90)
        often = {limit: (found.times_a_year < limit).mean() * PER_YEAR["day"] for limit in (1 / YEARS, 20.0)}
        # it errs to the side of silence, by no more than five times
        assert often[1 / YEARS] < 2 / YEARS and 4 < often[20.0] < 24


@pytest.mark.parametrize(("kind", "unit", "nonnegative", "basis"), [
    ("sum", "count", True, COUNT), ("distinct", "count", True, COUNT), ("ratio", "percent", True, SHARE), ("mean", "ms", True, Basis("log")),
    ("snapshot", "money", True, Basis("log")), ("sum", "money", False, PLAIN), ("sum", "money", True, Basis("root")), ("mean", "score", True, PLAIN),
])  # fmt: skip
def test_a_metric_is_judged_by_what_it_measures(kind, unit, nonnegative, basis):
    assert basis_of(kind, unit, nonnegative) == basis

"""Periods as people and programs write them; where one text can mean two, it is not guessed."""

from zoneinfo import ZoneInfo

import pytest

from northstar.base.clock import GRAINS, Calendar
from northstar.use.answers.periods import parse_period
from northstar.use.answers.refusals import Refused
from tests.support import utc


@pytest.mark.parametrize(("text", "grain", "start"), [
    ("2026-03", "month", "2026-03-01"), ("2026", "year", "2026-01-01"), ("2026-Q2", "quarter", "2026-04-01"), ("q3 2026", "quarter", "2026-07-01"),
    ("2026-W09", "week", "2026-02-23"), ("2026-03-03", "day", "2026-03-03"), ("2026-03-01T14:00Z", "hour", "2026-03-01T14:00:00"),
    ("2026-03-01T01:00+01:00", "hour", "2026-03-01"), (" 2026-03 ", "month", "2026-03-01"),
])  # fmt: skip
def test_a_text_names_a_period(text, grain, start):
    grains = ["hour"] if grain == "hour" else GRAINS
    found = parse_period(text, "", grains, Calendar())
    assert (found.grain, found.start) == (grain, utc(start))
    assert parse_period(text, grain, grains, Calendar()) == found


def test_a_fiscal_year_is_named_as_one():
    calendar = Calendar(first_month=4)
    assert parse_period("FY2026", "", GRAINS, calendar).start == utc("2025-04-01")
    assert parse_period("FY2026-Q4", "", GRAINS, calendar).start == utc("2026-01-01")
    assert parse_period("2025-04-01", "year", GRAINS, calendar).start == utc("2025-04-01")
    for text in ("2026", "2026-Q1"):
        with pytest.raises(Refused, match=f"write FY{text}") as refused:
            parse_period(text, "", GRAINS, calendar)
        assert refused.value.reason == "ambiguous"
    with pytest.raises(Refused, match="name the week's first day"):
        parse_period("2026-W09", "", GRAINS, Calendar(first_weekday=6))
    assert parse_period("2026-03-01", "week", GRAINS, Calendar(first_weekday=6)).start == utc("2026-03-01")


@pytest.mark.parametrize(("text", "grain", "reason", "words"), [
    ("2026-01-01", "", "ambiguous", "begins a day, a month, a quarter and a year"), ("03/04/2026", "", "ambiguous", "its day or its month first"),
    ("3.4.26", "", "ambiguous", "its day or its month first"), ("2026-03", "day", "bad_request", "'2026-03' is a month, and the grain is day"),
    ("2026-03-02", "month", "bad_request", "no month begins at 2026-03-02; it is in the month that begins at 2026-03-01"),
    ("2026-13", "", "bad_request", "there is no period"), ("2026-W60", "", "bad_request", "there is no period"), ("9999-12-31", "week", "bad_request", ""),
    ("soon", "", "bad_request", "names no period; write 2026-03-01"), ("' or 1=1 --", "", "bad_request", "names no period"),
    ("2026-03-01T14:30Z", "", "bad_request", "no period begins at"), ("0000", "", "bad_request", ""), ("0001-01-01T00:00+14:00", "", "bad_request", ""),
    ("x" * 100_000, "", "bad_request", "names no period"),
])  # fmt: skip
def test_a_text_that_names_none_or_several_is_refused(text, grain, reason, words):
    with pytest.raises(Refused) as refused:
        parse_period(text, grain, GRAINS, Calendar())
    assert refused.value.reason == reason and words in str(refused.value) and len(str(refused.value)) < 300


@pytest.mark.parametrize(("text", "grain", "start"), [
    ("2026-03", "month", "2026-03-01T05:00:00"), ("2026-11-02", "day", "2026-11-02T05:00:00"), ("2026-W09", "week", "2026-02-23T05:00:00"),
    ("2026", "year", "2026-01-01T05:00:00"), ("2026-03-08T14:00", "hour", "2026-03-08T18:00:00"), ("2026-03-08T14:00Z", "hour", "2026-03-08T14:00:00"),
])  # fmt: skip
def test_a_period_is_named_by_the_companys_clock(text, grain, start):
    found = parse_period(text, grain, GRAINS, Calendar(zone=ZoneInfo("America/New_York")))
    assert (found.grain, found.start) == (grain, utc(start))

"""Periods begin where one macro says: on the company's first day of the week, and by its fiscal year."""

import re
from dataclasses import replace

import jinja2
import pytest

from northstar.base.settings import ROOT, Rules
from northstar.runs.preview.preview import preview
from northstar.runs.verify import verify
from northstar.use.explain.explanation import explain
from tests.support import empty, run, select, silent, utc, write_rows

# it asks the engines what `date_trunc` does
ASKS_THE_ENGINES = "macros/engine/facts.sql"
MACRO = ROOT / "dbt_project" / "macros" / "engine" / "periods.sql"


def test_only_one_macro_cuts_an_instant_down_to_its_period():
    project = ROOT / "dbt_project"
    cutting = {
        path.relative_to(project).as_posix()
        for folder in ("models", "macros")
        for path in (project / folder).rglob("*.sql")
        if re.search(r"\bdate_(trunc|bin)\b", path.read_text())
    }
    assert cutting == {"macros/engine/periods.sql", ASKS_THE_ENGINES}


def macros(rules: Rules):
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    given = {"rule": lambda name: str(getattr(rules, name))}
    return environment.from_string(MACRO.read_text()).make_module(given)


def test_by_default_a_period_begins_where_date_trunc_says():
    plain = macros(Rules())
    for grain in ("hour", "day", "week", "month", "quarter", "year"):
        assert plain.start_of(grain, "created_at") == f"date_trunc('{grain}', created_at)"
    assert plain.start_of_each("p.grain", "created_at") == "date_trunc(p.grain, created_at)"


def test_sql_and_python_agree_where_periods_begin(warehouse):
    days = [row["day"] for row in select(warehouse, "select generate_series(timestamptz '2023-12-20', '2025-03-05', '25 hours') as day")]  # fmt: skip
    calendars = [Rules(first_weekday=day) for day in ("monday", "sunday", "saturday")]
    calendars += [Rules(fiscal_year_begins=month) for month in range(2, 13)]
    calendars += [Rules(reporting_time_zone=zone, first_weekday="sunday", fiscal_year_begins=2) for zone in ("America/New_York", "Asia/Kolkata", "Pacific/Auckland")]  # fmt: skip
    for rules in calendars:
        sql = macros(rules)
        for grain in ("day", "week", "month", "quarter", "year"):
            starts = select(
                replace(warehouse, rules=rules),
                f"select {sql.start_of(grain, 'day')} as start, {sql.start_of_each('g.grain', 'day')} as start_of_each "
                "from unnest(%s::timestamptz[]) as d (day) cross join (select %s as grain) as g",
                days, grain,
            )  # fmt: skip
            expected = [rules.calendar.period_start(grain, day) for day in days]
            assert [row["start"] for row in starts] == [row["start_of_each"] for row in starts] == expected


MAY = utc("2025-05-01T00:00:00")


def charge(number, at, amount):
    return {"charge_id": f"c{number}", "account_id": "a", "application": "web", "amount": amount, "currency": "USD",
            "status": "succeeded", "created_at": at, "updated_at": at}  # fmt: skip


# a Saturday, the Sunday and the Monday after it, and a charge just before and just after a month begins
ROWS = {
    "accounts": [{"account_id": "a", "account_type": "customer", "application": "web", "country": "US",
                  "created_at": "2025-01-04T08:00:00Z", "updated_at": "2025-01-04T08:00:00Z"}],
    "charges": [charge(1, "2025-01-04T10:00:00Z", 1000), charge(2, "2025-01-05T10:00:00Z", 2000), charge(3, "2025-01-06T10:00:00Z", 4000),
                charge(4, "2025-01-31T23:59:59Z", 8000), charge(5, "2025-02-01T00:00:00Z", 16000)],
    "subscriptions": [{"subscription_item_id": "si", "subscription_id": "s", "account_id": "a", "application": "web", "plan_id": "p",
                       "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 5000, "currency": "USD",
                       "status": "active", "valid_from": "2025-01-05T00:00:00Z", "updated_at": "2025-01-05T00:00:00Z"}],
}  # fmt: skip


def cash(settings, grain):
    return {
        str(row["period_start"].date()): float(row["value"])
        for row in select(
            settings,
            "select period_start, value from metric_values where metric_id = 'cash_collected' and grain = %s and application = 'web' and segment = '' "
            "and value != 0 order by 1",
            grain,
        )
    }  # fmt: skip


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """Three versions, and what they showed: weeks from Monday and quarters from January; from Sunday and from February; a late charge in an hourly run."""
    empty(warehouse)
    source = write_rows(tmp_path_factory.mktemp("calendar"), ROWS)
    run(warehouse, source, MAY)
    shown = [{grain: cash(warehouse, grain) for grain in ("week", "quarter", "month", "year")}]
    settings = replace(warehouse, rules=Rules(first_weekday="sunday", fiscal_year_begins=2))
    previewed = preview(settings, progress=silent)
    run(settings, source, MAY, "hourly")
    shown.append({grain: cash(settings, grain) for grain in ("week", "quarter", "month", "year")})
    write_rows(source, {"charges": [charge(6, "2025-01-05T12:00:00Z", 500)]}, "late")
    run(settings, source, utc("2025-05-01T01:00:00"), "hourly")
    shown.append({grain: cash(settings, grain) for grain in ("week", "quarter", "month", "year")})
    return settings, shown, previewed


def test_weeks_quarters_and_years_hold_what_happened_in_them(story):
    _, (before, after, later), _ = story
    months = {"2025-01-01": 150.0, "2025-02-01": 160.0}
    assert before == {
        "week": {"2024-12-30": 30.0, "2025-01-06": 40.0, "2025-01-27": 240.0},
        "quarter": {"2025-01-01": 310.0},
        "year": {"2025-01-01": 310.0},
        "month": months,
    }
    assert after == {
        "week": {"2024-12-29": 10.0, "2025-01-05": 60.0, "2025-01-26": 240.0},
        "quarter": {"2024-11-01": 150.0, "2025-02-01": 160.0},
        "year": {"2024-02-01": 150.0, "2025-02-01": 160.0},
        "month": months,
    }
    # an incremental build finds the week, the quarter and the year that a late row lies in
    assert later["week"] == after["week"] | {"2025-01-05": 65.0}
    assert later["quarter"] == after["quarter"] | {"2024-11-01": 155.0}
    assert later["year"] == after["year"] | {"2024-02-01": 155.0}


def test_an_incremental_build_and_a_full_one_make_the_same_periods(story):
    settings, *_ = story
    assert all(compared.is_same for compared in verify(settings, None, silent))


def test_only_what_begins_on_another_day_is_restated_with_the_setting_as_the_reason(story):
    settings, *_ = story
    restated = select(settings, "select * from metric_restatements where new_version = 2")
    assert {row["grain"] for row in restated} == {"week", "quarter"}
    assert {tuple(row["reasons"]) for row in restated} == {("setting",)}
    own = {row["grain"]: row for row in restated if (row["metric_id"], row["application"], row["segment"]) == ("cash_collected", "web", "")}  # fmt: skip
    # seventeen weeks from Monday were over, and one quarter: those periods have no value any more
    assert [(own[g]["old_value"], own[g]["new_value"], own[g]["periods"]) for g in ("week", "quarter")] == [(30, None, 17), (310, None, 1)]  # fmt: skip
    untouched = select(
        settings,
        "select distinct s.grain from metric_points as p join metric_series as s using (series_id) where p._version = 1",
    )
    assert {row["grain"] for row in untouched} >= {"day", "month"}


def test_a_preview_shows_what_another_calendar_would_change(story):
    _, _, previewed = story
    assert set(map(tuple, previewed.changed.values())) == {("setting",)}
    cash = next(m.counts for m in previewed.metrics if m.counts["metric_id"] == "cash_collected")
    # its days and months are as they were
    assert cash["grains"] == ["quarter", "week", "year"] and cash["appeared"] and cash["vanished"]


def test_a_late_row_restates_the_week_the_quarter_and_the_year_that_it_lies_in(story):
    settings, *_ = story
    rows = select(settings, "select grain, period_start, old_value, new_value, reasons from metric_restatements where new_version = 3 "
                            "and metric_id = 'cash_collected' and application = 'web' and segment = ''")  # fmt: skip
    assert {row["grain"]: (str(row["period_start"].date()), row["old_value"], row["new_value"]) for row in rows} == {
        "day": ("2025-01-05", 20, 25), "week": ("2025-01-05", 60, 65), "month": ("2025-01-01", 150, 155), "quarter": ("2024-11-01", 150, 155),
        "year": ("2024-02-01", 150, 155),
    }  # fmt: skip
    assert all(row["reasons"] == ["late_rows"] for row in rows)


@pytest.mark.parametrize(("grain", "start"), [("quarter", "2024-11-01"), ("year", "2024-02-01")])
def test_a_quarter_of_the_fiscal_year_and_the_year_are_made_of_their_rows(story, grain, start):
    settings, *_ = story
    explanation = explain(settings, "cash_collected", utc(start), grain, "web")
    assert explanation.adds_up and explanation.published["value"] == 155


def test_the_calendar_of_days_follows(story):
    settings, *_ = story
    day = select(settings, "select week_starts_on, quarter_starts_on, year_starts_on, calendar_quarter, iso_week from dim_dates where date_on = '2025-01-05'")[0]  # fmt: skip
    assert [str(day[f"{g}_starts_on"]) for g in ("week", "quarter", "year")] == [
        "2025-01-05",
        "2024-11-01",
        "2024-02-01",
    ]
    assert (day["calendar_quarter"], day["iso_week"]) == (1, 1)

"""The marts against the companies' own books: every line of the truth, to the cent, and no mart row that the books do not have."""

import random
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from northstar.base.settings import WEEKDAYS, Rules
from northstar.contract.codes import minor_digits
from northstar.demo.books.truth import truth
from northstar.demo.company import ACCOUNT_TYPES, generate_company
from northstar.demo.writing import write_entity
from tests.books import agree
from tests.support import empty, run, select, utc

END = utc("2026-03-01T00:00:00")
KEY = ["metric_id", "period_start", "application", "segment", "segment_value"]


def differences(lines: pd.DataFrame, settings, scopes: str = "true", grain: str = "month") -> list[str]:
    """What the books and metric_values do not agree on, as text."""
    metrics = {r["metric_id"]: r for r in select(settings, "select metric_id, unit, kind from metrics")}
    told = {tuple(row[c] for c in KEY): row for row in lines.to_dict("records")}
    published = {
        tuple(row[c] for c in KEY): row
        for row in select(settings, f"select * from metric_values where grain = '{grain}' and metric_id = any(%s) and {scopes}",
                          sorted(set(lines.metric_id)))
    }  # fmt: skip
    found, digits = [], minor_digits(settings.rules.reporting_currency)
    for key, line in told.items():
        row = published.get(key)
        if row is None:
            found.append(f"{key}: the books have {line['numerator']} / {line['denominator']}, the mart has no row")
            continue
        exact = {name: None if line[name] is None else Fraction(line[name]) for name in ("numerator", "denominator")}
        if not agree(metrics[key[0]], exact["numerator"], exact["denominator"], row, digits):
            found.append(
                f"{key}: {exact} in the books, {row['numerator']} / {row['denominator']} = {row['value']} in the mart"
            )
    for key, row in published.items():
        # a value where the books have no line is 0 at most
        if key not in told and row["value"]:
            found.append(f"{key}: the mart has {row['numerator']} / {row['denominator']}, the books have no line")
    return found


def test_the_small_company_is_as_its_books_say(built):
    company = generate_company(
        seed=7, months=3, accounts=120, applications=("web", "coaching", "tutoring"), end=END, monitored_days=14
    )
    lines = truth(company.tables, END)
    assert lines.metric_id.nunique() > 100
    found = differences(lines, built)
    assert not found, f"{len(found)} differences:\n" + "\n".join(found[:30])


def renew_after_five_days(subscriptions: pd.DataFrame) -> None:
    """Let some subscriptions end, and begin again under other numbers five days later."""
    is_open = (subscriptions.status == "active") & subscriptions.valid_to.isna()
    for index in subscriptions.index[is_open & (subscriptions.valid_from < utc("2025-12-20T00:00:00"))][:6]:
        row = subscriptions.loc[index].copy()
        row["valid_from"] = row["updated_at"] = row["valid_from"] + timedelta(days=25)
        row["subscription_item_id"] += "_again"
        subscriptions.loc[index, ["valid_to", "updated_at"]] = row["valid_from"] - timedelta(days=5)
        subscriptions.loc[len(subscriptions)] = row


def test_a_company_with_settings_of_its_own_is_as_its_books_say(warehouse, tmp_path):
    company = generate_company(
        seed=13, months=4, accounts=60, applications=("web", "coaching"), end=END, monitored_days=1
    )
    desk = company.tables["tickets"].query("application == 'web'")
    hours = dict.fromkeys(WEEKDAYS[:5], "09:00-12:30, 13:00-24:00") | {"sunday": "00:30-01:30, 01:45-02:30"}
    calendar = {"time_zone": "America/New_York", "hours": hours, "holidays": sorted(set(desk.created_at.dt.date))[::3]}
    rules = Rules(reporting_currency="JPY", rates_currency="USD", count_past_due=3, renewal_gap_days=10, reporting_time_zone="America/New_York", gross_margin={"coaching": 0.65}, home_country={"web": "DE"}, fiscal_year_begins=2, first_weekday="sunday",
                  support_calendars={"web": calendar},
                  country_groups={"DACH": ["DE", "AT", "CH"], "North America": ["US", "CA"]}, intercompany_accounts=["acc_0000003", "acc_000001*"],
                  legal_entities=[{"id": "us", "countries": ["US", "CA"]}, {"id": "coaching", "applications": ["coaching"]}, {"id": "rest"}])  # fmt: skip
    # some say which company sells to them, of those of which their country would be another's; one names a company that nobody knows
    for entity in ("accounts", "charges"):
        table = company.tables[entity]
        table["legal_entity"] = [
            {"3": "rest", "5": "us", "7": "nobody"}.get(i[-1]) for i in table.account_id.fillna("-")
        ]
    renew_after_five_days(company.tables["subscriptions"])
    late = company.tables["subscriptions"].query("status == 'past_due'")
    assert (late.valid_to.fillna(END) - late.valid_from > timedelta(days=3)).any()
    for entity, table in company.tables.items():
        if len(table):
            write_entity(tmp_path / entity, entity, table, "delivery")
    empty(warehouse)
    settings = replace(warehouse, rules=rules)
    run(settings, tmp_path, END)
    lines = truth(company.tables, END, rules)
    assert {"", "country", "country_group", "entity"} <= set(lines.segment) and {"us", "coaching", "rest", "(unknown)"} <= set(lines.query("segment == 'entity'").segment_value)  # fmt: skip
    assert {"first_response_business_time", "resolution_business_time"} <= set(lines.metric_id)
    # the company tells them apart
    for other in ({"renewal_gap_days": 1}, {"support_calendars": {"web": rules.support_calendars["web"].model_copy(update={"holidays": []})}}):  # fmt: skip
        assert not truth(company.tables, END, rules.model_copy(update=other)).equals(lines)
    found = differences(lines, settings)
    # the fiscal year of 2026 is over at the end of January
    years = truth(company.tables, END, rules, "year")
    assert years.period_start.nunique() == 2 and years.metric_id.nunique() > 30
    found += differences(years, settings, grain="year")
    assert (years.query("metric_id == 'cash_growth_rate_constant_currency'").segment == "entity").any()
    weeks = truth(company.tables, END, rules, "week")
    assert (
        weeks.period_start.nunique() > 15
        and {t.weekday() for t in weeks.period_start} == {6}
        and weeks.metric_id.nunique() > 80
    )
    found += differences(weeks, settings, grain="week")
    assert not found, f"{len(found)} differences:\n" + "\n".join(found[:30])


COMPANIES = 25
SHARED = {"plan_id", "sprint"}


def random_companies(seed: int) -> dict:
    """The tables of 25 small companies of all kinds, side by side: their ids and applications carry the company's number."""
    chance, parts, rates = random.Random(seed), {}, None
    for number in range(COMPANIES):
        applications = tuple(sorted(chance.sample(sorted(ACCOUNT_TYPES), chance.randint(1, 2))))
        company = generate_company(seed=seed * 1000 + number, months=2 if number == 0 else 1, accounts=chance.randint(12, 45),
                       applications=applications, end=END, monitored_days=chance.randint(1, 3), rare_cases=number < 4)  # fmt: skip
        rates = company.tables["fx_rates"] if rates is None else rates
        for entity, table in company.tables.items():
            if entity != "fx_rates":
                parts.setdefault(entity, []).append(numbered(table, f"c{number:02d}_"))
    return {entity: pd.concat(tables, ignore_index=True) for entity, tables in parts.items()} | {"fx_rates": rates}


def numbered(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    table = table.copy()
    for column in table.columns:
        named = column in ("service", "resource") and table[column].astype(str).str.contains("_").any()
        if column in ("application", "package") or named or (column.endswith("_id") and column not in SHARED):
            table[column] = [prefix + v if isinstance(v, str) else None for v in table[column]]
    return table


PAST = utc("2026-02-25T13:30:00")


def deliveries(tables: dict, seed: int) -> list[dict]:
    """Two deliveries of a company's rows: most of them, then the late ones and some of the first again; the rates come first."""
    first, second = {}, {}
    for number, (entity, table) in enumerate(tables.items()):
        chance = np.random.default_rng([seed, number]).random(len(table))
        is_late = (chance < 0.004) & (entity != "fx_rates")
        first[entity], second[entity] = table[~is_late], table[is_late | (chance > 0.998)]
    return [first, second]


@pytest.mark.timeout(1800)
def test_25_random_companies_are_as_their_books_say(warehouse, tmp_path):
    tables = random_companies(seed=3)
    empty(warehouse)
    # what has not happened at an earlier time is in neither, though it has landed; then it happens, and late rows come
    delivered = deliveries(tables, seed=3)
    for number, (as_of, known) in enumerate(((PAST, delivered[0]), (END, tables))):
        for entity, table in delivered[number].items():
            if len(table):
                write_entity(tmp_path / entity, entity, table, f"delivery{number}")
        run(warehouse, tmp_path, as_of, "hourly")
        lines = truth(known, as_of)
        found = differences(lines, warehouse)
        assert len(lines) > 10_000
        assert not found, f"{len(found)} differences at {as_of}:\n" + "\n".join(found[:30])

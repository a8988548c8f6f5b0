"""Real, foreign files land through mappings and flow to the marts: excerpts always, the whole sets where they are at hand."""

import csv
import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from northstar.base.settings import ROOT
from northstar.extract.landing.directory import land_directory
from northstar.runs import job
from northstar.warehouse import db
from tests.support import empty, run, select, silent, utc

EXCERPTS = ROOT / "tests" / "real_data"
WHOLE = ROOT.parent / "shared" / "data"


@pytest.fixture
def pounds(warehouse):
    """The warehouse, empty, with an exchange rate so that pounds are reported as they are."""
    empty(warehouse)
    with db.connect(warehouse, "loader") as connection:
        connection.execute(
            "insert into staging.fx_rates (rate_date, currency, rate_to_reporting, _batch_id, _loaded_at) values ('2000-01-01', 'GBP', 1, 0, '2000-01-01')"
        )
    return replace(warehouse, operations=warehouse.operations.model_copy(update={"mapping_in_source": True}))


def counts(settings, *tables):
    with db.connect(settings, "loader") as connection:
        return [connection.execute(f"select count(*) as n from staging.{t}").fetchone()["n"] for t in tables]


def metric(settings, metric_id, grain, period, application):
    rows = select(
        settings,
        "select value from metric_values where metric_id = %s and grain = %s and period_start = %s and application = %s and segment = ''",
        metric_id, grain, period, application,
    )  # fmt: skip
    return float(rows[0]["value"])


def test_the_shop_lands_day_by_day_and_a_second_time_changes_nothing(pounds, tmp_path):
    days = sorted((EXCERPTS / "online_retail").glob("*.csv.gz"))
    shutil.copy(EXCERPTS / "online_retail" / "_mapping.yml", tmp_path)
    for day in days:
        shutil.copy(day, tmp_path)
        land_directory(pounds, 1, str(tmp_path), progress=silent)
    tables = ("accounts", "charges", "refunds", "events")
    landed = counts(pounds, *tables)
    assert all(landed)
    for day in days:
        (tmp_path / day.name).touch()
    again = land_directory(pounds, 1, str(tmp_path), progress=silent)
    assert sum(r.inserted + r.updated for r in again) == 0 and sum(r.files for r in again) == 4 * len(days)
    assert counts(pounds, *tables) == landed
    run(pounds, tmp_path, utc("2011-04-01T00:00:00"))
    with db.connect(pounds, "loader") as connection:
        pence = connection.execute(
            "select (select sum(amount) from staging.charges where created_at < '2011-01-01') "
            "- coalesce((select sum(amount) from staging.refunds where created_at < '2011-01-01'), 0) as pence"
        ).fetchone()["pence"]
    assert metric(pounds, "cash_collected", "month", "2010-12-01", "shop") == float(pence) / 100


def test_incidents_land_as_tickets_with_their_events(pounds):
    run(pounds, EXCERPTS / "incident_log", utc("2016-07-01T00:00:00"))
    tickets, events = counts(pounds, "tickets", "ticket_events")
    assert tickets > 50 and events > 2 * tickets
    assert metric(pounds, "resolution_time", "month", "2016-03-01", "service_desk") > 0


def test_incidents_are_reopened_as_often_as_their_states_say(warehouse, tmp_path):
    """By the states alone; the log's own column has the truth."""
    empty(warehouse)
    path = EXCERPTS / "incident_log" / "incident_event_log.csv.gz"
    shutil.copy(path, tmp_path)
    truth: dict = {}
    with gzip.open(path, "rt") as lines:
        for row in csv.DictReader(lines):
            truth[row["number"]] = max(truth.get(row["number"], 0), int(row["reopen_count"]))
    mapping = str(EXCERPTS / "incident_log" / "_states.yml")
    job.run(warehouse, "nightly", utc("2016-07-01T00:00:00"), str(tmp_path), silent, mapping=mapping)
    found = select(warehouse, "select ticket_id, reopenings, is_open from fct_tickets")
    assert sum(truth.values()) > 0 and len(found) == len(truth)
    # the times of one incident contradict its rows' order: by them it was new again after it was resolved
    assert [r["ticket_id"] for r in found if r["reopenings"] != truth[r["ticket_id"]]] == ["INC0000137"]
    # the excerpt ends before it does
    assert [r["ticket_id"] for r in found if r["is_open"]] == ["INC0000152"]


def test_learners_clicks_land_as_events_and_registrations_as_accounts(pounds):
    run(pounds, EXCERPTS / "oulad", utc("2014-07-01T00:00:00"))
    accounts, events = counts(pounds, "accounts", "events")
    assert accounts > 0 and events > 250
    assert metric(pounds, "mau", "month", "2013-09-01", "university") > 0


@pytest.mark.skipif(not WHOLE.exists(), reason="the whole data sets are not beside this checkout (../shared/data)")
def test_the_whole_shop_lands_every_invoice_once(pounds):
    results = land_directory(
        pounds,
        1,
        str(WHOLE / "online_retail"),
        mapping=Path(EXCERPTS / "online_retail" / "_mapping.yml"),
        progress=silent,
    )
    assert {r.entity: (r.files, r.inserted, r.quarantined) for r in results} == {
        "accounts": (305, 4372, 0), "charges": (305, 19960, 0), "refunds": (305, 3836, 0), "events": (305, 19960, 0),
    }  # fmt: skip

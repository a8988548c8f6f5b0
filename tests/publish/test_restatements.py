"""A published value that changes leaves a trace: what it was, what it is, in which versions, and why."""

import shutil
from dataclasses import replace

import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import Rules
from northstar.cli import main as cli
from northstar.publish.certificates import input_contents
from northstar.runs.preview.preview import preview
from northstar.runs.preview.text import as_markdown, as_text
from northstar.runs.verify import verify
from northstar.use.query import query
from northstar.warehouse import db
from tests.support import changed_text, empty, run, select, silent, utc, write_rows

MARCH = utc("2025-03-01T00:00:00")


def charge(number, day, amount, updated=None):
    return {"charge_id": f"c{number}", "account_id": "a", "application": "web", "amount": amount, "currency": "USD", "status": "succeeded",
            "created_at": f"{day}T10:00:00Z", "updated_at": updated or f"{day}T10:00:00Z"}  # fmt: skip


def subscription(amount, updated):
    return {"subscription_item_id": "si", "subscription_id": "s", "account_id": "a", "application": "web", "plan_id": "p",
            "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": amount, "currency": "USD", "status": "active",
            "valid_from": "2025-01-05T00:00:00Z", "updated_at": updated}  # fmt: skip


ROWS = {
    "accounts": [{"account_id": "a", "account_type": "customer", "application": "web", "country": "US", "created_at": "2025-01-05T00:00:00Z",
                  "updated_at": "2025-01-05T00:00:00Z"}],
    "charges": [charge(1, "2025-01-10", 1000), charge(2, "2025-02-10", 2000)],
    "subscriptions": [subscription(5000, "2025-01-05T00:00:00Z")],
}  # fmt: skip


def restated(settings, metric, grain="month"):
    return [
        (str(r["period_start"].date()), float(r["old_value"]), float(r["new_value"]), r["old_version"], r["new_version"], r["reason"])
        for r in select(
            settings,
            "select * from metric_restatements where metric_id = %s and grain = %s and application = 'web' and segment = '' order by 3, 10",
            metric,
            grain,
        )
    ]  # fmt: skip


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """Four versions: the first; a late charge; a corrected subscription; another home country (a rule)."""
    empty(warehouse)
    source = tmp_path_factory.mktemp("restated")
    run(warehouse, write_rows(source, ROWS), MARCH)
    run(
        warehouse,
        write_rows(source, {"charges": [charge(3, "2025-01-20", 500)]}, "late"),
        utc("2025-03-01T05:00:00"),
        "hourly",
    )
    later = "2025-03-01T06:00:00Z"
    run(
        warehouse,
        write_rows(source, {"subscriptions": [subscription(7000, later)]}, "fixed"),
        utc("2025-03-01T07:00:00"),
        "hourly",
    )
    rules = Rules(home_country={"default": "DE"}, first_days={"web": "2024-01-01"})
    run(replace(warehouse, rules=rules), source, utc("2025-03-01T08:00:00"), "hourly")
    return warehouse


def test_a_late_charge_restates_its_month(story):
    assert restated(story, "cash_collected") == [("2025-01-01", 10.0, 15.0, 1, 2, "late_rows")]


def test_a_corrected_subscription_restates_what_it_changed(story):
    assert restated(story, "mrr") == [
        ("2025-01-01", 50.0, 70.0, 1, 3, "correction"),
        ("2025-02-01", 50.0, 70.0, 1, 3, "correction"),
    ]


def test_a_changed_setting_restates_and_says_so(story):
    assert restated(story, "international_revenue_share") == [
        ("2025-01-01", 0.0, 100.0, 3, 4, "setting"),
        ("2025-02-01", 0.0, 100.0, 3, 4, "setting"),
    ]
    assert {r["reason"] for r in select(story, "select reason from metric_restatements where new_version = 4")} == {
        "setting"
    }


def test_a_first_publication_and_open_periods_restate_nothing(story):
    rows = select(story, "select distinct new_version from metric_restatements order by 1")
    assert [r["new_version"] for r in rows] == [2, 3, 4]
    assert (
        select(story, "select 1 from metric_restatements where period_start >= '2025-03-01' and grain = 'month'") == []
    )


def test_the_marts_can_be_read_as_they_were(story):
    text = (
        "select value from metric_values where metric_id = 'mrr' and grain = 'month' and period_start = '2025-01-01' "
        "and application = 'web' and segment = ''"
    )
    values = [float(query(story, text, version)[1][0][0]) for version in (1, 2, 3, 4)]
    assert values == [50.0, 50.0, 70.0, 70.0] and float(query(story, text)[1][0][0]) == 70.0
    assert query(story, "select count(*) from metric_restatements", 1)[1] == [(0,)]
    assert query(story, "select max(published_version) from publications", 2)[1] == [(2,)]


def test_any_reader_looks_back_with_one_setting(story):
    text = (
        "select value from marts_at_version.metric_values where metric_id = 'mrr' and grain = 'month' and period_start = '2025-01-01' "
        "and application = 'web' and segment = ''"
    )
    shown = []
    with db.connect(story, "bi_reader") as connection:
        for version in (None, 1, 2, 3, 4):
            if version:
                connection.execute("select set_config('northstar.version', %s, false)", [str(version)])
            shown.append(float(connection.execute(text).fetchone()["value"]))
        certificates = connection.execute("select count(*) as n from marts_at_version.certificates").fetchone()["n"]
    assert shown == [70, 50, 50, 70, 70] and certificates == 4
    readable = select(story, "select * from marts_at_version.readable_versions order by 1")
    assert [(r["published_version"], r["is_kept"], r["is_coarse_enough"]) for r in readable] == [
        (n, True, True) for n in (1, 2, 3, 4)
    ]


def test_a_past_version_is_made_again_to_the_same_bytes_from_what_was_landed_then(story):
    found = verify(story, 2, silent)
    assert [c.name for c in found if not c.is_same] == []
    told = {c.name: c.certified["rows"] for c in found}
    # the subscription was replaced since: its first form is what version 2 was made of
    assert (
        told["charges"] == 3
        and told["subscriptions"] == 1
        and told["metric_points"] > 100
        and told["metric_series"] > 100
    )
    with db.connect(story, "owner") as connection:
        kept = input_contents(connection, None, 10**6)["subscriptions"]
        assert kept != next(c.certified for c in found if c.name == "subscriptions")


def test_a_certificate_says_what_a_version_stands_on(story):
    first, late = select(story, "select * from certificates where published_version <= 2 order by 1")
    assert first["inputs"]["charges"]["rows"] == 2 and late["inputs"]["charges"]["rows"] == 3
    assert first["inputs"]["accounts"] == late["inputs"]["accounts"]
    assert first["outputs"]["fct_payments"]["rows"] == 2 and late["outputs"]["fct_payments"]["rows"] == 3
    assert first["checks"]["metric_points.additive_metrics_add_up_over_segments"]["success"] is True
    assert first["model_tests"] > 0 and first["rules"]["home_country"] == {"default": "US"}
    assert first["coverage"]["mrr"] == {
        "grain": "month",
        "first": "2025-01-01",
        "last_complete": "2025-02-01",
        "nulls": {},
    }
    # two months of the company and of web: nobody failed to pay
    assert first["coverage"]["payment_recovery_rate"]["nulls"] == {"source_missing": 4}
    assert first["left_out"] == {"quarantined": {}, "accepted": [], "not yet": {}, "by rule": {}}


def test_a_change_behind_the_landings_back_shows_in_the_hash(story):
    batch = select(story, "select built_batch_id as b from certificates order by published_version desc limit 1")[0][
        "b"
    ]
    certified = select(story, "select inputs from certificates order by published_version desc limit 1")[0]["inputs"]
    with db.connect(story, "owner") as connection:
        assert input_contents(connection, None, batch) == certified
        connection.execute("update staging.charges set amount = amount + 1 where charge_id = 'c1'")
        changed = input_contents(connection, None, batch)
        connection.rollback()
    assert {name for name in changed if changed[name] != certified[name]} == {"charges"}


def test_what_cannot_be_verified_is_one_line(story, capsys):
    for arguments, message in (
        (["--version", "99"], "version 99 has no certificate"),
        (["--version", "4"], "version 4 was made by other models or rules"),
    ):
        assert cli.main(["verify", "--home", str(story.home), *arguments]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_the_past_is_read_only_and_has_its_limits(story):
    with pytest.raises(NorthstarError, match="version 99 was never published"):
        query(story, "select 1", 99)
    with pytest.raises(NorthstarError, match="permission denied for schema staging"):
        query(story, "delete from staging.charges", 2)


def test_a_preview_against_an_older_version_differs_in_what_history_says_and_what_the_working_tree_changes(
    story, tmp_path
):
    shutil.copytree(
        story.root / "dbt_project", tmp_path / "dbt_project", ignore=shutil.ignore_patterns("target", "logs")
    )
    (tmp_path / "expectations").symlink_to(story.root / "expectations")
    model = tmp_path / "dbt_project" / "models" / "core" / "revenue" / "metrics_revenue.sql"
    settings = replace(
        story, root=tmp_path, rules=Rules(home_country={"default": "DE"}, first_days={"web": "2024-01-01"})
    )
    with changed_text(model, "mrr * 12", "mrr * 11"):
        shown = preview(settings, against=1, progress=silent)
    key = ("metric_id", "grain", "period_start", "application", "segment", "segment_value")
    values = f"select {', '.join(key)}, value from metric_values"
    then, now = ({tuple(row[:6]): row[6] for row in query(story, values, version)[1]} for version in (1, 4))
    now = {place: value * 11 / 12 if place[0] == "arr" and value else value for place, value in now.items()}
    expected = {}
    for place in then.keys() | now.keys():
        if place not in then or place not in now or then[place] != now[place]:
            expected[place[0]] = expected.get(place[0], 0) + 1
    assert {m.counts["metric_id"]: m.counts["values"] for m in shown.metrics if m.counts["values"]} == expected
    assert {"arr", "mrr", "cash_collected", "international_revenue_share"} <= expected.keys()
    (arr,) = [m for m in shown.metrics if m.counts["metric_id"] == "arr"]
    # March, of which version 1 had no hour
    assert (arr.largest[0]["old_value"], arr.largest[0]["new_value"]) == (None, 770)
    # a mart that is built from unchanged models is compared as well
    (payments,) = [m for m in shown.marts if m.mart == "fct_payments"]
    assert (payments.rows_added, payments.rows_removed, payments.rows_changed) == (1, 0, 0)
    # core has no rows of version 1, which one line says
    assert shown.changed == {"metrics_revenue": ["definition"]} and shown.behind == [] and shown.status == 2
    text = as_text(shown).splitlines()
    assert "differ from version 1, as of 2025-03-01 00:00 UTC; compiled to other SQL now: metrics_revenue" in text[0]
    assert text[1].startswith("version 1 is of 2025-03-01 00:00 UTC and compared with what version 4 would be:")
    assert text[1] in as_markdown(shown)


def test_a_preview_against_an_older_version_may_be_limited_and_needs_a_version_that_was_published(story, capsys):
    rules = Rules(home_country={"default": "DE"}, first_days={"web": "2024-01-01"})
    shown = preview(replace(story, rules=rules), ["arr"], 1, progress=silent)
    assert {"arr", "mrr"} <= {m.counts["metric_id"] for m in shown.metrics}
    assert not any(m.counts["metric_id"] == "cash_collected" for m in shown.metrics)
    assert cli.main(["preview", "--home", str(story.home), "--against", "99"]) == 1
    assert "version 99 was never published" in capsys.readouterr().err

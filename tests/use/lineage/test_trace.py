"""A lineage leads from a landed column to whoever reads what is made of it, and back."""

import json

import pytest

from northstar.base.errors import NorthstarError
from northstar.build.lineage import METRIC, Origin
from northstar.cli import main as cli
from northstar.use.lineage.published import published_lineage
from northstar.use.lineage.readers import alerts_on_landed, find_readers
from northstar.use.lineage.text import as_text
from northstar.use.lineage.trace import find_column, trace
from northstar.warehouse import db


@pytest.fixture(scope="module")
def published(built):
    with db.connect(built, "transformer") as connection:
        return published_lineage(built, connection)


def test_every_column_of_every_model_is_followed(published):
    assert published.lineage.not_followed == {}


def test_every_metric_leads_to_a_landed_column(published):
    for name in published.lineage.columns:
        # without a calendar of support, nothing is reckoned in business hours
        if name.relation == METRIC and not name.column.endswith("_business_time"):
            assert any(
                o.relation.startswith("staging.") for o in published.lineage.upstream([name], with_rows=False)
            ), name


def test_a_landed_column_leads_to_its_metrics_and_their_readers(built):
    found = trace(built, "refunds.amount")
    assert found.name == Origin("staging.refunds", "amount")
    assert found.down.values.metrics == [
        "burn_multiple", "cash_collected", "cash_collected_constant_currency", "cash_growth_rate", "cash_growth_rate_constant_currency", "refund_rate",
    ]  # fmt: skip
    assert found.down.values.marts == {
        # the margin of a cohort is that of the cash that it kept
        "cohort_retention": ["cumulative_margin_per_account"],
        "fct_payments": ["refunded_minor"],
        "fct_refunds": ["amount_at_earlier_rate", "amount_minor", "amount_reporting"],
    }
    assert "Revenue: Cash collected" in found.down.values.by_kind["pages"]
    assert "Revenue: MRR" not in found.down.values.by_kind["pages"]
    assert "Daily report: Revenue" in found.down.values.by_kind["reports"]
    assert found.up.values == [] and "made of what sources deliver" in as_text(found)


def test_a_metric_leads_to_the_metrics_made_of_it_and_its_targets(built):
    found = trace(built, "ltv", up=False)
    assert found.up is None
    assert {"ltv_cac_ratio", "cac_payback_months", "rule_of_40"} <= set(found.down.values.metrics)
    assert not {"cac", "magic_number"} & set(found.down.values.metrics)
    # made of published metrics by a row of metrics.yml
    burn = trace(built, "burn_multiple", down=False).up.tree.steps
    assert {"cash_collected", "marketing_spend", "net_new_mrr"} == {step.name.column for step in burn}
    assert "burn_multiple" in trace(built, "cash_collected", up=False).down.values.metrics
    uptime = trace(built, "uptime", up=False).down.values.by_kind
    assert any(target.startswith("uptime of ") for target in uptime["targets"]) and "uptime_budget_burns" in str(
        uptime["alerts"]
    )


def test_depth_shortens_the_tree_and_not_the_lists(built):
    whole, short = trace(built, "mrr", down=False), trace(built, "mrr", down=False, depth=2)
    assert short.up.values == whole.up.values and short.down is None
    assert as_text(short).count("└─") == 3 and "..." in as_text(short)


def test_a_name_is_one_column(published):
    lineage = published.lineage
    assert find_column(lineage, "core.account_mrr.mrr_after") == find_column(lineage, "account_mrr.mrr_after")
    with pytest.raises(
        NorthstarError,
        match=r"accounts.country is in several schemas: write core.accounts.country or staging.accounts.country",
    ):
        find_column(lineage, "accounts.country")
    with pytest.raises(
        NorthstarError, match=r"no metric or column charges.amout; did you mean charges.amount\? a column is written"
    ):
        find_column(lineage, "charges.amout")


def test_the_second_time_nothing_is_read_from_the_sql(built, published, monkeypatch):
    from northstar.use.lineage import published as module

    monkeypatch.setattr(module, "read_definitions", None)
    with db.connect(built, "transformer") as connection:
        again = published_lineage(built, connection)
    assert again == published


def test_a_column_of_a_mart_is_read_by_the_panels_that_name_it(published):
    def pages(mart, *columns):
        return find_readers(published.manifest, [], [], {mart: columns}).get("pages", [])

    assert "Revenue: Paying cohorts" in pages("cohort_retention", "retention_percent")
    assert pages("cohort_retention", "revenue_retention_percent") == []
    assert "Revenue: MRR bridge" in pages("mrr_movements", "amount_exact") and pages("mrr_movements", "country") == []
    assert pages("mrr_movements", "*") == pages("mrr_movements", "amount_exact")


def test_a_rule_that_reads_landed_rows_is_a_reader():
    assert "breach" in alerts_on_landed([("security_events", "kind")])
    assert alerts_on_landed([("reviews", "rating")]) == []


def test_the_command_prints_text_and_json(built, capsys):
    assert cli.main(["lineage", "gmv", "--home", str(built.home), "--up"]) == 0
    text = capsys.readouterr().out
    assert "bookings (cancelled_at, currency, price_amount, requested_at)" in text and "goes into" not in text
    assert (
        cli.main(["lineage", "marts.fct_bookings.price_reporting", "--home", str(built.home), "--format", "json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (
        told["kind"] == "column" and {"entity": "bookings", "column": "price_amount"} in told["up"]["landed"]["values"]
    )
    assert {"gmv", "average_session_value"} <= set(told["down"]["values"]["metrics"])
    assert cli.main(["lineage", "mrr", "--home", str(built.home), "--depth", "0"]) == 1

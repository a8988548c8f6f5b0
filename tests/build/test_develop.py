"""The inner loop on the published small company: every command reads the working tree, nothing is built, and the warehouse stays as it was."""

import os
import shutil
from dataclasses import replace
from decimal import Decimal

import pytest

from northstar.base.errors import NorthstarError
from northstar.build import develop
from northstar.cli.main import main
from tests.support import changed_text, select

FLOWS = "models/core/payments/cash_flows.sql"
MONTHS = "select period_start, value from metric_values where metric_id = '{}' and grain = 'month' and application = 'all' and segment = '' order by 1 desc"


@pytest.fixture(scope="module")
def tree(built, tmp_path_factory):
    """Settings of the published home with a checkout of its own, which dbt parses once for all tests."""
    checkout = tmp_path_factory.mktemp("checkout")
    shutil.copytree(
        built.root / "dbt_project", checkout / "dbt_project", ignore=shutil.ignore_patterns("target", "logs")
    )
    target = os.environ.get("DBT_TARGET_PATH")
    yield replace(built, root=checkout)
    if target is not None:
        os.environ["DBT_TARGET_PATH"] = target


def changed(settings, path, old, new):
    """A file of the tree's dbt project with some of its text replaced."""
    return changed_text(settings.root / "dbt_project" / path, old, new)


def test_the_values_of_a_metric_are_the_published_ones(built, tree):
    shown = develop.show(tree, "payment_failure_rate", 10)
    assert shown.computed == []
    published = {r["period_start"]: r["value"] for r in select(built, MONTHS.format("payment_failure_rate"))}
    assert shown.rows
    for row in shown.rows:
        # what is not measured yet is kept out when it is published, not by the model
        assert published[row["period_start"]] in (row["value"], None)
    assert [r["value"] for r in shown.rows if published[r["period_start"]] is not None]
    by_code = develop.show(tree, "payment_failure_rate", 3, "week", "web", "country").rows
    assert len(by_code) == 3
    assert {(r["grain"], r["application"], r["segment"]) for r in by_code} == {("week", "web", "country")}


def test_a_change_of_a_fact_is_seen_in_the_metric_and_nowhere_else(built, tree):
    before = select(built, MONTHS.format("cash_collected"))
    with changed(tree, FLOWS, "then amount_reporting else", "then 2 * amount_reporting else"):
        shown = develop.show(tree, "cash_collected", 10)
    # series begin as they did, but are computed from the changed fact
    assert shown.computed == ["cash_flows", "series_payments"]
    charged = {
        r["month"]: r["charged"]
        for r in select(built, "select date_trunc('month', created_at) as month, sum(amount_reporting) as charged from fct_payments where status = 'succeeded' group by 1")
    }  # fmt: skip
    once = {r["period_start"]: r["value"] for r in before}
    assert shown.rows
    for row in shown.rows:
        assert abs(row["value"] - once[row["period_start"]] - charged[row["period_start"]]) <= Decimal("0.01")
    assert select(built, MONTHS.format("cash_collected")) == before
    assert "computed on the way" in develop.as_text(shown)


def test_a_new_row_of_the_catalogue_counts_at_once(tree):
    row = '\npayment_retries_a_quarter,revenue,3,count,down,sum,quarter,,0,,,,"retries"\nrefund_rate,'
    with (
        changed(tree, "seeds/metric_catalogue.csv", "\nrefund_rate,", row),
        changed(tree, "models/core/payments/metrics_payments.sql", "    'payment_retries': ['retries', none],", "    'payment_retries': ['retries', none],\n    'payment_retries_a_quarter': ['retries', none],"),
    ):  # fmt: skip
        shown = develop.show(tree, "payment_retries_a_quarter", 10)
    assert {"metric_catalogue", "metric_shapes"} <= set(shown.computed)
    assert shown.rows and {r["grain"] for r in shown.rows} == {"quarter"}


@pytest.mark.parametrize(
    ("path", "old", "new", "problem"),
    [
        (FLOWS, "ref('fct_payments')", "ref('fct_paymentz')", "cash_flows.sql:20: cash_flows reads 'fct_paymentz', which is no model or seed; did you mean 'fct_payments'?"),
        (FLOWS, "    failure_code,\n    created_at", "    failure_kode,\n    created_at", 'cash_flows.sql:10: column "failure_kode" does not exist'),
        (FLOWS, "{{ ref('fct_refunds') }}", "{{ reff('fct_refunds') }}", "cash_flows.sql:39: 'reff' is undefined"),
        (FLOWS, "union all\n", "union all\n\nselect 1 +\n", "cash_flows.sql:"),
        (FLOWS, "then amount_reporting else", "then amount_reporting / (amount_reporting - amount_reporting) else", "cash_flows.sql:15: division by zero (what may be 0: `/ nullif(..., 0)`)"),
        ("models/core/payments/metrics_payments.sql", "['refunded', 'charged']", "['refundedd', 'charged']", 'metrics_payments.sql:61: column "refundedd" does not exist'),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_file_and_line(tree, capsys, path, old, new, problem):
    with changed(tree, path, old, new), pytest.raises(NorthstarError) as caught:
        develop.show(tree, "refund_rate", 1)
    assert problem in str(caught.value) and str(caught.value).startswith("dbt_project/models/")
    assert "\n" not in str(caught.value)


def test_rows_with_one_key_are_named(tree):
    with (
        # a join that gives several rows for one
        changed(
            tree,
            "models/marts/payments/fct_payments.sql",
            "left join currencies on charges.currency = currencies.currency",
            "left join currencies on true",
        ),
        pytest.raises(
            NorthstarError,
            match=r"^dbt_project/models/marts/payments/fct_payments.sql:\d+: the key is not unique: \d+ rows have charge_id=\S+$",
        ),
    ):
        develop.show(tree, "fct_payments", 1)


def test_a_new_model_is_shown_as_the_build_would_plan_it(tree):
    """The sizes of grouped CTEs are guesses: with nested loops, a metric of the demonstration company took longer than two minutes."""
    model = tree.root / "dbt_project" / "models" / "core" / "shared" / "plans.sql"
    model.write_text(
        "select current_setting('enable_nestloop') as loops, current_setting('enable_mergejoin') as merges\n"
    )
    try:
        assert [tuple(row.values()) for row in develop.show(tree, "plans", 5).rows] == [("off", "off")]
    finally:
        model.unlink()


def test_unit_tests_of_a_metric(tree):
    (test,) = develop.unit_test(tree, "refund_rate")
    assert (test.name, test.model, test.passed) == ("a_month_of_payments_by_hand", "metrics_payments", True)
    with changed(tree, "models/core/payments/metrics_payments.sql", "'sum(r.retries)'", "'sum(r.retries) + 1'"):
        (test,) = develop.unit_test(tree, "refund_rate")
    assert not test.passed and "payment_retries" in test.message
    with pytest.raises(NorthstarError, match="the model dim_dates has no unit test"):
        develop.unit_test(tree, "dim_dates")
    with pytest.raises(NorthstarError, match="there is no model or metric 'refund_rat'; did you mean 'refund_rate'"):
        develop.unit_test(tree, "refund_rat")


def test_check_lists_all_mistakes(tree):
    assert develop.check_project(tree) == []
    with (
        changed(tree, "seeds/metric_catalogue.csv", "\nrefund_rate,", "\nrefund_ratee,"),
        changed(tree, "models/marts/payments/fct_refunds.sql", "-- Grain:", "-- Grains:"),
    ):
        findings = [str(finding) for finding in develop.check_project(tree)]
    assert len(findings) == 5
    assert "fct_refunds.sql:1: the first line has to say what a row is" in findings[0]
    assert "refund_ratee has no unit test" in findings[1]
    assert "refund_rate is published and no longer here" in findings[2]


def test_the_commands_print_rows_and_results(built, capsys, monkeypatch):
    monkeypatch.setenv("DBT_TARGET_PATH", os.environ.get("DBT_TARGET_PATH", ""))
    assert main(["dev", "show", "fct_payments", "--rows", "2", "--home", str(built.home)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("charge_id") and len(lines) == 4
    assert main(["dev", "show", "fct_payments", "--rows", "0", "--home", str(built.home)]) == 1

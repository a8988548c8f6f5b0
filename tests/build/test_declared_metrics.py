"""Metrics that are rows of metrics.yml: what is written for them, and what is wrong with a row, each as somebody would get it wrong."""

import csv
import re
import shutil

import pytest
import yaml

from northstar.base.config_files import ConfigError
from northstar.base.settings import ROOT
from northstar.build.declared_files import CATALOGUE, FOLDER, declared_files
from northstar.build.declared_metrics import read_project
from northstar.build.structure import check_files

NEW = """  payments_by_hand:
    domain: revenue
    unit: count
    direction: up
    table: fct_payments
    measure: count(*)
    where: status = 'succeeded'
    at: created_at
    segments: [country]
    needs: [charges]
    definition: succeeded charges by created_at
    example:
      rows:
        - {application: shop, created_at: 2025-04-03 00:00:00+00, status: succeeded}
        - {application: shop, created_at: 2025-04-04 00:00:00+00, status: failed}
      numerator: 1
"""


@pytest.fixture
def project(tmp_path):
    directory = tmp_path / "dbt_project"
    shutil.copytree(ROOT / "dbt_project", directory, ignore=shutil.ignore_patterns("target", "logs"))
    return directory


def change(project, old: str, new: str) -> None:
    path = project / "metrics.yml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_row_is_the_whole_metric(project):
    with (project / "metrics.yml").open("a") as file:
        file.write(NEW)
    files = declared_files(project)
    row = next(r for r in csv.DictReader(files[CATALOGUE].splitlines()) if r["metric_id"] == "payments_by_hand")
    assert (row["kind"], row["grains"], row["segments"], row["window_days"]) == (
        "sum",
        "day,week,month,quarter,year",
        "country",
        "0",
    )
    assert (
        "'payments_by_hand': ['charges']" in files[next(path for path in files if path.name == "declared_metrics.sql")]
    )
    assert "(status = 'succeeded')" in files[FOLDER / "metrics_counted.sql"]
    assert "(status = 'succeeded')" not in files[FOLDER / "series_counted.sql"]
    assert "name: payments_by_hand_by_hand" in files[FOLDER / "_unit_tests.yml"]
    (finding, *_) = check_files(project)
    assert "metric_catalogue.csv:1: this is not what metrics.yml declares" in str(finding)
    for path, content in files.items():
        (project / path).write_text(content)
    assert check_files(project) == []


def test_an_example_of_money_may_be_written_in_whole_units(project):
    as_written = declared_files(project)[FOLDER / "_unit_tests.yml"]
    change(project, "value: 600.00", "value: 600")
    assert declared_files(project)[FOLDER / "_unit_tests.yml"] == as_written


def test_what_a_row_leaves_out_follows_from_its_parts(project):
    change(project, "    grains: [month, quarter, year]\n    segments: []\n", "")
    metric = read_project(project).composed[0]
    assert metric.metric_id == "quick_ratio"
    assert (metric.row["grains"], metric.row["segments"]) == ("day,week,month,quarter,year", "plan_tier;country")
    change(project, "    grains: [month]\n    dashboards: executive\n    reports: monthly\n    definition: growth", "    dashboards: executive\n    definition: growth")  # fmt: skip
    # year_before knows no day and no week
    assert read_project(project).composed[2].row["grains"] == "month,quarter,year"


def test_the_example_of_a_metric_by_year_is_of_a_year_and_the_one_before(project):
    change(project, "    grains: [month]\n    dashboards: executive\n    reports: monthly\n    definition: growth", "    grains: [year]\n    dashboards: executive\n    definition: growth")  # fmt: skip
    tests = yaml.safe_load(declared_files(project)[FOLDER / "_unit_tests.yml"])["unit_tests"]
    given = next(test for test in tests if test["name"] == "rule_of_40_by_hand")["given"]
    starts = {row["period_start"] for part in given for row in part["rows"] if "period_start" in row}
    assert starts == {"2025-01-01 00:00:00+00", "2024-01-01 00:00:00+00"}


def test_the_window_is_the_longest_of_the_parts(project):
    change(
        project, "numerator: marketing_spend - cash_collected", "numerator: retention_d30.numerator - cash_collected"
    )
    change(project, "marketing_spend: 1500", "retention_d30.numerator: 1500")
    change(
        project,
        "grains: [month, quarter, year]\n    dashboards: executive\n    reports: monthly;quarterly",
        "grains: [month]\n    dashboards: executive",
    )
    assert read_project(project).composed[4].row["window_days"] == "30"


@pytest.mark.parametrize(
    ("old", "new", "at", "problem"),
    [
        ("numerator: new_mrr +", "numerator: new_mr +", "numerator: new_mr", "composed.quick_ratio.numerator: unknown metric 'new_mr'; did you mean 'new_mrr'?"),
        ("numerator: new_mrr +", "numeratr: new_mrr +", "numeratr:", "unknown key; did you mean 'numerator'?"),
        ("numerator: new_mrr +", "numerator: 5 + new_mrr +", "numerator: 5", "no rows are behind 5"),
        ("numerator: new_mrr +", "numerator: sum(new_mrr) +", "numerator: sum", "is no arithmetic: give arithmetic over metrics"),
        ("numerator: new_mrr +", "numerator: new_mrr + +* ", "numerator: new_mrr + +*", "is no expression: give arithmetic over metrics"),
        ("numerator: new_mrr +", "numerator: magic_number +", "numerator: magic", "magic_number is composed itself: write out what it is made of"),
        ("numerator: new_mrr +", "numerator: new_mrr.total +", "numerator: new_mrr.total", "a metric has a numerator, a denominator and a value"),
        ("previous(marketing_spend)\n", "previos(marketing_spend)\n", "denominator: previos", "unknown function 'previos'; did you mean 'previous'?"),
        ("grains: [month, quarter, year]", "grains: [hour]", "grains: [hour]", "new_mrr has no grain 'hour'; the parts share day, week, month, quarter, year"),
        ("grains: [month, quarter, year]", "grains: [mnth]", "grains: [mnth]", "give grains, such as [month, quarter]"),
        ("segments: []", "segments: [plan_teir]", "segments: [plan_teir]", "new_mrr has no segment 'plan_teir'"),
        ("domain: revenue", "domain: revenu", "domain: revenu", "unknown domain 'revenu'; did you mean 'revenue'?"),
        ("given: {new_mrr: 60, ", "given: {", "given: {", "new_mrr is missing; give each part a number"),
        ("given: {new_mrr: 60, ", "given: {new_mr: 60, ", "given: {new_mr", "'new_mr' is no part of the expressions; did you mean 'new_mrr'?"),
        ("      denominator: 120\n", "", "example:", "the metric has a denominator: give it too"),
        ("    kind: snapshot\n", "    kind: ratio\n", "kind: ratio", "a ratio has a denominator, and nothing else has one"),
        ("    unit: percent\n", "    unit: ratio\n", "numerator: 100 *", "year_before(mrr) may have no value, and a metric without a denominator would be 0 then"),
        ("quick_ratio:", "arpu:", "arpu:", "arpu is a metric already: of metrics_revenue"),
        ("table: spend_days", "table: spend_day", "table: spend_day", "unknown model 'spend_day'; did you mean 'spend_days'?"),
        ("sum(amount_reporting)", "sum(amount_reportin)", "measure:", "spend_days has no column 'amount_reportin'; did you mean 'amount_reporting'?"),
        ("sum(amount_reporting)", "total(amount_reporting)", "measure:", "give count(*), count(distinct COLUMN), sum(COLUMN) or avg(COLUMN)"),
        ("at: spend_on", "at: spent_on", "at: spent_on", "spend_days has no column 'spent_on'; did you mean 'spend_on'?"),
        ("    at: spend_on\n", "    at: spend_on\n    needs: [marketing_spent]\n", "needs:", "unknown entity 'marketing_spent'; did you mean 'marketing_spend'?"),
        ("segments: [channel]", "segments: [chanel]", "segments: [chanel]", "spend_days has no column 'chanel'; did you mean 'channel'?"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_is_one_line_with_file_and_line(project, old, new, at, problem):
    change(project, old, new)
    line = next(n for n, text in enumerate((project / "metrics.yml").read_text().splitlines(), 1) if at in text)
    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        read_project(project)
    assert str(caught.value).startswith("dbt_project/metrics.yml, line "), caught.value
    assert caught.value.line == line and "\n" not in str(caught.value)

"""What a run refuses to build, each as somebody would get it wrong, on a copy of the project."""

import csv
import re
import shutil
from pathlib import Path

import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import ROOT
from northstar.build.generate import METRIC_MODELS
from northstar.build.results import read_definitions
from northstar.build.structure import check_files, check_metrics, check_removals, raise_for
from northstar.warehouse import db

MART = """-- Grain: account_id. How an account is.
{{ config(unique_key=['account_id']) }}

select account_id from {{ ref('accounts') }}
"""
DESCRIBED = """
- name: account_health
  description: How an account is.
  config: {contract: {enforced: true}}
  columns:
  - {name: account_id, data_type: text, description: the account}
  data_tests:
  - unique_key: {arguments: {columns: [account_id]}}
"""


@pytest.fixture
def project(tmp_path):
    directory = tmp_path / "dbt_project"
    shutil.copytree(ROOT / "dbt_project", directory, ignore=shutil.ignore_patterns("target", "logs"))
    return directory


@pytest.fixture
def definitions(built):
    with db.connect(built, "transformer") as connection:
        version = connection.execute("select code_version from audit.definitions limit 1").fetchone()["code_version"]
        return read_definitions(connection, version)


def add_mart(project: Path, model: str = MART, described: str = DESCRIBED) -> None:
    folder = project / "models" / "marts" / "accounts"
    (folder / "account_health.sql").write_text(model)
    with open(folder / "_accounts.yml", "a") as handle:
        handle.write(described)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_project_has_no_mistakes(built, project, definitions):
    assert check_files(project) == []
    assert check_metrics(project, definitions) == []
    with db.connect(built, "transformer") as connection:
        assert check_removals(project, connection) == []


def test_a_complete_mart_is_accepted(project):
    add_mart(project)
    assert check_files(project) == []


@pytest.mark.parametrize(
    ("model", "described", "problem"),
    [
        (MART, "", "account_health.sql:1: the model is not described: add it to models/marts/accounts/_accounts.yml"),
        (MART.replace("-- Grain: account_id. How", "-- How"), DESCRIBED, "account_health.sql:1: the first line has to say what a row is"),
        (MART.replace("{{ config(unique_key=['account_id']) }}", ""), DESCRIBED, "a mart needs the key of its rows"),
        (MART, DESCRIBED.replace("  description: How an account is.\n", ""), "account_health has no description"),
        (MART, DESCRIBED.replace("  config: {contract: {enforced: true}}\n", ""), "account_health is a mart without a contract"),
        (MART, DESCRIBED.replace(", description: the account", ""), "the column account_health.account_id has no description"),
        (MART, DESCRIBED.replace("data_type: text, ", ""), "the column account_health.account_id has no data_type"),
        (MART, DESCRIBED.partition("  data_tests")[0], "account_health has no test of its key"),
    ],
)  # fmt: skip
def test_an_incomplete_mart_is_named_with_file_and_line(project, model, described, problem):
    add_mart(project, model, described)
    (finding,) = check_files(project)
    assert problem in str(finding)
    with pytest.raises(NorthstarError, match=re.escape(problem)):
        raise_for([finding])


def test_the_line_is_that_of_the_mart_in_its_yaml(project):
    add_mart(project, described=DESCRIBED.replace(", description: the account", ""))
    (finding,) = check_files(project)
    lines = (project / finding.path).read_text().splitlines()
    assert lines[finding.line - 1] == "  - {name: account_id, data_type: text}"


def test_a_metric_model_that_is_in_no_list_is_refused(project):
    model = project / "models" / "core" / "payments" / "metrics_payments.sql"
    shutil.copy(model, model.with_name("metrics_cash.sql"))
    findings = [str(finding) for finding in check_files(project)]
    assert len(findings) == 2 and "metrics_cash.sql:1: the model is not described" in findings[0]
    assert findings[1].startswith(f"dbt_project/{METRIC_MODELS}:1: ") and "northstar dev generate" in findings[1]


def test_a_metric_without_an_owner_or_a_unit_test_is_named(project):
    change(project / "seeds" / "metric_owners.csv", "acquisition,growth\n", "")
    tests = project / "models" / "core" / "revenue" / "_unit_tests.yml"
    tests.write_text(re.sub(r"\n +- \{metric_id: arpu, grain: month, numerator.*", "", tests.read_text()))
    findings = [str(finding) for finding in check_files(project)]
    assert "metric_catalogue.csv:15: arpu has no unit test: add the result" in findings[0]
    assert "market_share: the domain 'acquisition' has no owner in seeds/metric_owners.csv" in "".join(findings)
    assert all("no owner" in finding for finding in findings[1:])


def test_a_yaml_file_that_is_none_is_one_line(project):
    (project / "models" / "marts" / "accounts" / "_accounts.yml").write_text("models: [")
    with pytest.raises(NorthstarError, match=r"_accounts\.yml is not valid YAML"):
        check_files(project)


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        (
            "\nrefund_rate,",
            "\nrefund_ratee,",
            [
                "metrics_payments.sql:{line}: refund_rate has no row in seeds/metric_catalogue.csv, so its values would vanish (did you mean 'refund_ratee'?)",
                "refund_ratee is a metric of no model (did you mean 'refund_rate'?)",
            ],
        ),
        (
            "\nmrr,revenue,1,money,up,snapshot,\"day,week,month,quarter,year\",plan_tier;",
            "\nmrr,revenue,1,money,up,snapshot,\"day,week,month,quarter,year\",plan_teir;",
            ["mrr, segments: 'plan_teir' is measured by nothing that metrics_revenue reads; did you mean 'plan_tier'?"],
        ),
        (
            "\narr,revenue,2,money,up,snapshot,\"month,quarter,year\"",
            "\narr,revenue,2,money,up,snapshot,\"hour,month,quarter,year\"",
            ["arr, grains: 'hour' is measured by nothing that metrics_revenue reads; it has day, month, quarter, week, year"],
        ),
    ],
)  # fmt: skip
def test_a_catalogue_that_the_models_contradict_is_named(project, definitions, old, new, problems):
    change(project / "seeds" / "metric_catalogue.csv", old, new)
    findings = [str(finding) for finding in check_metrics(project, definitions)]
    assert len(findings) == len(problems)
    text = (project / "models" / "core" / "payments" / "metrics_payments.sql").read_text().splitlines()
    line = next(n for n, content in enumerate(text, 1) if "'refund_rate'" in content)
    for finding, problem in zip(findings, problems, strict=True):
        assert problem.replace("{line}", str(line)) in finding


def test_a_metric_that_two_models_make_is_named(project, definitions):
    model = project / "models" / "core" / "payments" / "metrics_payments.sql"
    shutil.copy(model, model.with_name("metrics_cash.sql"))
    findings = check_metrics(project, definitions | {"metrics_cash": definitions["metrics_payments"]})
    assert "refund_rate is a metric of metrics_cash too" in [finding.problem for finding in findings]


@pytest.mark.parametrize(
    ("old", "new", "problem", "entry"),
    [
        ("segment", "country;failure_code", "payment_failure_rate, segments: failure_code", "metric_id: payment_failure_rate, segment: failure_code"),
        ("grain", "hour,day,week,month", "payment_failure_rate, grains: hour", "metric_id: payment_failure_rate, grain: hour"),
        ("metric", "", "payment_failure_rate is published", "metric_id: payment_failure_rate"),
    ],
)  # fmt: skip
def test_what_is_published_does_not_vanish_unless_somebody_says_so(built, project, old, new, problem, entry):
    path = project / "seeds" / "metric_catalogue.csv"
    with open(path, newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        if row["metric_id"] == "payment_failure_rate":
            assert old == "metric" or new in (row["segments"], row["grains"])
            row["segments"] = "country" if old == "segment" else row["segments"]
            row["grains"] = "day,week,month" if old == "grain" else row["grains"]
    with open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if old != "metric" or row["metric_id"] != "payment_failure_rate")
    with db.connect(built, "transformer") as connection:
        (finding,) = check_removals(project, connection)
        assert problem in finding.problem and entry in finding.problem
        (project / "retired_metrics.yml").write_text(f"retired:\n  - {{{entry}, because: nobody reads it}}\n")
        assert check_removals(project, connection) == []
        (project / "retired_metrics.yml").write_text(f"retired:\n  - {{{entry}}}\n")
        with pytest.raises(NorthstarError, match=r"line 2.*`because` is missing"):
            check_removals(project, connection)

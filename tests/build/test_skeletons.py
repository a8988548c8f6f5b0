"""What `northstar new` writes: the check names exactly the lines that need thought, and once they are written there is nothing left to do."""

import re
import shutil
from pathlib import Path

import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import ROOT
from northstar.build import generate, skeletons
from northstar.build.structure import check_files, find_unfinished
from northstar.extract.skeleton import new_source
from tests.support import replace_entry

PAGES = {name: (ROOT / "docs" / name).read_text() for name in ("add_a_metric.md", "add_a_model.md")}


def finished(page: str) -> list[str]:
    """The fenced blocks of a page: what it has people fill in."""
    return re.findall(r"^```(?:sql|yaml)\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the skeletons write into."""
    shutil.copytree(ROOT / "dbt_project", tmp_path / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copytree(ROOT / "expectations", tmp_path / "expectations")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "sources.md", tmp_path / "docs")
    for folder in ("plugins/northstar/extract/sources", "tests/extract/sources"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def files_of(checkout: Path) -> dict[Path, str]:
    return {path.relative_to(checkout): path.read_text() for path in checkout.rglob("*") if path.is_file()}


def require_only_todos(checkout: Path, before: dict[Path, str]) -> None:
    """Fail unless the check names each TODO of what was written since, by file and line, and nothing else."""
    project = checkout / "dbt_project"
    found = {(finding.path, finding.line) for finding in find_unfinished(project)}
    assert found and [str(f) for f in check_files(project)] == [str(f) for f in find_unfinished(project)]
    todos = {
        (path, number)
        for path, text in files_of(checkout).items()
        if before.get(path) != text and path.parts[0] != "docs"
        for number, line in enumerate(text.splitlines(), 1)
        if "TODO" in line
    }
    assert {(Path("dbt_project", path), line) for path, line in found} == {
        (Path("dbt_project", Path(*path.parts[1:])) if path.parts[0] == "dbt_project" else Path("dbt_project", "..", path), line)
        for path, line in todos
    }  # fmt: skip


@pytest.mark.parametrize("number", [0, 1])
def test_a_metric_without_sql_is_a_row_in_one_file(checkout, number):
    project, before = checkout / "dbt_project", files_of(checkout)
    if number == 0:
        written = skeletons.new_composed_metric(project, "collected_share", "cash_collected", "mrr")
    else:
        written = skeletons.new_counted_metric(project, "large_payments", "fct_payments")
    assert written == [project / "metrics.yml"]
    require_only_todos(checkout, before)
    row = finished("add_a_metric.md")[number]
    replace_entry(project / "metrics.yml", row.splitlines()[0], row)
    assert "this is not what metrics.yml declares" in str(check_files(project)[0])
    generate.main(project)
    assert check_files(project) == []


def test_the_keys_of_a_skeleton_are_those_of_the_finished_row(checkout):
    project = checkout / "dbt_project"
    skeletons.new_composed_metric(project, "collected_share", "cash_collected", "mrr")
    text = (project / "metrics.yml").read_text()
    written = text[text.index("  collected_share:") : text.index("counted:")]
    assert re.findall(r"^ +\w+:", written, re.MULTILINE) == re.findall(r"^ +\w+:", finished("add_a_metric.md")[0], re.MULTILINE)  # fmt: skip


def test_a_metric_in_sql_has_a_line_in_each_of_its_places(checkout):
    project, before = checkout / "dbt_project", files_of(checkout)
    written = skeletons.new_sql_metric(project, "payment_retry_share", "metrics_payments")
    assert [path.name for path in written] == [
        "metric_catalogue.csv",
        "metrics_payments.sql",
        "needs.sql",
        "_unit_tests.yml",
    ]
    require_only_todos(checkout, before)
    # the page has the finished lines
    lines = re.findall(r"^ {8}(.*payment_retry_share\b.*[,}\"])$", PAGES["add_a_metric.md"], re.MULTILINE)
    in_model, in_catalogue, in_needs, shape, result = lines
    by_file = {
        "metrics_payments.sql": [in_model],
        "metric_catalogue.csv": [in_catalogue],
        "needs.sql": [in_needs],
        "_unit_tests.yml": [shape, result],
    }
    for path in written:
        remaining = iter(by_file[path.name])
        text = re.sub(r"\S.*TODO.*", lambda _, remaining=remaining: next(remaining), path.read_text())
        path.write_text(text)
    assert check_files(project) == []


def test_a_mart_comes_with_its_contract_unit_test_and_checks(checkout):
    project, before = checkout / "dbt_project", files_of(checkout)
    written = skeletons.new_model(
        project, "failures_by_code", "marts/payments", "fct_payments", ["application", "month", "failure_code"]
    )
    model, described, tests, checks = written
    require_only_todos(checkout, before)
    sql, entry, test, suite = finished("add_a_model.md")
    model.write_text(sql)
    replace_entry(described, "- name: failures_by_code", entry)
    replace_entry(tests, "  - name: failures_by_code_by_hand", test)
    checks.write_text(suite)
    assert check_files(project) == []


def test_a_connector_comes_with_its_test_and_its_docs(checkout):
    before = files_of(checkout)
    module, test, page = new_source(checkout, "acme_desk", "tickets")
    require_only_todos(checkout, before)
    for path in (module, test):
        compile(path.read_text(), path.name, "exec")
    assert page.read_text().endswith(
        "## Acme Desk\n- TODO: what of tickets it cannot give, and what it makes of what the contract does not know.\n"
    )


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda c: skeletons.new_composed_metric(c / "dbt_project", "mrr", "arr", None), "there is a metric 'mrr' already"),
        (lambda c: skeletons.new_composed_metric(c / "dbt_project", "Mrr", "arr", None), "'Mrr' is no name: use small letters"),
        (lambda c: skeletons.new_composed_metric(c / "dbt_project", "new_one", "mr", None), "numerator: unknown metric 'mr'; did you mean 'mrr'?"),
        (lambda c: skeletons.new_counted_metric(c / "dbt_project", "new_one", "fct_payment"), "there is no model 'fct_payment'; did you mean 'fct_payments'?"),
        (lambda c: skeletons.new_sql_metric(c / "dbt_project", "new_one", "metrics_payment"), "there is no metric model 'metrics_payment'; did you mean 'metrics_payments'?"),
        (lambda c: skeletons.new_model(c / "dbt_project", "fct_payments", "marts/payments", "fct_payments", ["application"]), "there is a model 'fct_payments' already"),
        (lambda c: skeletons.new_model(c / "dbt_project", "new_one", "marts/payment", "fct_payments", ["application"]), "there is no folder models/marts/payment; did you mean 'marts/payments'?"),
        (lambda c: new_source(c, "zendesk", "tickets"), "there is a connector 'zendesk' already"),
        (lambda c: new_source(c, "acme_desk", "ticket"), "there is no entity 'ticket'; did you mean 'tickets'?"),
        (lambda c: new_source(c / "docs", "acme_desk", "tickets"), "is no checkout of Northstar"),
    ],
)  # fmt: skip
def test_what_cannot_be_new_is_one_line(checkout, write, problem):
    before = files_of(checkout)
    with pytest.raises(NorthstarError, match=re.escape(problem)):
        write(checkout)
    assert files_of(checkout) == before


def test_one_skeleton_is_finished_before_the_next(checkout):
    skeletons.new_composed_metric(checkout / "dbt_project", "collected_share", "cash_collected", "mrr")
    with pytest.raises(NorthstarError, match=r"metrics\.yml:\d+: still to be written: .*; finish that first"):
        skeletons.new_counted_metric(checkout / "dbt_project", "large_payments", "fct_payments")

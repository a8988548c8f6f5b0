"""The pages for developers, followed to the letter."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from northstar.base.settings import ROOT
from northstar.cli import develop, look, new
from northstar.cli.main import main
from northstar.extract import sources
from northstar.warehouse import db
from tests.support import replace_entry, select


def commands(page: str) -> str:
    """The indented blocks of a page, as one shell script."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = text.splitlines()
    return "\n".join(line[4:] for line in lines if line.startswith("    ") or not line.strip())


def test_add_a_source_does_what_it_says():
    with tempfile.TemporaryDirectory(prefix="northstar-docs-") as place:
        # Postgres may run as another user
        Path(place).chmod(0o755)
        script = commands("add_a_source.md").replace("/tmp/desk", f"{place}/desk")
        script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
        done = subprocess.run(["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, timeout=1100)
    assert done.returncode == 0, done.stderr
    answer = [line.split() for line in done.stdout.splitlines()]
    assert ["T-1", "urgent", "1.5"] in [row[:3] for row in answer], done.stdout
    assert any(row[:2] == ["T-2", "normal"] for row in answer), done.stdout


def test_the_connector_that_the_page_adds_works_and_is_short(warehouse, tmp_path, monkeypatch):
    module, test = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / "add_a_source.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert len([line for line in (module + test).splitlines() if line.strip()]) < 60
    (tmp_path / "acme_desk.py").write_text(module)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    names: dict = {}
    exec(compile(test, "test_acme_desk.py", "exec"), names)
    names["test_tickets_land_and_only_changes_come_after"](warehouse, monkeypatch)


def test_what_the_readme_has_a_newcomer_ask_is_answered(built, capsys):
    minutes = (ROOT / "README.md").read_text().split("## Five minutes")[1].split("\n## ")[0]
    asked = [shlex.split(line, comments=True) for line in minutes.splitlines() if line.startswith("    northstar ")]
    assert [words[1] for words in asked] == ["sql", "explain", "sql", "verify", "report"]
    # the last two take long, or leave something behind; tests of their own call them
    for words in asked[:3]:
        assert main([*words[1:], "--home", str(built.home)]) == 0, capsys.readouterr().err


def test_your_own_company_does_what_it_says():
    with tempfile.TemporaryDirectory(prefix="northstar-docs-") as place:
        Path(place).chmod(0o755)
        script = commands("your_own_company.md").replace("/tmp/acorn", f"{place}/acorn")
        script = f"export PATH={Path(sys.executable).parent}:$PATH\n{script}"
        done = subprocess.run(["bash", "-euc", script], cwd=place, capture_output=True, text=True, timeout=1100)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = [line.split() for line in done.stdout.splitlines()]
    assert ["179.9"] in answer, done.stdout
    # the funnel of its own file, complete after its own window
    for row in (["visit", "3", "true"], ["basket", "2", "66.7", "true"], ["order", "1", "50", "true"]):
        assert row in answer, done.stdout
    # its own targets, and none of the demonstration's
    judged = [row for row in answer if len(row) > 3 and row[3] in ("green", "red", "unknown")]
    assert [(row[0], row[3]) for row in judged] == [
        ("cash_collected", "green"), ("new_registrations", "green"), ("payment_success_rate", "red"),
    ], done.stdout  # fmt: skip
    assert "cash_collected,shop,month,>=,150,call the shop" in done.stdout
    # a second product, of another company and currency, without what its own sister buys; its target is judged
    for month, studio, xl, total in (("2025-02-01", "95", "38", "133"), ("2025-03-01", "90", "36", "126")):
        for application in ("atelier", "all"):
            rows = [["studio", month, studio], ["atelier", "xl", month, xl], [month, total]]
            assert all([application, *row] in answer for row in rows), done.stdout
    assert all([application, "133", "-7", "126", "0"] in answer for application in ("atelier", "all")), done.stdout
    # in its own money
    assert ["acorn-us", "mrr", "USD", "140", "126"] in answer, done.stdout
    assert ["mrr", "atelier", "126", "120", "green"] in answer, done.stdout


@pytest.fixture
def working_tree(built, tmp_path, monkeypatch):
    """The published home with a checkout of its own, to which the commands of developers are applied."""
    shutil.copytree(ROOT / "dbt_project", tmp_path / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copytree(ROOT / "expectations", tmp_path / "expectations")
    settings = replace(built, root=tmp_path)
    for module in (new, develop, look):
        monkeypatch.setattr(module, "load_settings", lambda _: settings)
    target = os.environ.get("DBT_TARGET_PATH")
    yield tmp_path
    if target is not None:
        os.environ["DBT_TARGET_PATH"] = target


def asked(page: str, *kinds: str) -> list[list[str]]:
    """The page's `northstar` commands of some kinds, in their order."""
    text = (ROOT / "docs" / page).read_text()
    lines = [
        *re.findall(r"^ +(northstar .*)$", text, re.MULTILINE),
        *re.findall(r"`(northstar new .* --count .*?)`", text),
    ]
    return [words[1:] for words in map(shlex.split, lines) if words[1] in kinds]


def blocks(page: str) -> list[str]:
    """What a page has people fill in."""
    return re.findall(r"^```(?:sql|yaml)\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)


def test_add_a_metric_does_what_it_says(built, working_tree, capsys):
    composed, in_sql, counted = asked("add_a_metric.md", "new")
    rows, file = blocks("add_a_metric.md"), working_tree / "dbt_project" / "metrics.yml"
    assert in_sql == ["new", "metric", "payment_retry_share", "--in", "metrics_payments"]
    for words, row in zip((composed, counted), rows, strict=True):
        assert main(words) == 0, capsys.readouterr().err
        assert main(["dev", "check"]) == 1
        assert "still to be written" in capsys.readouterr().out
        replace_entry(file, row.splitlines()[0], row)
    generated, show, test, check = asked("add_a_metric.md", "dev")[1:]
    assert main(generated) == main(test) == main(check) == 0, capsys.readouterr()
    tested = [line for line in capsys.readouterr().out.splitlines() if line.startswith("passed")]
    assert tested == ["passed  collected_share_by_hand (metrics_composed)"]
    assert main([*show, "--rows", "1"]) == 0
    # the newest month, against what is published of its parts
    published = {
        row["metric_id"]: row["numerator"]
        for row in select(built, "select metric_id, numerator from metric_values where metric_id in ('cash_collected', 'mrr') and grain = 'month' "
                          "and period_start = '2026-02-01' and application = 'all' and segment = ''")
    }  # fmt: skip
    words = capsys.readouterr().out.splitlines()[2].split()
    assert [Decimal(word) for word in words[3:5]] == [published["cash_collected"], published["mrr"]]
    assert main(["dev", "test", "large_payments"]) == 0
    assert main(["dev", "show", "large_payments", "--rows", "1"]) == 0
    shown = capsys.readouterr().out.splitlines()[-2].split()
    large = select(
        built,
        "select count(*) as n from fct_payments where status = 'succeeded' and amount_reporting >= 100 and created_at >= '2026-02-01'",
    )
    assert Decimal(shown[3]) == large[0]["n"]
    # nothing else would change, and the rows behind a new metric are all of its rows
    assert main(asked("add_a_metric.md", "preview")[0]) == 2
    told = capsys.readouterr().out
    assert told.startswith("2 metrics (")
    assert (
        "Rows behind collected_share, " in told
        and "Rows behind large_payments, " in told
        and "none to show" not in told
    )


def test_add_a_model_does_what_it_says(built, working_tree, capsys):
    (words,) = asked("add_a_model.md", "new")
    assert main(words) == 0, capsys.readouterr().err
    assert main(["dev", "check"]) == 1
    assert "failures_by_code.sql:1: still to be written" in capsys.readouterr().out
    folder = working_tree / "dbt_project" / "models" / "marts" / "payments"
    sql, described, test, checks = blocks("add_a_model.md")
    (folder / "failures_by_code.sql").write_text(sql)
    replace_entry(folder / "_payments.yml", described.splitlines()[0], described)
    replace_entry(folder / "_unit_tests.yml", test.splitlines()[0], test)
    (working_tree / "expectations" / "marts" / "failures_by_code.yml").write_text(checks)
    for command in (["check"], ["test", "failures_by_code"], ["show", "failures_by_code", "--rows", "1000"]):
        assert main(["dev", *command]) == 0, capsys.readouterr()
    rows = capsys.readouterr().out.splitlines()
    assert "passed  failures_by_code_by_hand (failures_by_code)" in rows
    shown = rows[next(n for n, row in enumerate(rows) if row.startswith("---")) + 1 :]
    failed = select(built, "select count(*) as n from fct_payments where status = 'failed'")[0]["n"]
    assert sum(int(row.split()[-1]) for row in shown) == failed > 0


def test_the_mart_of_events_that_bi_tools_may_want_works(built, working_tree, capsys):
    (words,) = asked("bi_tools.md", "new")
    assert main(words) == 0, capsys.readouterr().err
    (sql,) = re.findall(r"^```jinja\n(.*?)^```$", (ROOT / "docs" / "bi_tools.md").read_text(), re.MULTILINE | re.DOTALL)
    (working_tree / "dbt_project" / "models" / "marts" / "sessions" / "account_events.sql").write_text(sql)
    capsys.readouterr()
    assert main(["dev", "show", "account_events", "--rows", "100000"]) == 0, capsys.readouterr().err
    rows = [row.split() for row in capsys.readouterr().out.splitlines() if row.split()[-1].isdigit()]
    with db.connect(built, "transformer") as connection:
        landed = connection.execute(
            "select count(*) as n from staging.stg_events where account_id is not null"
        ).fetchone()
    assert sum(int(row[-1]) for row in rows) == landed["n"] > 0
